"""Write numbers, dates, times, money and units in Chinese text as words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from core.text.plain import roman_number, roman_signs_to_digits, to_plain
from core.text.symbols import DATA
from core.text.zh_units import (
    GREEK,
    MONEY,
    OPERATORS,
    PER,
    POWERS,
    SCALES,
    SIGNS,
    TYPED_SIGNS,
    UNITS,
)

Match = re.Match[str]

_DIGITS = "零一二三四五六七八九"
_CIRCLED = str.maketrans("①②③④⑤⑥⑦⑧⑨⑩", "一二三四五六七八九十")
_SYMBOLS = GREEK | SIGNS | {"〇": "零"}
_COUNTED = (
    "(?:[个只位条张次天年月周名家件本种间块项步层岁辆台支双对座处架枚趟幅平方堵床株批例列篇栋注亩封艘把目套段人所"
    "朵匹回场尾首阵顶棵袭挑担颗壳曲群扎捆刀打手队单出口头脚板跳枝贴针线管身堂课页户丝毫厘分钱两斤石锱寸尺丈里铺程"
    "米撮勺升斗盘碗碟叠桶笼盆盒杯钟锅篮罐瓶壶盏箩箱袋日季刻时秒旬纪世夜代辈丸泡粒幢堆根道面片元吨角点号度倍票集章节"
    "期届级星字词万亿千百站路车楼米字行列国省市县门笔股份公克毫微厘纳海英美欧港日韩立摄华小兆吉瓦伏赫多余几来呎蚊嚿])"
)
_AMOUNT_BEFORE = re.compile(
    "(?:约|共|计|达|到|过|近|于|为|超|有|足|满|剩|余|至|增|减|升|降|第|是|卖|花|价|价格|要|需|仅|付|收费|"
    "费用|赚|亏|挣|罚|值|补|退|借|还|欠|存|涨|跌|便宜|贵|成本|工资|月薪|年薪|收入|租|租金|预算|额|押金|"
    "定金|奖金|市值|销量|产量|人数|总数|数量|得分|总分|分数|积分|正负|合|等于|=|加|乘|除以)"
    "(?:是|为|：|:|了|到|至|约|仅|只要|只有)?\\s*$"
)
"""What stands before an amount, which is read as a number."""
_CODE_BEFORE = re.compile(
    "(?:码|编号|学号|工号|账号|帐号|卡号|型号|尾号|代号|单号|房号|门牌号|证号|文号|邮编|QQ|qq|微信|群|ID|id|"
    "区号|电话|热线|拨打|拨|转|分机|频道|航班|车次|房间|口令|股票|国标|标准|代码|车牌|批号|序列号)"
    "(?:号|是|为|：|:|叫|输入|填|=)*\\s*$"
)
"""What stands before a code, which is read digit by digit."""
_CODE_AFTER = re.compile(
    r"\s?(?:房间|房|室|航班|次列车|高校|工程|医院|国道|省道|高速|热线|信箱|厂|部队|教室|宿舍|寝室|型)"
)
_SCORE_BEFORE = re.compile(
    "(?:比分|赢|胜|败|负|领先|落后|比例|配比|扳成|战成|踢成|打成)[^，。；！？\\d]{0,6}$"
)
_SCORE_AFTER = re.compile(
    r"\s?(?:战胜|击败|获胜|大胜|险胜|力克|取胜|胜|负于|惜败|不敌|领先|落后|战平|横扫|逆转|"
    r"的?(?:比分|比例|模型|地图|图纸|沙盘|配比|稀释|混合|缩尺|微缩|复制|兑|比重|优势))"
)
_CONTEXT = 12
"""Characters beside a number that can tell what it is."""


@dataclass(frozen=True, slots=True)
class ReadingStyle:
    """An engine's choice where two readings are correct."""

    celsius: str = "度"
    """Degrees Celsius."""
    one_in_address: str = "一"
    """The digit 1 in an address such as 192.168.1.1."""


def expand(text: str) -> str:
    """Write numbers as words, in simplified characters, without brackets, quotes and white space.

    `2024年3月5日` is `二零二四年三月五日`, `1,500-2000ml` is `一千五百到两千毫升`.
    """
    return _DROPPED.sub("", numbers_to_words(simplify(text)))


def simplify(text: str) -> str:
    """Write traditional characters as simplified ones, and full-width letters as ASCII."""
    return text.translate(_simplification_table())


def numbers_to_words(text: str, style: ReadingStyle = ReadingStyle()) -> str:
    """Write numbers, signs and units as words; keep everything else."""
    text = to_plain(roman_signs_to_digits(text.translate(_CIRCLED)))
    for pattern, say in _rules(style):
        text = pattern.sub(say, text)
    return text


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
    named = (len(digits) == 4 and 1000 <= int(digits) < 2200) or digits[0] == "0"
    return spell_digits(digits) if named or (len(digits) == 2 and match[2]) else quantity(digits)


def _around(match: Match) -> tuple[str, str]:
    """Return the characters before and after a match."""
    text, start, end = match.string, match.start(), match.end()
    return text[max(0, start - _CONTEXT) : start], text[end : end + _CONTEXT]


def _time(match: Match) -> str:
    """Read a time of day, or a score or scale if the words around it say so."""
    before, after = _around(match)
    score = re.fullmatch(r"(\d+):(\d+)", match[0])
    if score and (_SCORE_BEFORE.search(before) or _SCORE_AFTER.match(after)):
        return f"{cardinal(score[1])}比{cardinal(score[2])}"
    parts = []
    for hour, minute, second in re.findall(r"(\d+):(\d\d)(?::(\d\d))?", match[0]):
        spoken = quantity(hour.lstrip("0") or "0") + "点"
        if minute == "30" and not int(second or 0):
            spoken += "半"
        elif int(minute) or int(second or 0):
            spoken += _sixtieth(minute) + "分"
        parts.append(spoken + (_sixtieth(second) + "秒" if int(second or 0) else ""))
    return "至".join(parts)


def _sixtieth(digits: str) -> str:
    return ("零" if digits[0] == "0" and int(digits) else "") + cardinal(digits)


def _money(match: Match) -> str:
    amount = re.sub(r"\.0+$", "", match["amount"].replace(",", ""))
    scale = match["scale"] or ""
    minus = "负" if match["minus"] else ""
    return minus + quantity(amount) + SCALES.get(scale, scale) + MONEY[match["sign"]]


def _telephone(match: Match) -> str:
    groups = re.findall(r"\d+", match[0])
    return "，".join(spell_digits(group, "幺") for group in groups)


def _signed(number: str, minus: str = "负", say: Callable[[str], str] = cardinal) -> str:
    digits = number.lstrip("-−")
    return (minus if digits != number else "") + say("0" + digits if digits[0] == "." else digits)


def _temperature(match: Match, style: ReadingStyle) -> str:
    degree = "华氏度" if match["unit"] in ("℉", "°F") else match["unit"]
    degree = style.celsius if degree in ("℃", "°C") else degree
    low = _signed(match["low"], "零下") + "到" if match["low"] else ""
    return low + _signed(match["high"], "零下") + degree


def _range(match: Match) -> str:
    low, high = match["low"], match["high"]
    after, before = match.string[match.end() :], match.string[: match.start()]
    counted = re.match(rf"\s?(?:{_COUNTED}|[a-zA-Z℃])", after) and not before.endswith("第")
    say = quantity if counted else cardinal
    return f"{_signed(low, say=say)}到{_signed(high, say=say)}"


def _percent(match: Match) -> str:
    base = "百分之" if match["sign"] == "%" else "千分之"
    first, _, second = match["amount"].partition("~")
    spoken = [_signed(end.rstrip("%‰")) for end in (first, second) if end]
    if "%" in first or "‰" in first:
        return base + f"至{base}".join(spoken)
    prefix = "负" if spoken[0].startswith("负") and len(spoken) == 1 else ""
    return prefix + base + "到".join(end.removeprefix(prefix) for end in spoken)


def _sum(match: Match) -> str:
    """Read `7-2=5` as `七减二等于五`; the rule matches only unambiguous operators."""
    spoken = ""
    for number, operator in re.findall(r"((?:(?<![\d.])-)?[\d.]+)|([^\d.\s])", match[0]):
        spoken += _signed(number) if number else OPERATORS[operator]
    return spoken


def _fraction(match: Match) -> str:
    """Read a fraction; `130/85` is a blood pressure or another pair of numbers."""
    top, bottom = match[1], match[2]
    if len(bottom) > 1 and "." not in top and (len(top), top) > (len(bottom), bottom):
        return f"{cardinal(top)}，{cardinal(bottom)}"
    return f"{cardinal(bottom)}分之{cardinal(top)}"


def _unit(match: Match) -> str:
    """Read a number with a unit, which may be a quotient: `mmol/L` is 毫摩尔每升."""
    before, _ = _around(match)
    sign = "负" if match["minus"] else ""
    unit = "公斤" if match["unit"] == "kg" and "体重" in before else UNITS[match["unit"]]
    return sign + quantity(match["number"]) + unit + _per(match["per"])


def _per(units: str) -> str:
    return "".join("每" + PER[unit] for unit in units.split("/")[1:])


def _dotted(match: Match, style: ReadingStyle) -> str:
    """Read a version, 3.11.4, or an address of the Internet, 192.168.1.1, digit by digit."""
    groups = match[0].split(".")
    is_address = len(groups) == 4 and all(len(group) <= 3 for group in groups)
    one = style.one_in_address if is_address else "一"
    return "点".join(spell_digits(group, one) for group in groups)


def _roman(match: Match) -> str:
    number = roman_number(match[0])
    return cardinal(str(number)) if 0 < number < 100 else match[0]


def _bare_number(match: Match) -> str:
    """Read a number that no other rule reads: as an amount or a code by the words around it, else
    three or more digits as a code, digit by digit."""
    digits = match[0]
    before, after = _around(match)
    is_code = len(digits) > 2 and _CODE_BEFORE.search(before)
    if is_code or (digits[0] == "0" and len(digits) > 1):
        return spell_digits(digits, "幺")
    if len(digits) < 3 or _AMOUNT_BEFORE.search(before):
        return quantity(digits) if len(digits) > 3 else cardinal(digits)
    if _CODE_AFTER.match(after):
        return spell_digits(digits, "幺")
    if re.fullmatch(r"(?:1[89]|20)\d\d", digits):
        return spell_digits(digits)
    if digits[0] != "0" and digits.endswith("00") and len(digits.rstrip("0")) < 3:
        return quantity(digits)
    return spell_digits(digits, "幺")


Rule = tuple[str, Callable[[Match], str]]


def _signs() -> list[Rule]:
    """Return the rules for signs of several characters and for Roman numerals."""
    typed = "|".join(map(re.escape, sorted(TYPED_SIGNS, key=len, reverse=True)))
    return [
        (rf"(?<![-<>=!+/])(?:{typed})(?![-<>=!+/])", lambda m: TYPED_SIGNS[m[0]]),
        (r"(?<=第)[IVXLC]+(?=[一-龥])", _roman),
        (r"(?<=[一-龥])[IVX]+(?=世)", _roman),
        (r"(?<![A-Za-z\d])[IVX]+(?=[型期级度类章])", _roman),
        (r"(?<=[一-龥])(?!XX)[IVX]{2,}(?![A-Za-z\d一-龥]|\s[A-Za-z])", _roman),
        (r"9[/·.]11(?=事件|恐|袭)", lambda m: "九一一"),
        (r"(?<![\w~～])[~～]\s?(?=\d)", lambda m: "约"),
        (r"±\s?", lambda m: "正负"),
        (r"(?<=[\w)）])\s?([<>])\s?(?=[A-Za-z0-9√-])", _comparison),
        (r"(?<=[A-Za-z0-9)）])\^\(?(-?\d+|[a-z])\)?", lambda m: _to_the_power(m[1])),
        (r"(?<![\d.])(\d{1,2})[·•](\d{1,2})(?![\d.])", lambda m: spell_digits(m[1] + m[2])),
    ]


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
            rf"(?<!\d)({century}\d\d){dash}({century}\d\d)"
            rf"(?=年|赛季|学年|财年|的|，|。|$)(?!年[^\d，。]{{0,3}}[前后])",
            lambda m: f"{spell_digits(m[1])}到{spell_digits(m[2])}",
        ),
        (
            rf"(?<![\d.])(\d{{1,2}}){dash}(\d{{1,2}})(?=月|日|号)",
            lambda m: f"{cardinal(m[1])}到{cardinal(m[2])}",
        ),
        (rf"(?<=[日号月年]){dash}(?=\d)", lambda m: "到"),
        (r"(?<=周[一二三四五六日])\s?[-~～—–]\s?(?=[周日天一二三四五六])", lambda m: "到"),
        (r"(?<=星期[一二三四五六日天])\s?[-~～—–]\s?(?=[星日天一二三四五六])", lambda m: "到"),
        (
            rf"(?<![\d/])({century}\d\d)/({month})(?![\d/])",
            lambda m: f"{spell_digits(m[1])}年{cardinal(m[2])}月",
        ),
        (
            rf"(?<![\d/.])({month})/({day})(?=\s?(?:前|日|号|之前|截止|到期|以前|起|开[始学放业售幕]|放假|出发|上[午映线]|[凌早]晨|下午|晚上|举行|发布))",
            lambda m: f"{cardinal(m[1])}月{cardinal(m[2])}日",
        ),
        (r"(?<!\d)(?:19)?([2-9]0)s(?![A-Za-z])", lambda m: cardinal(m[1]) + "年代"),
        (r"(?<!\d)([12]\d\d0)s(?![A-Za-z])", lambda m: spell_digits(m[1]) + "年代"),
        (r"(血压[^\d。！？]{0,6})(\d{2,3})/(\d{2,3})(?![\d/])", _pressure),
        (
            r"(?<![\d.])(\d{1,2})(?=年级|单元|班(?!次)|环|线城市|连|叔|哥|姐|舅|婶|楼)",
            lambda m: cardinal(m[1]),
        ),
        (r"(?<!\d)(\d[05])(?=后)", lambda m: spell_digits(m[1])),
        (
            r"(?<!\d)(\d+)\s?(?:[xX]\s?(?=\d+)|×\s?(?!\d+\s?=))(\d+)(?!\s?=)",
            lambda m: f"{cardinal(m[1])}乘{cardinal(m[2])}",
        ),
        (rf"(?<!\d)(?P<y>\d{{4}})([-/.])(?P<m>{month})\2(?P<d>{day})(?!\d)", _date),
        (r"(?<![\d.])(\d{1,4})(?=年(\d{1,2}月)?)(?!年代)", _year),
        (r"(?<!\d)([1-9]0)(?=年代)", lambda m: cardinal(m[1])),
        (r"(?<!\d)([12]\d{3})(?=年代)", lambda m: spell_digits(m[1])),
        (r"(?<!\d)(20\d\d)(?=[级届])", lambda m: spell_digits(m[1])),
        (r"(?<!\d)([1-9][1-9])(?=折)", lambda m: spell_digits(m[1])),
        (r"(?<![\d.])(\d{1,2})(?=月(?!球)|日|号)", lambda m: cardinal(m[1])),
        (rf"(?<![\d:]){clock}(?:\s*[-~～—至到]+\s*{clock})?(?![\d:])", _time),
        (r"(?<![\d:.])(\d+):(\d+)(?![\d:.])", lambda m: f"{cardinal(m[1])}比{cardinal(m[2])}"),
        (rf"(?<![\d.])(?:{telephone})(?![\d.])", _telephone),
        (
            r"(?:(?<=[转拨码])|(?<=[致来去回]电))(\d{3,})(?!\d|\s?[元块万亿千百个人])",
            lambda m: spell_digits(m[1], "幺"),
        ),
        (r"(?<!\d)\d+(?:\.\d+){2,}", lambda m: _dotted(m, style)),
    ]  # fmt: skip


def _amounts(style: ReadingStyle) -> list[Rule]:
    """Return the rules for numbers with a sign or a unit."""
    number = r"\d+(?:\.\d+)?"
    units, per = _any_of(UNITS), _any_of(PER)
    signs, codes = _any_of(MONEY), _any_of(sign for sign in MONEY if sign.isalpha())
    scale = r"(?P<scale>[万亿千百]+|(?:bn|[kKmMB])(?![A-Za-z]))?"
    dash = r"\s*(?:[~～—–]+|-)\s*"
    operand = rf"(?:{number}|\.\d+)"
    return [
        (
            rf"(?P<minus>(?<![\w.])[-−])?(?P<sign>{signs})\s?(?P<amount>\d[\d,]*(?:\.\d+)?){scale}",
            _money,
        ),
        (
            rf"(?P<minus>(?<![\w.])[-−])?(?<![\d.])(?P<amount>{number})(?P<scale>[万亿千百]+)?\s?"
            rf"(?P<sign>{codes})(?![A-Za-z])",
            _money,
        ),
        (
            rf"(?:(?P<low>(?<![A-Za-z\d])[-−]?(?<!\d){number})(?:℃|°C)?{dash})?(?P<high>(?:(?<![A-Za-z\d])[-−])?"
            rf"(?<!\d){number})\s?(?P<unit>℃|°C|℉|°F|摄氏度)",
            lambda m: _temperature(m, style),
        ),
        (
            rf"(?P<amount>(?:(?<![A-Za-z\d%])[-−])?(?<!\d){number}"
            rf"(?:(?<=\d)[%‰]?{dash}{number})?)(?P<sign>[%‰])",
            lambda m: _percent(_tilde(m)),
        ),
        (
            rf"(?<![\d.])-?{operand}(?:\s?[-+−×*÷/]\s?{operand}){{0,40}}\s?[=≈><≥≤]\s?-?{operand}"
            rf"(?:\s?[-+−×*÷/=≈]\s?{operand}){{0,40}}|(?<![\d.]){operand}(?:\s?[+×÷]\s?{operand})+",
            _sum,
        ),
        (r"(?<![\d./])(\d+(?:\.\d+)?)/(\d+)(?![\d/])", _fraction),
        (
            rf"(?<![A-Za-z\d.])(?P<low>[-−]?{number})(?:{units})?{dash}(?P<high>[-−]?{number})(?![\d.])",
            _range,
        ),
        (
            # or after `m2`, as in 5m25km
            rf"(?P<minus>(?<![A-Za-z\d])[-−])?(?:(?<!\d)|(?<=m[23]))(?P<number>{number})\s?"
            rf"(?P<unit>{units})(?P<per>(?:/(?:{per}))*)(?![A-Za-z])",
            _unit,
        ),
        (
            rf"(?<=[一二三四五六七八九十百千万亿零两几])({units})((?:/(?:{per}))*)(?![A-Za-z])",
            lambda m: UNITS[m[1]] + _per(m[2]),
        ),
        (rf"(?<=[一-龥])/({per})(?![A-Za-z])", lambda m: _per(m[0])),
    ]


def _tilde(match: Match) -> Match:
    """Replace the dash of a range by a tilde, to distinguish it from a minus sign."""
    return re.compile(r"(?P<amount>.*)(?P<sign>.)", re.S).fullmatch(  # type: ignore[return-value]
        re.sub(r"(?<=[\d%‰])\s*[-~～—–]+\s*(?=\d)", "~", match[0])
    )


def _rest() -> list[Rule]:
    number = r"\d+(?:\.\d+)?"
    return [
        (rf"(?<![A-Za-z\d.])[-−]({number}|\.\d+)", lambda m: _signed(m[0])),
        (r"(?<=第)\d+", lambda m: cardinal(m[0])),
        (r"(?<!\d)\d*\.\d+", lambda m: _signed(m[0])),
        (r"(?<!\d)(\d+)\+(?=[一-龥])", lambda m: quantity(m[1]) + "多"),
        (r"(?<![\d.])2(?=[层楼号级等两])", lambda m: "二"),
        (rf"(?<!\d)(?:[1-9]\d*|0)(?=\s?{_COUNTED})", lambda m: quantity(m[0])),
        (r"\d+", _bare_number),
        (r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹ˣʸⁿ]+", lambda m: _to_the_power("".join(POWERS[c] for c in m[0]))),
        (r"(?<=[元米克升次块人斤吨里])/(?=[一-龥])", lambda m: "每"),
        (f"[{''.join(_SYMBOLS)}]", lambda m: _SYMBOLS[m[0]]),
        (r"[+×÷=]", lambda m: OPERATORS[m[0]]),
        (r"&", lambda m: "和"),
    ]


def _pressure(match: Match) -> str:
    return f"{match[1]}{cardinal(match[2])}，{cardinal(match[3])}"


def _comparison(match: Match) -> str:
    """Read a sign of comparison, but not the brackets around a title."""
    before, after = _around(match)
    is_ascii = before[-1:].isascii() and after[:1].isascii()
    is_bracket = ">" in after if match[1] == "<" else "<" in before
    return OPERATORS[match[1]] if is_ascii or not is_bracket else match[0]


def _to_the_power(power: str) -> str:
    number = power.removeprefix("-")
    sign = "负" if power != number else ""
    return f"的{sign}{cardinal(number) if number.isdigit() else number}次方"


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


# Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every digit
# of a long number, which takes quadratic time.
@cache
def _rules(style: ReadingStyle) -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    return [
        (re.compile(pattern), say)
        for pattern, say in [*_signs(), *_codes(style), *_amounts(style), *_rest()]
    ]
