"""Write numbers, dates, times, money, units, addresses and abbreviations in English as words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache

from core.text import en_abbreviations
from core.text.en_abbreviations import DAYS, MONTHS, SHORT_MONTHS, Match, Rule
from core.text.en_cardinal import (
    bare_number,
    cardinal,
    code_number,
    integer_words,
    ordinal,
    spell_digits,
    year,
)
from core.text.en_units import (
    CURRENCY_CODES,
    GREEK,
    MONEY,
    OPERATORS,
    POWERS,
    SCALES,
    SYMBOLS,
    TYPED_SIGNS,
    UNITS,
)
from core.text.plain import roman_number, to_plain

_CALENDAR = "|".join([*MONTHS, *SHORT_MONTHS, *DAYS, *DAYS.values()])
_CONTEXT = 40
"""Characters before a number that can tell what it is."""
_ADDRESS_MARKS = {
    "@": " at ", ".": " dot ", "/": " slash ", "-": " dash ", "_": " underscore ", ":": " colon ",
    "?": " question mark ", "=": " equals ", "&": " and ", "#": " hash ", "+": " plus ",
}  # fmt: skip
_HEADINGS = (
    "Chapter|Part|Book|Volume|Act|Scene|Section|Article|Title|Appendix|Figure|Table|Type|Phase|"
    "Stage|Level|Grade|Class|Unit|Lesson|Season|Episode|War|Bowl|Mark|Schedule|Canto|Category|Step|"
    "Group|Region|Division|Tier|Round|Version|Psalm|Annex|Exhibit|Paragraph|Rule|Amendment|Factor"
)
_TITLES = "King|Queen|Pope|Emperor|Empress|Tsar|Czar|Prince|Princess|Duke|Sultan|Kaiser|Saint"
_REGNAL = (
    "Louis|Henry|George|Edward|Charles|William|James|Richard|Elizabeth|Mary|John|Pius|Benedict|"
    "Francis|Paul|Philip|Ferdinand|Napoleon|Alexander|Catherine|Peter|Nicholas|Frederick|Leo|"
    "Gregory|Innocent|Clement|Urban|Leopold|Wilhelm|Ivan|Rudolf|Otto|Gustav|Carl|Christian|"
    "Ramses|Ptolemy|Darius|Xerxes|Alfonso|Isabella|Stephen|Robert|David|Albert|Victoria"
)
_SAID = (
    r"\s(?:am|was|have|had|will|would|can|could|do|did|think|know|like|love|want|wrote|write|read|"
    r"saw|see|made|make|mean|need|met|played|watched|said|say|found|got|just|never|also|really|"
    r"always|use|used|feel|felt|went|took|bought|finished|started|enjoyed)\b"
)
"""After `I`, which is then no number: the chapter I read."""
_COUNTED_IN_MILLIONS = (
    "people|users|views|followers|subscribers|downloads|dollars|copies|units|customers|records|"
    "words|tokens|parameters|params|residents|visitors|viewers|members|years|jobs|homes|barrels|"
    "streams|listeners|players|fans|likes|euros|pounds|men|women|children"
)
_NOUN_NEXT = re.compile(r"\s(?!(?:of|in|at|or|and|to|is|was|for|from|on|with|per|by|as)\b)[a-z]")
_PERIODS = "month|year|day|week|hour|minute|second|night|person|unit|item|mo|yr|hr"
_BEFORE_YEARS = re.compile(
    r"\b(?:in|since|by|from|until|till|before|after|during|year|early|late|mid|of|to|the|"
    r"spring|summer|autumn|fall|winter|circa|around|copyright|class|season)[\s,(-]+$", re.I
)  # fmt: skip
_AFTER_AMOUNTS = re.compile(
    r"\s(?:[a-z]+\s)?(?:people|men|women|children|[a-z]{2,}(?<![sui'])s)\b"
)  # fmt: skip
_SCORED = re.compile(
    r"\b(?:score[ds]?|scoring|won|win|wins|lost|lose|beat|beats|lead|leads|led|ratio|scale|odds|"
    r"drew|defeated|victory|defeat|mix|mixed)\b[^.!?\d]{0,24}$", re.I
)  # fmt: skip
_RATED = re.compile(
    r"\b(?:scor(?:e[ds]?|ing)|rat(?:e[ds]?|ings?)|got|gets?|gave|gives?|giving|given|earn(?:s|ed)|"
    r"award(?:s|ed)|received|grades?|marks?|reviews?|solid)\b[^.!?\d/]{0,24}$", re.I
)  # fmt: skip
"""Before `8/10`, which is then a mark and no fraction."""
_SCALED = re.compile(r"\s?(?:scale|model|map|ratio|mix|odds|dilution|replica)\b", re.I)
_MODEL = (
    r"(?<![\w-])(?!(?:From|Between|About|Around|Over|Under|Roughly|Nearly|Only|Some|In|At|On|Of|"
    r"For|The|To|And|Or|Call|Dial|Phone|Fax|Page|Room|Line|Psalm)\b)"
    r"([A-Z]+[a-z]*(?<!s))\s(\d{3})-(\d{2,4})(?![\w-]|\.\d)"
)
"""A name with the number of a model, Boeing 737-800, but not Rooms 101-105."""
_SPELT = (
    r"(?<![\w.,$-])(?:911|999|112)(?=\s(?:call|operator|dispatcher|emergency)s?\b)|(?:"
    + "|".join(
        rf"(?<=\b{word}{link})"
        for word in (
            "[Zz]ip",
            "[Zz]ip code",
            "ZIP code",
            "ZIP",
            "PIN",
            "PIN code",
            "[Pp]ostcode",
            "[Pp]asscode",
        )
        for link in (" ", ": ", " is ")
    )
    + r")\d{3,10}(?![\d,.]\d|-\d)"
)
"""Numbers that are spelt digit by digit because of the word beside them."""
_HOST = r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*"
ADDRESS = (
    r"(?:https?://|www\.)[!-~]*[A-Za-z0-9/]|[A-Za-z0-9.+_-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
    rf"|(?<![A-Za-z0-9.]){_HOST}\.(?:com|org|net|io|cn|edu|gov|dev|ai|co\.uk)(?![A-Za-z0-9])"
    r"(?:/[A-Za-z0-9./_?=&#%-]*[A-Za-z0-9])?"
)
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"


def expand(text: str) -> str:
    """Rewrite `$2 at 9:30 on Mar 2` as `two dollars at nine thirty on March second`."""
    for pattern, say in _rules():
        text = pattern.sub(say, text)
    return text


def _money(match: Match) -> str:
    sign = match["sign"]
    one, many, cent, cents = MONEY[CURRENCY_CODES.get(sign, sign)]
    amount, scale = match["amount"].replace(",", ""), match["scale"]
    units, _, part = amount.partition(".")
    if scale or len(part) > 2:
        word = SCALES.get((scale or "").lower(), scale or "")
        return " ".join(filter(None, (cardinal(amount), word, many)))
    parts = []
    if units.strip("0") or not int(part or 0):
        parts.append(f"{cardinal(units)} {one if units.lstrip('0') == '1' else many}")
    if int(part or 0):
        pieces = int(part.ljust(2, "0"))
        parts.append(f"{integer_words(pieces)} {cent if pieces == 1 else cents}")
    return " and ".join(parts)


def _priced(match: Match) -> str:
    """Read the lower price of a range, $10-20, without its currency, which follows the higher."""
    return f"{cardinal(match['low'])} to {match['sign']}{match['high']}"


def _clock(match: Match) -> str:
    """Read a time as written: `a.m.` only if it is there, `p.m.` also for hours above twelve."""
    if not (match["half"] or match["s"]) and _is_ratio(match):
        return f"{cardinal(match['h'])} to {cardinal(match['m'])}"
    hour, minute = int(match["h"]), int(match["m"])
    half = re.sub(r"[^apm]", "", (match["half"] or "").lower())
    if hour > 12:
        hour, half = hour - 12, "pm"
    spoken = integer_words(hour) if hour or minute else "midnight"
    if minute:
        spoken += (" oh " if minute < 10 else " ") + integer_words(minute)
    elif not half and hour:
        spoken += " o'clock"
    if match["s"] and int(match["s"]):
        spoken += f" and {integer_words(int(match['s']))} seconds"
    ends_sentence = (match["half"] or "").endswith(".") and not match.string[match.end() :].strip()
    return spoken + (f" {half[0].upper()} M" if half else "") + ("." if ends_sentence else "")


def _is_ratio(match: Match) -> bool:
    """Return whether the words around `21:19` say that it is a score or a scale."""
    before = match.string[max(0, match.start() - _CONTEXT) : match.start()]
    return bool(_SCORED.search(before) or _SCALED.match(match.string, match.end()))


def _date(day: str, month: int, written_year: str = "") -> str:
    spoken = f"{MONTHS[month - 1]} {ordinal(day)}"
    return f"{spoken}, {year(written_year)}" if written_year else spoken


def _month(match: Match) -> int:
    return [name[:3] for name in MONTHS].index(match["month"][:3]) + 1


def _numeric_date(match: Match) -> str:
    if int(match["m"]) > 12:  # day first
        return _date(match["m"], int(match["d"]), match["y"])
    return _date(match["d"], int(match["m"]), match["y"])


def _address(match: Match) -> str:
    """Write the punctuation of a web or mail address as words."""
    bare = re.sub(r"^[a-z]+://", "", match[0]).rstrip("/")
    bare = re.sub(r"^www\b", "W W W", bare)
    bare = re.sub(r"\d+", lambda digits: f" {bare_number(digits[0])} ", bare)
    return "".join(_ADDRESS_MARKS.get(char, char) for char in bare)


def _unit(match: Match) -> str:
    one, many = UNITS[match["unit"]]
    spoken = f"{cardinal(match['amount'])} {one if _is_singular(match) else many}"
    return spoken + (f" per {UNITS[match['per']][0]}" if match["per"] else "")


def _is_singular(match: Match) -> bool:
    """Return whether the unit is singular: after one, and before a noun, as in `a 5 kg bag`."""
    text, end = match.string, match.end()
    before = text[max(0, match.start() - 4) : match.start()]
    is_noun_next = _NOUN_NEXT.match(text, end)
    describes = match["hyphen"] == "-" or re.search(r"(?:^|\W)an? $", before, re.I)
    return match["amount"] == "1" or bool(describes and is_noun_next)


def _raised(match: Match) -> str:
    """Read small raised digits as a power, but after a word as a footnote, which is not read."""
    is_footnote = re.search("[a-z]{3}$", match.string[max(0, match.start() - 3) : match.start()])
    return "" if is_footnote else _to_the_power("".join(POWERS[char] for char in match[1]))


def _power(match: Match) -> str:
    return _to_the_power(match[1].replace("−", "-"))


def _to_the_power(power: str) -> str:
    """Read `2^10` and `10⁶` as powers."""
    number = power.lstrip("-")
    if not number.isdigit():
        return f" to the {number} "
    if power in ("2", "3"):
        return " squared " if power == "2" else " cubed "
    return f" to the {'negative ' if power != number else ''}{ordinal(number)} "


def _fraction(match: Match) -> str:
    top, bottom = match[1], match[2]
    before = match.string[max(0, match.start() - _CONTEXT) : match.start()]
    if bottom in ("5", "10", "20", "100") and _RATED.search(before):
        return f"{cardinal(top)} out of {cardinal(bottom)}"
    if top == bottom:  # 50/50
        return f"{cardinal(top)} {cardinal(bottom)}"
    if bottom == "1" or len(top) > 2 or len(bottom) > 3 or int(bottom) == 0:
        return f"{cardinal(top)} over {cardinal(bottom)}"
    part = {"2": "half"}.get(bottom) or ordinal(bottom)
    if top != "1":
        part = "halves" if part == "half" else part + "s"
    return f"{cardinal(top)} {part}"


def _mixed_fraction(match: Match) -> str:
    whole, top, bottom = match.groups()
    if not 0 < len(top) <= len(bottom) < 3 or int(top) >= int(bottom):
        return match[0]
    part = {"2": "half", "4": "quarter"}.get(bottom) or ordinal(bottom)
    part = f"a {part}" if top == "1" else f"{cardinal(top)} {part}s"
    return f"{cardinal(whole)} and {part}"


def _decade(match: Match) -> str:
    return _plural(year(match[1]) if len(match[1]) == 4 else cardinal(match[1]))


def _plural(number: str) -> str:
    if number.endswith("x"):
        return number + "es"
    return number[:-1] + "ies" if number.endswith("y") else number + "s"


def _roman(match: Match) -> str:
    """Read a Roman numeral: an ordinal after the name of a ruler, otherwise a cardinal."""
    number = str(roman_number(match["roman"]))
    if number == "0":
        return match[0]
    is_ruler = "ruler" in match.re.groupindex
    return f"{match['kind']} " + (f"the {ordinal(number)}" if is_ruler else cardinal(number))


def _telephone(match: Match) -> str:
    return ", ".join(spell_digits(group) for group in re.findall(r"\d+", match[0]))


def _code(match: Match) -> str:
    """Read a code with letters and hyphens, `i7-3770`: four digits in pairs."""
    spoken = re.sub(r"\d+", lambda digits: f" {code_number(digits[0])} ", match[0])
    return spoken.replace("-", " ")


def _sum(match: Match) -> str:
    return match[1] + OPERATORS[match[2]]


def _thousands(match: Match) -> str:
    """Read `1k` as a thousand, but 4K, a resolution, as letters."""
    if match[2] == "K" and match[1] in ("2", "4", "5", "8", "10"):
        return f"{cardinal(match[1])} K"
    return f"{cardinal(match[1])} {SCALES[match[2].lower()]}"


def _number_in_context(match: Match) -> str:
    digits, text = match[0], match.string
    before = text[max(0, match.start() - _CONTEXT) : match.start()]
    if len(digits) == 4 and before[-1:].isalpha():  # BA2490
        return f" {code_number(digits)} "
    if re.fullmatch(r"[12]\d{3}", digits) and before[-1:] not in tuple("-/.,"):
        is_counted = _AFTER_AMOUNTS.match(text, match.end()) and not _BEFORE_YEARS.search(before)
        if is_counted or not 1000 < int(digits) < 2100:
            return f" {cardinal(digits)} "
    return f" {bare_number(digits)} "


def _codes() -> list[Rule]:
    """Return the rules for addresses, abbreviations, dates, times and telephone numbers."""
    months = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in MONTHS) + "|Sept"
    month, date = r"(?:1[0-2]|0?[1-9])", r"(?:[12]\d|3[01]|0?[1-9])"
    day = r"(?P<d>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"

    def named(match: Match) -> str:
        return _date(match["d"], _month(match), match["y"] or "")

    def day_first(match: Match) -> str:
        spoken = f"the {ordinal(match['d'])} of {MONTHS[_month(match) - 1]}"
        return f"{spoken}, {year(match['y'])}" if match["y"] else spoken

    return [
        (ADDRESS, _address),
        *en_abbreviations.rules(),
        (
            rf"\b({_CALENDAR})\.?\s?[-–]\s?({_CALENDAR})\b(?:\.(?=\s[a-z]))?(?!\s?\d)",
            _calendar_range,
        ),
        (r"(?<=:[0-5]\d)\s?[-–~]\s?(?=\d)", lambda m: " to "),
        (r"(?<=[ap]m)\s?[-–~]\s?(?=\d)", lambda m: " to "),
        (rf"\b(?P<month>{months})\.?\s{day}(?:,?\s(?P<y>[12]\d{{3}}))?\b(?![:.]\d)", named),
        (
            rf"\b(?:the )?{day}\s(?:of )?(?P<month>{months})\b\.?(?:,?\s(?P<y>[12]\d{{3}}))?\b",
            day_first,
        ),
        (rf"\b(?P<y>[12]\d{{3}})([-/])(?P<m>{month})\2(?P<d>{date})\b", _numeric_date),
        (r"\b(?P<y>[12]\d{3})\.(?P<m>0\d|1[0-2])\.(?P<d>[012]\d|3[01])\b", _numeric_date),
        (rf"\b(?P<m>{month})/(?P<d>{date})/(?P<y>[12]\d{{3}})\b", _numeric_date),
        (rf"\b(?P<m>{date})/(?P<d>{month})/(?P<y>[12]\d{{3}})\b", _numeric_date),
        (
            rf"(?<=\b[Oo]n )(?P<m>{month})/(?P<d>{date})(?![\d/]|\.\d)",
            lambda m: _date(m["d"], int(m["m"])),
        ),
        (
            r"\b(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?P<half>\s?[AaPp]\.?[Mm]\b\.?)?(?!\d)",
            _clock,
        ),
        (r"\b(?P<h>1[0-2]|[1-9])(?P<m>)\s?(?P<half>[ap]\.m\.|[ap]m\b|[AP]M\b)", _hour),
        (r"(?<![\w.])(?:\+\d{1,3}[- ]?)?(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-.]\d{4}\b", _telephone),
        (
            r"(?<=\b[Cc]all )\d{3}[- ]\d{4}\b|(?<=\b[Dd]ial )\d{3}[- ]\d{4}\b"
            r"|(?<=\b[Pp]hone )\d{3}[- ]\d{4}\b|(?<=\b[Ff]ax )\d{3}[- ]\d{4}\b",
            _telephone,
        ),
        (_SPELT, lambda m: spell_digits(m[0])),
        (
            r"(?<![\w-])(\d{1,3})-\1(?![\w-])",
            lambda m: f"{cardinal(m[1])} {cardinal(m[1])}",
        ),  # 50-50
        (r"(?<![\w-])\d+(?:-\d+){2,}(?![\w-])", _telephone),
        (r"(?<=\b[Cc]all )\d{3}\b|(?<=\b[Dd]ial )\d{3}\b", _telephone),
        (r"(?<![\w-])[A-Za-z]{1,8}-?\d+[A-Za-z]?(?:-[A-Za-z]{0,3}\d+)+(?![\w-])", _code),
        (r"\b\d+(?:\.\d+){2,}\b", lambda m: " point ".join(map(cardinal, m[0].split(".")))),
    ]


def _calendar_range(match: Match) -> str:
    """Read the names and the dash of two months or two days, Mon-Fri."""
    names = SHORT_MONTHS | DAYS
    return " to ".join(names.get(name, name) for name in match.groups())


def _model(match: Match) -> str:
    """Read the number of a model, Boeing 737-800: seven thirty-seven eight hundred."""
    tens = cardinal(match[2][1:]) if match[2][1] != "0" else f"oh {match[2][2]}"
    number = code_number(match[2]) if match[2][1:] == "00" else f"{cardinal(match[2][0])} {tens}"
    return f"{match[1]} {number} {code_number(match[3])}"


def _hour(match: Match) -> str:
    return f"{cardinal(match['h'])} {match['half'][0].upper()} M"


def _amounts() -> list[Rule]:
    units = _any_of(UNITS)
    signs = _any_of(MONEY)
    scales = r"thousand|million|billion|trillion|[kKmMbB](?![A-Za-z])|[bmt]n(?![A-Za-z])"
    operand = r"(?:\d+(?:\.\d+)?|[A-Za-z])"
    return [
        (r"(?<=\d)\s?[xX]\s?(?=\d[\d .xX]{0,40}=)", lambda m: " times "),
        (rf"(?<![\w.])({operand})\s+([-+−×*÷=])\s+(?={operand}\b)", _sum),
        (r"(?<=\d)\s?([-−–/])\s?(?=\d+(?:\.\d+)?\s?=)", lambda m: OPERATORS.get(m[1], " minus ")),
        (r"(?<=\w)\*\*(?=\d)", lambda m: "^"),
        (r"(?<=\d)()(\*)(?=\d)", _sum),
        (_MODEL, _model),
        (
            rf"(?<![\w.])(?P<sign>{signs})(?P<low>\d+)\s?[-–~]\s?(?P<high>\d+)(?![\d%]|[.,]\d)",
            _priced,
        ),
        (r"(?<=[\d%])\s?[-–~]\s?(?=[\d$£€])", lambda m: " to "),
        (r"(?<=[\w)])\^\(?([-−]?\d+|[a-z])\)?", _power),
        (r"(?<![\w)])[-−](?=[$£€]?\.?\d)", lambda m: "negative "),
        (r"(?<![\w~])~\s?(?=[\d$£€])", lambda m: "about "),
        (
            r"(?<=\d)(\s?(?:ft|feet)\.?\s\d{1,2}\s?)in\b(?!\s(?!tall|high|long|wide|deep|and|or)[a-z])",
            lambda m: f"{m[1]}inches",
        ),
        (r"\b(\d)'\s?(\d{1,2})(?:\"|''|\b)", lambda m: f"{m[1]} foot {m[2]}"),
        (r"(?<=\d)\s?[xX×]\s?(?=\d)(?!.*=)", lambda m: " by "),
        (rf"(?P<sign>{signs})\s?(?P<amount>{NUMBER})(?:\s?(?P<scale>{scales}))?", _money),
        (
            rf"\b(?P<sign>{_any_of(CURRENCY_CODES)})\s?(?P<amount>{NUMBER})(?:\s?(?P<scale>{scales}))?",
            _money,
        ),
        (rf"(?:(?<!\d)|(?=\d{{1,3}},))(?P<amount>{NUMBER})(?P<scale>)(?P<sign>[$£€])", _money),
        (
            rf"(?<![\w.])(?P<amount>{NUMBER})\s?(?P<scale>(?:{scales})\s)?(?P<sign>{_any_of(CURRENCY_CODES)})\b",
            _money,
        ),
        (r"(?:(?<=^)|(?<=\n))(\d{1,2})\. ", lambda m: f"{ordinal(m[1])}, "),
        (r"(\d)\s?([+×÷=])\s?(?=\d)", _sum),
        (r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1].replace(",", ""))),
        (r"(?<!\w)'?((?:1\d|20)\d0|[2-9]0)s\b", _decade),
        (rf"(?<![\w.])({NUMBER})([kKM])\b(?!['’])", _thousands),
        (rf"(?<![\w.])({NUMBER})\s?([mbB])(?=\s(?:{_COUNTED_IN_MILLIONS})\b)", _thousands),
        (
            rf"(?<![\w.])(?P<amount>{NUMBER})(?P<hyphen>[ -]?)(?P<unit>{units})"
            rf"(?:/(?P<per>{units}))?(?![A-Za-z0-9²³'])(?:\.(?=\s[a-z]))?",
            _unit,
        ),
        (r"(?<=[\w)])([⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿˣʸ]+)", _raised),
        (r"(?<![\w./])(\d+\.\d+)/(\d+)(?![\d/]|\.\d)", _out_of),
        (r"(?<![\w/.,])(\d+)\s(\d+)/(\d+)(?![\d/])", _mixed_fraction),
        (r"(?<![\d/])(\d+)/(\d+)(?![\d/])", _fraction),
        (rf"(?<=[a-z\d])/(?=(?:{_PERIODS})\b)", lambda m: " per "),
        (r"\b\d+:\d+\b", lambda m: " to ".join(map(cardinal, m[0].split(":")))),
    ]


def _out_of(match: Match) -> str:
    return f"{cardinal(match[1])} out of {cardinal(match[2])}"


def _rest() -> list[Rule]:
    roman = r"(?P<roman>[IVXLCDM]+)\b(?![’'.]\w)"
    no_pronoun = rf"(?!(?<=\sI){_SAID})(?!(?<=\sI)’?'?(?:m|ve|d|ll)\b)"
    small = "(?P<roman>[IVX]+)"
    return [
        (rf"\b(?P<kind>{_HEADINGS})\s{roman}{no_pronoun}", _roman),
        (
            rf"\b(?P<ruler>(?P<kind>(?:{_TITLES})\s[A-Z][a-z]+|{_REGNAL})\s{small}\b{no_pronoun})",
            _roman,
        ),
        (r"\b(?P<kind>[A-Z][a-z]+)\s(?P<roman>[IVX]{2,})\b", _roman),
        (r"\b([A-Z]{1,4})&([A-Z]{1,4})\b", lambda m: f"{' '.join(m[1])} and {' '.join(m[2])}"),
        (
            r"\b(?P<upper>[A-Z]{2,3})(?=\d)",  # CO2
            lambda m: " ".join(m[0]),
        ),
        (r"\b([CF])#(?!\w)", lambda m: f"{m[1]} sharp"),
        (r"(?<=[A-Z])(\d{1,3})s\b", lambda m: f" {_plural(cardinal(m[1]))} "),  # MP3s
        (r"#(?=\d)", lambda m: "number "),
        (
            r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?:(?<!\d)|(?<=,\d{3}))\d+\.\d+",
            lambda m: f" {cardinal(m[0])} ",
        ),
        (r"(?<!\d)\.(\d+)", lambda m: f" point {spell_digits(m[1])}"),
        (r"\d+", _number_in_context),
        (r"\s[-–]+\s", lambda m: ", "),
        (f"[{re.escape(''.join(_SIGNS))}]", lambda m: _SIGNS[m[0]]),
    ]


_SIGNS = SYMBOLS | GREEK


def _first_steps() -> list[Rule]:
    """Return the rules for signs that consist of several characters, and for ½, which is read
    otherwise than 1/2."""
    typed = _any_of(TYPED_SIGNS)
    return [
        (r"(?<![\d.])½(?=\sof\b)", lambda m: "half"),
        (r"(?<![\d.])½(?=\s[a-z])", lambda m: "half a"),
        (r"(?s).+", lambda m: to_plain(m[0])),
        (rf"(?<![-<>=!+/])(?:{typed})(?![-<>=!+/])", lambda m: TYPED_SIGNS[m[0]]),
    ]


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


# Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every digit
# of a long number, which takes quadratic time. Two patterns may also begin inside a number: at the
# last digits before a comma (1234,567€), and after the three digits that end a number with commas
# (1,2345.6).
@cache
def _rules() -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    rules = [*_first_steps(), *_codes(), *_amounts(), *_rest()]
    return [(re.compile(pattern), say) for pattern, say in rules]
