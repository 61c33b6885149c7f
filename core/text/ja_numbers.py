"""Write numbers, dates, times, money and units in Japanese so that OpenJTalk reads them correctly.

OpenJTalk reads plain numbers with their counters well, so they stay digits. Punctuation between
digits, signs, and units in Latin letters are written as words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from core.text.plain import roman_number, roman_signs_to_digits, to_plain

Match = re.Match[str]

_METRES = {"km": "キロメートル", "cm": "センチメートル", "mm": "ミリメートル", "m": "メートル"}
_UNITS = {
    **{unit + power: f" {shape}{name}" if shape == "平方" else shape + name
       for unit, name in _METRES.items()
       for power, shape in (("²", "平方"), ("2", "平方"), ("³", "立方"), ("3", "立方"))},
    **_METRES, "cm": "ｃｍ", "nm": "ナノメートル", "μm": "マイクロメートル", "ha": "ヘクタール",
    "kg": "キログラム", "mg": "ミリグラム", "μg": "マイクログラム", "g": "グラム", "t": "トン",
    "L": "リットル", "l": "リットル", "ml": "ミリリットル", "mL": "ミリリットル",
    "dL": "デシリットル", "dl": "デシリットル", "cc": "シーシー", "mmol": "ミリモル", "mol": "モル",
    "mmHg": "ミリ水銀柱", "Pa": "パスカル", "hPa": "ヘクトパスカル",
    "kPa": "キロパスカル", "MPa": "メガパスカル", "kcal": "キロカロリー", "cal": "カロリー",
    "kJ": "キロジュール", "dB": "デシベル", "Hz": "ヘルツ", "kHz": "キロヘルツ",
    "MHz": "メガヘルツ", "GHz": "ギガヘルツ", "W": "ワット", "kW": "キロワット", "MW": "メガワット",
    "kWh": "キロワットアワー", "Wh": "ワットアワー", "V": "ボルト", "mV": "ミリボルト",
    "kV": "キロボルト", "mA": "ミリアンペア", "mAh": "ミリアンペアアワー", "Ω": "オーム",
    "kΩ": "キロオーム", "KB": "キロバイト", "kB": "キロバイト", "MB": "メガバイト",
    "GB": "ギガバイト", "TB": "テラバイト", "Mbps": "メガビーピーエス", "Gbps": "ギガビーピーエス",
    "fps": "エフピーエス", "dpi": "ディーピーアイ", "px": "ピクセル", "rpm": "アールピーエム",
    "ppm": "ピーピーエム", "ms": "ミリ秒", "μs": "マイクロ秒", "ns": "ナノ秒", "min": "分",
    "s": "秒", "h": "時間", "℃": "度", "°C": "度", "℉": "度", "°F": "度", "°": "度",
}  # fmt: skip
_PER = {"h": "毎時", "s": "毎秒", "min": "毎分", "d": "毎日"}
_MONEY = {
    "US$": "ドル", "HK$": "香港ドル", "NT$": "台湾ドル", "A$": "オーストラリアドル",
    "AU$": "オーストラリアドル", "C$": "カナダドル", "CA$": "カナダドル", "S$": "シンガポールドル",
    "NZ$": "ニュージーランドドル", "R$": "レアル", "CN¥": "人民元", "JP¥": "円", "$": "ドル",
    "¥": "円", "€": "ユーロ", "£": "ポンド", "₩": "ウォン", "₹": "ルピー", "฿": "バーツ",
    "₽": "ルーブル", "USD": "ドル", "JPY": "円", "EUR": "ユーロ", "GBP": "ポンド", "CNY": "人民元",
    "KRW": "ウォン",
}  # fmt: skip
_DIGITS = ("ゼロ", "イチ", "ニー", "サン", "ヨン", "ゴー", "ロク", "ナナ", "ハチ", "キュー")
_OPERATORS = {
    "+": "プラス", "-": "マイナス", "−": "マイナス", "×": "かける", "*": "かける", "÷": "わる",
    "/": "わる", "=": "イコール", "≒": "ニアリーイコール", "≈": "ニアリーイコール",
    "≠": "ノットイコール", "<": "小なり", ">": "大なり", "≤": "小なりイコール",
    "≥": "大なりイコール", "≦": "小なりイコール", "≧": "大なりイコール",
}  # fmt: skip
_SIGNS = {
    "±": "プラスマイナス", "√": "ルート", "∞": "無限大", "‰": "パーミル", "%": "パーセント",
    "&": "アンド", "∴": "ゆえに", "∵": "なぜならば", "→": "、", "⇒": "、", "©": "コピーライト",
    "α": "アルファ", "β": "ベータ", "γ": "ガンマ", "δ": "デルタ", "Δ": "デルタ", "θ": "シータ",
    "λ": "ラムダ", "μ": "ミュー", "π": "パイ", "σ": "シグマ", "Σ": "シグマ", "φ": "ファイ",
    "ω": "オメガ", "Ω": "オメガ", "ε": "イプシロン",
}  # fmt: skip
_POWERS = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿˣʸ", "-0123456789nxy", strict=True))
_SCORE_AFTER = (
    "(?=で?(?:勝|敗|負|引き分|下し|破)|の(?:模型|スケール|縮尺|割合|比率|地図|図面|スコア))"
)
_DAY_AFTER = r"(?=に|まで|から|締|発売|開催|\s?[(（][月火水木金土日])"
_WIDE = str.maketrans("￥", "¥")


def expand(text: str) -> str:
    """Rewrite `8:30〜17:45、¥1,500` as `8時30分から17時45分、1500円`."""
    text = to_plain(roman_signs_to_digits(text), keep_wide=True).translate(_WIDE)
    for pattern, say in _rules():
        text = pattern.sub(say, text)
    return text


def _clock(match: Match) -> str:
    hour, minute, second = (int(part) if part else 0 for part in match.groups())
    spoken = f"{hour}時" + (f"{minute}分" if minute or second else "")
    return spoken + (f"{second}秒" if second else "")


def _telephone(match: Match) -> str:
    groups = re.findall(r"\d+", match[0])
    return "の".join("".join(_DIGITS[int(digit)] for digit in group) for group in groups)


def _money(match: Match) -> str:
    amount = re.sub(r"\.0+$", "", match["amount"])
    return amount + (match["scale"] or "") + _MONEY[match["sign"]]


def _sum(match: Match) -> str:
    return re.sub(r"\s*([-+−×*÷/=≒≈≠<>≤≥≦≧])\s*", lambda m: _OPERATORS[m[1]], match[0])


def _unit(match: Match) -> str:
    """Read a unit, which may be a quotient: `mmol/L` is ミリモル毎リットル."""
    per = (_PER.get(unit) or "毎" + _UNITS[unit].strip() for unit in match[2].split("/")[1:])
    return _UNITS[match[1]] + "".join(per)


def _power(match: Match) -> str:
    power = match[1] or "".join(_POWERS[char] for char in match[2])
    return "の" + power.replace("-", "マイナス") + "乗"


def _roman(match: Match) -> str:
    return str(roman_number(match[0]) or match[0])


@cache
def _rules() -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    number = r"\d+(?:\.\d+)?"
    dash = r"\s*[-~〜～–—]\s*"
    units = "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
    per = "|".join(map(re.escape, sorted(_UNITS | _PER, key=len, reverse=True)))
    signs = "|".join(map(re.escape, sorted(_MONEY, key=len, reverse=True)))
    codes = "|".join(sign for sign in _MONEY if sign.isalpha())
    telephone = r"(?<!\d)0\d{1,3}-\d{2,4}-\d{3,4}(?!\d)|(?<!\d)\d+(?:-\d+){2,}(?!\d)"
    # Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every
    # digit of a long number, which takes quadratic time.
    rules: dict[str, Callable[[Match], str]] = {
        r"(?<![\d,])\d{1,3}(?:,\d{3})+(?!\d)": lambda m: m[0].replace(",", ""),
        r"(?<!\d)(\d{4})([-/.])(0?[1-9]|1[0-2])\2(0?[1-9]|[12]\d|3[01])(?!\d)": lambda m: (
            f"{m[1]}年{int(m[3])}月{int(m[4])}日"
        ),
        r"(?<![\d/])((?:19|20)\d\d)/(0?[1-9]|1[0-2])(?![\d/])": lambda m: f"{m[1]}年{int(m[2])}月",
        rf"(?<![\d/])(0?[1-9]|1[0-2])/([12]\d|3[01]|0?[1-9]){_DAY_AFTER}": lambda m: (
            f"{int(m[1])}月{int(m[2])}日"
        ),
        r"(血圧[^\d。]{0,4})(\d{2,3})/(\d{2,3})(?![\d/])": lambda m: f"{m[1]}{m[2]}、{m[3]}",
        r"(?<=第)[IVXLC]+(?=[ぁ-ん一-龥])|(?<=[ァ-ヶー一-龥])[IVX]+(?=世)": _roman,
        r"(?<=〒)\s?(\d{3})-(\d{4})(?!\d)": _telephone,
        telephone: _telephone,
        rf"(?<![\d.-])(\d{{1,2}})-(\d{{1,2}}){_SCORE_AFTER}": lambda m: f"{m[1]}対{m[2]}",
        rf"(?<=\d){dash}(?=\d{{1,2}}:\d\d)": lambda m: "から",
        rf"(?<![\d:])(\d+):(\d+){_SCORE_AFTER}": lambda m: f"{m[1]}対{m[2]}",
        r"(?<=スコアは)(\d+):(\d+)(?![\d:])": lambda m: f"{m[1]}対{m[2]}",
        r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])": _clock,
        r"(?<![\d:])(\d+):(\d+)(?![\d:])": lambda m: f"{m[1]}対{m[2]}",
        rf"(?P<sign>{signs})\s?(?P<amount>{number})(?P<scale>[千万億兆]+)?": _money,
        rf"(?<![\d.])({number})\s?({codes})(?![A-Za-z])": lambda m: m[1] + _MONEY[m[2]],
        rf"(?<!\d){number}(?:\s?[-+−×*÷/]\s?{number}){{0,40}}\s?[=≒≈≠<>≤≥≦≧]\s?-?{number}": _sum,
        rf"(?<!\d){number}(?:\s?[+×÷]\s?{number})+": _sum,
        rf"(?<=[\d%年月日時分秒円度人個回℃C]){dash}(?=[-−]?[\d¥$])": lambda m: "から",
        r"(?<![\d/])(\d+)/(\d+)(?![\d/])": lambda m: f"{m[2]}ぶんの{m[1]}",
        r"(?<![A-Za-z\d.)])[-−](?=\d)": lambda m: "マイナス",
        rf"(?<=[\d万億千百数])\s?({units})((?:/(?:{per}))*)(?![A-Za-z])": _unit,
        r"(?<=[\w)])(?:\^\(?(-?\d+|[a-z])\)?|([⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿˣʸ]+))": _power,
        r"(?<=[\w)])\s?[<>≤≥≦≧≠≈≒=]\s?(?=[\w(√])": _sum,
        r"(?<!\d)\d+(?:\.\d+){2,}": lambda m: m[0].replace(".", "点"),
        r"No\.\s?(?=\d)": lambda m: "ナンバー",
        r"(?<=\d)\s?[xX×]\s?(?=\d)": lambda m: "かける",
        r"(?<=\d)\+": lambda m: "プラス",
        f"[{''.join(_SIGNS)}]": lambda m: _SIGNS[m[0]],
    }
    return [(re.compile(pattern), say) for pattern, say in rules.items()]
