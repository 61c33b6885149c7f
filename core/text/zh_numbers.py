"""Write numbers, dates, times, money and units in Chinese text as words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from core.text.digits import to_ascii_digits
from core.text.symbols import DATA

Match = re.Match[str]

_DIGITS = "零一二三四五六七八九"
_UNITS = {
    "km/h": "千米每小时", "m/s": "米每秒", "km²": "平方千米", "km2": "平方千米",
    "cm²": "平方厘米", "cm2": "平方厘米", "cm³": "立方厘米", "cm3": "立方厘米", "m²": "平方米",
    "m2": "平方米", "m³": "立方米", "m3": "立方米", "㎡": "平方米", "km": "千米", "cm": "厘米",
    "mm": "毫米", "nm": "纳米", "μm": "微米", "kg": "千克", "mg": "毫克", "ml": "毫升",
    "mL": "毫升", "dB": "分贝", "db": "分贝", "ds": "毫秒", "ms": "毫秒", "min": "分钟",
    "kHz": "千赫兹", "MHz": "兆赫兹", "GHz": "吉赫兹", "Hz": "赫兹", "kWh": "千瓦时", "kW": "千瓦",
    "mAh": "毫安时", "℉": "华氏度", "°F": "华氏度", "℃": "度", "°C": "度", "°": "度", "m": "米",
    "s": "秒", "g": "克", "t": "吨", "L": "升", "h": "小时", "V": "伏", "W": "瓦",
}  # fmt: skip
_MONEY = {
    "US$": "美元", "HK$": "港元", "NT$": "新台币", "$": "美元", "¥": "元", "￥": "元", "€": "欧元",
    "£": "英镑", "₩": "韩元", "RMB": "元", "CNY": "元", "USD": "美元",
}  # fmt: skip
_OPERATORS = {
    "+": "加", "-": "减", "−": "减", "×": "乘", "*": "乘", "÷": "除以", "/": "除以", "=": "等于",
    "≈": "约等于", ">": "大于", "<": "小于", "≥": "大于等于", "≤": "小于等于",
}  # fmt: skip
_POWERS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹ˣʸⁿ", "0123456789xyn", strict=True))
_GREEK = {
    "α": "阿尔法", "β": "贝塔", "γ": "伽玛", "Γ": "伽玛", "δ": "德尔塔", "Δ": "德尔塔",
    "ε": "艾普西龙", "ζ": "捷塔", "η": "依塔", "θ": "西塔", "Θ": "西塔", "ι": "艾欧塔",
    "κ": "喀帕", "λ": "拉姆达", "Λ": "拉姆达", "μ": "缪", "ν": "拗", "ξ": "克西", "Ξ": "克西",
    "ο": "欧米克伦", "π": "派", "Π": "派", "ρ": "肉", "ς": "西格玛", "σ": "西格玛", "Σ": "西格玛",
    "τ": "套", "υ": "宇普西龙", "φ": "服艾", "Φ": "服艾", "χ": "器", "ψ": "普赛", "Ψ": "普赛",
    "ω": "欧米伽", "Ω": "欧米伽",
}  # fmt: skip
_SYMBOLS = dict(zip("①②③④⑤⑥⑦⑧⑨⑩〇", "一二三四五六七八九十零", strict=True)) | _GREEK
_COUNTED = (
    "(?:[个只位条张次天年月周名家件本种间块项步层岁辆台支双对座处架枚趟幅平方堵床株批例列篇栋注亩封艘把目套段人所"
    "朵匹回场尾首阵顶棵袭挑担颗壳曲群扎捆刀打手队单出口头脚板跳枝贴针线管身堂课页户丝毫厘分钱两斤石锱寸尺丈里铺程"
    "米撮勺升斗盘碗碟叠桶笼盆盒杯钟锅篮罐瓶壶盏箩箱袋日季刻时秒旬纪世夜代辈丸泡粒幢堆根道面片元吨角点号度倍票集章节"
    "期届级星字词万亿千百站路车楼米字行列国省市县门笔股份公克毫微厘纳海英美欧港日韩立摄华小兆吉瓦伏赫多余几来])"
)
_CARDINAL_BEFORE = "(?:约|共|计|达|到|过|近|于|为|超|有|足|满|剩|余|至|增|减|升|降|第|是|卖|花)"


@dataclass(frozen=True, slots=True)
class ReadingStyle:
    """An engine's choice where two readings are correct."""

    half_past: str = "半"
    """The word after the hour at half past."""
    range_word: str = "到"
    """The word between the ends of a range."""
    celsius: str = "度"
    bare_number: Callable[[Match], str] | None = None
    """Reads a number without context; if None, three or more digits are read as a code."""


def expand(text: str) -> str:
    """Write numbers as words, in simplified characters, without brackets, quotes and white space.

    `2024年3月5日` is `二零二四年三月五日`, `1,500-2000ml` is `一千五百到两千毫升`.
    """
    return _DROPPED.sub("", numbers_to_words(text.translate(_simplification_table())))


def numbers_to_words(text: str, style: ReadingStyle = ReadingStyle()) -> str:
    """Write numbers, signs and units as words; keep everything else."""
    text = to_ascii_digits(text).translate(_TO_ASCII)
    for pattern, say in _rules(style):
        text = pattern.sub(say, text)
    return text


_TO_ASCII = str.maketrans("％－＋＝", "%-+=")
_DROPPED = re.compile(r"[-\s——《》【】<>{}()（）#@“”_|\\]")


@cache
def _simplification_table() -> dict[int, str]:
    """Return a table to simplified characters, and to ASCII from full-width letters and spaces."""
    stored = json.loads((DATA / "zh.json").read_text("utf-8"))
    table = dict(zip(stored["traditional"], stored["simplified"], strict=True))
    wide = [*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]
    return str.maketrans(table | {chr(code): chr(code - 0xFEE0) for code in wide} | {"　": " "})


def cardinal(digits: str) -> str:
    """Return a number of any length as words: `10500.50` is `一万零五百点五零`."""
    whole, _, fraction = digits.partition(".")
    spoken = _whole(whole.lstrip("0")) or "零"
    if spoken.startswith("一十"):
        spoken = spoken[1:]
    return f"{spoken}点{spell_digits(fraction)}" if fraction else spoken


def quantity(digits: str) -> str:
    """Return a number of things as words: `2` is `两`, `2000` is `两千`, `12` is `十二`."""
    spoken = cardinal(digits)
    return re.sub(r"^二(?=$|[千万亿])", "两", spoken)


def spell_digits(digits: str, one: str = "一") -> str:
    """Read a number digit by digit."""
    return "".join(_DIGITS[int(digit)] for digit in digits).replace("一", one)


def _whole(digits: str) -> str:
    for size, unit in ((8, "亿"), (4, "万"), (3, "千"), (2, "百"), (1, "十")):
        if len(digits) > size:
            head, tail = digits[:-size], digits[-size:]
            rest = tail.lstrip("0")
            gap = "零" if rest and len(rest) < len(tail) else ""
            return _whole(head) + unit + gap + _whole(rest)
    return _DIGITS[int(digits)] if digits else ""


def _date(match: Match) -> str:
    year, month, day = match["y"], match["m"], match["d"]
    return f"{spell_digits(year)}年{cardinal(month)}月{cardinal(day)}日"


def _year(match: Match) -> str:
    """Read four digits as a year, two as a year only before a month, otherwise as an amount."""
    digits = match[1]
    named = len(digits) == 4 and 1000 <= int(digits) < 2200
    return spell_digits(digits) if named or (len(digits) == 2 and match[2]) else quantity(digits)


def _time(match: Match, style: ReadingStyle) -> str:
    parts = []
    for hour, minute, second in re.findall(r"(\d+):(\d\d)(?::(\d\d))?", match[0]):
        spoken = quantity(hour.lstrip("0") or "0") + "点"
        if minute == "30" and not int(second or 0):
            spoken += style.half_past
        elif int(minute) or int(second or 0):
            spoken += _sixtieth(minute) + "分"
        parts.append(spoken + (_sixtieth(second) + "秒" if int(second or 0) else ""))
    return "至".join(parts)


def _sixtieth(digits: str) -> str:
    return ("零" if digits[0] == "0" and int(digits) else "") + cardinal(digits)


def _money(match: Match) -> str:
    amount = re.sub(r"\.0+$", "", match["amount"].replace(",", ""))
    return quantity(amount) + (match["scale"] or "") + _MONEY[match["sign"]]


def _telephone(match: Match) -> str:
    groups = re.findall(r"\d+", match[0])
    return "，".join(spell_digits(group, "幺") for group in groups)


def _signed(number: str, minus: str = "负", say: Callable[[str], str] = cardinal) -> str:
    digits = number.lstrip("-−")
    return (minus if digits != number else "") + say("0" + digits if digits[0] == "." else digits)


def _temperature(match: Match, style: ReadingStyle) -> str:
    degree = "华氏度" if match["unit"] in ("℉", "°F") else match["unit"]
    degree = style.celsius if degree in ("℃", "°C") else degree
    low = _signed(match["low"], "零下") + style.range_word if match["low"] else ""
    return low + _signed(match["high"], "零下") + degree


def _range(match: Match, style: ReadingStyle) -> str:
    low, high = match["low"], match["high"]
    after, before = match.string[match.end() :], match.string[: match.start()]
    counted = re.match(rf"\s?(?:{_COUNTED}|[a-zA-Z℃])", after) and not before.endswith("第")
    say = quantity if counted else cardinal
    return f"{_signed(low, say=say)}{style.range_word}{_signed(high, say=say)}"


def _percent(match: Match, style: ReadingStyle) -> str:
    base = "百分之" if match["sign"] == "%" else "千分之"
    first, _, second = match["amount"].partition("~")
    spoken = [_signed(end.rstrip("%‰")) for end in (first, second) if end]
    if "%" in first or "‰" in first:
        return base + f"至{base}".join(spoken)
    prefix = "负" if spoken[0].startswith("负") and len(spoken) == 1 else ""
    return prefix + base + style.range_word.join(end.removeprefix(prefix) for end in spoken)


def _sum(match: Match) -> str:
    """Read `7-2=5` as `七减二等于五`; the rule matches only unambiguous operators."""
    spoken = ""
    for number, operator in re.findall(r"((?:(?<![\d.])-)?[\d.]+)|([^\d.\s])", match[0]):
        spoken += _signed(number) if number else _OPERATORS[operator]
    return spoken


def _bare_number(match: Match) -> str:
    """Read a number without context: a code digit by digit (three or more), else an amount."""
    digits = match[0]
    before = match.string[: match.start()]
    if len(digits) < 3 or re.search(_CARDINAL_BEFORE + r"\s*$", before):
        return quantity(digits) if len(digits) > 3 else cardinal(digits)
    if re.fullmatch(r"(?:1[89]|20)\d\d", digits):
        return spell_digits(digits)
    if digits[0] != "0" and digits.endswith("00") and len(digits.rstrip("0")) < 3:
        return quantity(digits)
    return spell_digits(digits, "幺")


Rule = tuple[str, Callable[[Match], str]]


def _codes(style: ReadingStyle) -> list[Rule]:
    """Return the rules for dates, times and telephone numbers, whose `-` is not a minus."""
    century, dash = r"(?:1[89]|20)", r"\s*[-~～—–]+\s*"
    month, day = r"0?[1-9]|1[0-2]", r"0?[1-9]|[12]\d|3[01]"
    clock = r"(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?"
    telephone = (
        r"(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}|0\d{2,3}-[1-9]\d{6,7}(?:-\d{1,4})?"
        r"|[48]00-?\d{3}-?\d{4}|(?:\d+-){2,}\d+"
    )
    return [
        (r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d)", lambda m: m[0].replace(",", "")),
        (
            rf"(?<!\d)({century}\d\d){dash}({century}\d\d)(?=年|赛季|学年|财年)",
            lambda m: f"{spell_digits(m[1])}{style.range_word}{spell_digits(m[2])}",
        ),
        (
            rf"(?<![\d.])(\d{{1,2}}){dash}(\d{{1,2}})(?=月|日|号)",
            lambda m: f"{cardinal(m[1])}{style.range_word}{cardinal(m[2])}",
        ),
        (rf"(?<=[日号月年]){dash}(?=\d)", lambda m: style.range_word),
        (r"(?<!\d)(\d[05])(?=后)", lambda m: spell_digits(m[1])),
        (
            r"(?<!\d)(\d+)\s?[xX×]\s?(\d+)(?!\s?=)",
            lambda m: f"{cardinal(m[1])}乘{cardinal(m[2])}",
        ),
        (rf"(?<!\d)(?P<y>\d{{4}})([-/.])(?P<m>{month})\2(?P<d>{day})(?!\d)", _date),
        (r"(?<![\d.])(\d{1,4})(?=年(\d{1,2}月)?)(?!年代)", _year),
        (r"(?<!\d)([1-9]0)(?=年代)", lambda m: cardinal(m[1])),
        (r"(?<!\d)([12]\d{3})(?=年代)", lambda m: spell_digits(m[1])),
        (r"(?<![\d.])(\d{1,2})(?=月(?!球)|日|号)", lambda m: cardinal(m[1])),
        (rf"(?<![\d:]){clock}(?:\s*[-~～—至到]+\s*{clock})?(?![\d:])", lambda m: _time(m, style)),
        (r"(?<![\d:.])(\d+):(\d+)(?![\d:.])", lambda m: f"{cardinal(m[1])}比{cardinal(m[2])}"),
        (rf"(?<![\d.])(?:{telephone})(?![\d.])", _telephone),
        (r"(?<=[转电拨码])(\d{3,})", lambda m: spell_digits(m[1], "幺")),
        (r"(?<!\d)\d+(?:\.\d+){2,}", lambda m: "点".join(map(spell_digits, m[0].split(".")))),
    ]  # fmt: skip


def _amounts(style: ReadingStyle) -> list[Rule]:
    """Return the rules for numbers with a sign or a unit."""
    number = r"\d+(?:\.\d+)?"
    units = "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
    signs = "|".join(map(re.escape, _MONEY))
    dash = r"\s*[-~～—–]+\s*"
    operand = rf"(?:{number}|\.\d+)"
    return [
        (rf"(?P<sign>{signs})\s?(?P<amount>\d[\d,]*(?:\.\d+)?)(?P<scale>[万亿千百]+)?", _money),
        (
            rf"(?:(?P<low>(?<![A-Za-z\d])[-−]?{number})(?:℃|°C)?{dash})?(?P<high>(?:(?<![A-Za-z\d])[-−])?"
            rf"(?<!\d){number})(?P<unit>℃|°C|℉|°F|摄氏度)",
            lambda m: _temperature(m, style),
        ),
        (
            rf"(?P<amount>(?:(?<![A-Za-z\d%])[-−])?(?<!\d){number}"
            rf"(?:(?<=\d)[%‰]?{dash}{number})?)(?P<sign>[%‰])",
            lambda m: _percent(_tilde(m), style),
        ),
        (
            rf"(?<![\d.])-?{operand}(?:\s?[-+−×*÷/]\s?{operand})*\s?[=≈><≥≤]\s?-?{operand}"
            rf"(?:\s?[-+−×*÷/=≈]\s?{operand})*|(?<![\d.]){operand}(?:\s?[+×÷]\s?{operand})+",
            _sum,
        ),
        (r"(?<![\d.])(\d+)/(\d+)(?![\d/])", lambda m: f"{cardinal(m[2])}分之{cardinal(m[1])}"),
        (
            rf"(?<![A-Za-z\d.])(?P<low>[-−]?{number})(?:{units})?{dash}(?P<high>{number})(?![\d.])",
            lambda m: _range(m, style),
        ),
        (
            # or after `m2`, as in 5m25km
            rf"(?:(?<!\d)|(?<=m[23]))(?P<number>{number})\s?(?P<unit>{units})(?![A-Za-z])",
            lambda m: quantity(m["number"]) + _UNITS[m["unit"]],
        ),
        (rf"(?<=[一二三四五六七八九十百千万亿零两])({units})(?![A-Za-z])", lambda m: _UNITS[m[1]]),
    ]


def _tilde(match: Match) -> Match:
    """Replace the dash of a range by a tilde, to distinguish it from a minus sign."""
    return re.compile(r"(?P<amount>.*)(?P<sign>.)", re.S).fullmatch(  # type: ignore[return-value]
        re.sub(r"(?<=[\d%‰])\s*[-~～—–]+\s*(?=\d)", "~", match[0])
    )


def _rest(style: ReadingStyle) -> list[Rule]:
    number = r"\d+(?:\.\d+)?"
    return [
        (rf"(?<![A-Za-z\d.])[-−]({number}|\.\d+)", lambda m: _signed(m[0])),
        (r"(?<=第)\d+", lambda m: cardinal(m[0])),
        (r"(?<!\d)\d*\.\d+", lambda m: _signed(m[0])),
        (r"(?<!\d)(\d+)\+(?=[一-龥])", lambda m: quantity(m[1]) + "多"),
        (r"(?<![\d.])2(?=[层楼号级等两])", lambda m: "二"),
        (rf"(?<!\d)(?:[1-9]\d*|0)(?=\s?{_COUNTED})", lambda m: quantity(m[0])),
        (r"\d+", style.bare_number or _bare_number),
        (r"[⁰¹²³⁴⁵⁶⁷⁸⁹ˣʸⁿ]+", _power),
        (r"(?<=[元米克升次块人斤吨里])/(?=[一-龥])", lambda m: "每"),
        (r"[①-⑩〇Α-ω]", lambda m: _SYMBOLS.get(m[0], m[0])),
        (r"[+×÷=]", lambda m: _OPERATORS[m[0]]),
        (r"&", lambda m: "和"),
    ]


def _power(match: Match) -> str:
    power = "".join(_POWERS[char] for char in match[0])
    return f"的{cardinal(power) if power.isdigit() else power}次方"


# Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every digit
# of a long number, which takes quadratic time.
@cache
def _rules(style: ReadingStyle) -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    return [
        (re.compile(pattern), say)
        for pattern, say in [*_codes(style), *_amounts(style), *_rest(style)]
    ]
