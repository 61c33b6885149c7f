"""Write numbers, dates, times, money and units in Japanese so that OpenJTalk reads them correctly.

OpenJTalk reads plain numbers with their counters well, so they stay digits. Punctuation between
digits, signs, and units in Latin letters are written as words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from core.text.digits import to_ascii_digits

Match = re.Match[str]

_UNITS = {
    "km²": " 平方キロメートル", "m²": " 平方メートル", "㎡": " 平方メートル",
    "cm²": " 平方センチメートル", "m³": "立方メートル", "ms": "ミリ秒",
    "℃": "度", "°C": "度", "℉": "度", "°F": "度", "°": "度", "m": "メートル", "L": "リットル",
    "㍑": "リットル", "㎝": "cm", "㎜": "mm", "㎞": "km", "㎏": "kg", "㎎": "mg",
}  # fmt: skip
"""Units that OpenJTalk does not know; it knows cm, kg, km/h, GHz and similar ones."""
_MONEY = {"US$": "ドル", "$": "ドル", "¥": "円", "€": "ユーロ", "£": "ポンド", "₩": "ウォン"}
_DIGITS = ("ゼロ", "イチ", "ニー", "サン", "ヨン", "ゴー", "ロク", "ナナ", "ハチ", "キュー")
_OPERATORS = {
    "+": "プラス", "-": "マイナス", "−": "マイナス", "×": "かける", "*": "かける", "÷": "わる",
    "=": "イコール", "≒": "ニアリーイコール",
}  # fmt: skip
_WIDE = {code: code - 0xFEE0 for code in range(0xFF21, 0xFF5B)} | {
    ord("％"): "%", ord("＋"): "+", ord("－"): "-", ord("＝"): "=", ord("￥"): "¥", ord("＄"): "$",
}  # fmt: skip


def expand(text: str) -> str:
    """Rewrite `8:30〜17:45、¥1,500` as `8時30分から17時45分、1500円`."""
    text = to_ascii_digits(text).translate(_WIDE)
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
    return re.sub(r"\s*([-+−×*÷=≒])\s*", lambda m: _OPERATORS[m[1]], match[0])


@cache
def _rules() -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    number = r"\d+(?:\.\d+)?"
    dash = r"\s*[-~〜～–—]\s*"
    units = "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
    signs = "|".join(map(re.escape, _MONEY))
    telephone = r"(?<!\d)0\d{1,3}-\d{2,4}-\d{3,4}(?!\d)|(?<!\d)\d+(?:-\d+){2,}(?!\d)"
    # Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every
    # digit of a long number, which takes quadratic time.
    rules: dict[str, Callable[[Match], str]] = {
        r"(?<![\d,])\d{1,3}(?:,\d{3})+(?!\d)": lambda m: m[0].replace(",", ""),
        r"(?<!\d)(\d{4})([-/.])(0?[1-9]|1[0-2])\2(0?[1-9]|[12]\d|3[01])(?!\d)": lambda m: (
            f"{m[1]}年{int(m[3])}月{int(m[4])}日"
        ),
        telephone: _telephone,
        rf"(?<=\d){dash}(?=\d{{1,2}}:\d\d)": lambda m: "から",
        r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])": _clock,
        r"(?<![\d:])(\d+):(\d+)(?![\d:])": lambda m: f"{m[1]}対{m[2]}",
        rf"(?P<sign>{signs})\s?(?P<amount>{number})(?P<scale>[千万億兆]+)?": _money,
        rf"(?<!\d){number}(?:\s?[-+−×*÷]\s?{number})*\s?[=≒]\s?-?{number}": _sum,
        rf"(?<!\d){number}(?:\s?[+×÷]\s?{number})+": _sum,
        rf"(?<=[\d%年月日時分秒円度人個回]){dash}(?=[\d¥$])": lambda m: "から",
        r"(?<![\d/])(\d+)/(\d+)(?![\d/])": lambda m: f"{m[2]}ぶんの{m[1]}",
        r"(?<![A-Za-z\d.)])[-−](?=\d)": lambda m: "マイナス",
        rf"(?<=\d)\s?({units})(?![A-Za-z])": lambda m: _UNITS[m[1]],
        r"%": lambda m: "パーセント",
        r"(?<!\d)\d+(?:\.\d+){2,}": lambda m: m[0].replace(".", "点"),
        r"No\.\s?(?=\d)": lambda m: "ナンバー",
        r"(?<=\d)\s?[xX×]\s?(?=\d)": lambda m: "かける",
        r"(?<=\d)\+": lambda m: "プラス",
        r"&": lambda m: "アンド",
    }
    return [(re.compile(pattern), say) for pattern, say in rules.items()]
