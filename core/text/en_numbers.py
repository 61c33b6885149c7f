"""Write numbers, dates, times, money, units, addresses and abbreviations in English as words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from core.text.digits import to_ascii_digits
from core.text.en_cardinal import bare_number, cardinal, integer_words, ordinal, spell_digits, year

Match = re.Match[str]

_MONTHS = (  # noqa: SIM905
    "January February March April May June July August September October November December"
).split()
_UNITS = {
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "m/s": ("meter per second", "meters per second"), "kWh": ("kilowatt hour", "kilowatt hours"),
    "m²": ("square meter", "square meters"), "km²": ("square kilometer", "square kilometers"),
    "m³": ("cubic meter", "cubic meters"), "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"), "mm": ("millimeter", "millimeters"),
    "kg": ("kilogram", "kilograms"), "mg": ("milligram", "milligrams"), "g": ("gram", "grams"),
    "ml": ("milliliter", "milliliters"), "mL": ("milliliter", "milliliters"),
    "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "Hz": ("hertz", "hertz"), "GB": ("gigabyte", "gigabytes"),
    "MB": ("megabyte", "megabytes"), "KB": ("kilobyte", "kilobytes"),
    "TB": ("terabyte", "terabytes"),
    "Mbps": ("megabit per second", "megabits per second"), "kW": ("kilowatt", "kilowatts"),
    "ms": ("millisecond", "milliseconds"), "min": ("minute", "minutes"), "hrs": ("hour", "hours"),
    "hr": ("hour", "hours"), "°C": ("degree celsius", "degrees celsius"),
    "℃": ("degree celsius", "degrees celsius"), "°F": ("degree fahrenheit", "degrees fahrenheit"),
    "℉": ("degree fahrenheit", "degrees fahrenheit"), "°": ("degree", "degrees"),
    "ft": ("foot", "feet"), "lbs": ("pound", "pounds"), "lb": ("pound", "pounds"),
    "oz": ("ounce", "ounces"), "tbsp": ("tablespoon", "tablespoons"), "mi": ("mile", "miles"),
    "tsp": ("teaspoon", "teaspoons"), "m": ("meter", "meters"), "L": ("liter", "liters"),
    "h": ("hour", "hours"), "s": ("second", "seconds"), "dB": ("decibel", "decibels"),
    "W": ("watt", "watts"), "V": ("volt", "volts"),
}  # fmt: skip
_MONEY = {
    "US$": ("dollar", "dollars", "cent", "cents"), "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"), "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"), "￥": ("yuan", "yuan", "fen", "fen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}  # fmt: skip
_ABBREVIATIONS = {
    "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Dr.": "Doctor", "Prof.": "Professor",
    "Jr.": "Junior", "Sr.": "Senior", "St.": "Saint", "vs.": "versus", "approx.": "approximately",
    "dept.": "department", "e.g.": "for example", "i.e.": "that is", "w/": "with", "Ave.": "Avenue",
    "24/7": "twenty-four seven",
}  # fmt: skip
_ADDRESS_MARKS = {
    "@": " at ", ".": " dot ", "/": " slash ", "-": " dash ", "_": " underscore ", ":": " colon ",
    "?": " question mark ", "=": " equals ", "&": " and ", "#": " hash ", "+": " plus ",
}  # fmt: skip
_OPERATORS = {
    "+": " plus ", "-": " minus ", "−": " minus ", "×": " times ", "*": " times ",
    "÷": " divided by ", "/": " divided by ", "=": " Equals ",
}  # fmt: skip
_SYMBOLS = {"%": " percent", "&": " and ", "+": " plus ", "=": " equals ", "@": " at ", "#": " "}
_ROMANS = {
    "II": 2, "III": 3, "IV": 4, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "XI": 11, "XII": 12,
    "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20,
}  # fmt: skip
_REGNAL = frozenset(
    "Louis Henry George Edward Charles William James Richard Elizabeth Mary John Pius Benedict "  # noqa: SIM905
    "Francis Paul Philip Ferdinand Napoleon Alexander Catherine Peter Nicholas Frederick".split()
)
_HOST = r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*"
ADDRESS = (
    r"(?:https?://|www\.)[!-~]*[A-Za-z0-9/]|[A-Za-z0-9.+_-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
    rf"|(?<![A-Za-z0-9.]){_HOST}\.(?:com|org|net|io|cn|edu|gov|dev|ai|co\.uk)(?![A-Za-z0-9])"
    r"(?:/[A-Za-z0-9./_-]*[A-Za-z0-9])?"
)
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"


def expand(text: str) -> str:
    """Rewrite `$2 at 9:30 on Mar 2` as `two dollars at nine thirty on March second`."""
    text = to_ascii_digits(text)
    for pattern, say in _rules():
        text = pattern.sub(say, text)
    return text


def _money(match: Match) -> str:
    one, many, cent, cents = _MONEY[match["sign"]]
    amount, scale = match["amount"].replace(",", ""), match["scale"]
    units, _, part = amount.partition(".")
    if scale or len(part) > 2:
        large = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion"}
        word = large.get((scale or "").lower(), scale or "")
        return f"{cardinal(amount)} {word} {many}"
    parts = []
    if units.strip("0") or not int(part or 0):
        parts.append(f"{cardinal(units)} {one if units.lstrip('0') == '1' else many}")
    if int(part or 0):
        pieces = int(part.ljust(2, "0"))
        parts.append(f"{integer_words(pieces)} {cent if pieces == 1 else cents}")
    return " and ".join(parts)


def _clock(match: Match) -> str:
    """Read a time as written: `a.m.` only if it is there, `p.m.` also for hours above twelve."""
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


def _date(day: str, month: int, written_year: str = "") -> str:
    spoken = f"{_MONTHS[month - 1]} {ordinal(day)}"
    return f"{spoken}, {year(written_year)}" if written_year else spoken


def _month(match: Match) -> int:
    return [name[:3] for name in _MONTHS].index(match["month"][:3]) + 1


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
    one, many = _UNITS[match["unit"]]
    return f"{cardinal(match['amount'])} {one if match['amount'] == '1' else many}"


def _fraction(match: Match) -> str:
    top, bottom = match[1], match[2]
    if top == bottom:  # 50/50
        return f"{cardinal(top)} {cardinal(bottom)}"
    if bottom == "1" or len(top) > 2 or len(bottom) > 3 or int(bottom) == 0:
        return f"{cardinal(top)} over {cardinal(bottom)}"
    part = {"2": "half"}.get(bottom) or ordinal(bottom)
    if top != "1":
        part = "halves" if part == "half" else part + "s"
    return f"{cardinal(top)} {part}"


def _decade(match: Match) -> str:
    spoken = year(match[1]) if len(match[1]) == 4 else cardinal(match[1])
    return spoken[:-1] + "ies" if spoken.endswith("y") else spoken + "s"


def _roman(match: Match) -> str:
    number = str(_ROMANS[match[2]])
    return f"{match[1]} " + (f"the {ordinal(number)}" if match[1] in _REGNAL else cardinal(number))


def _telephone(match: Match) -> str:
    return ", ".join(spell_digits(group) for group in re.findall(r"\d+", match[0]))


def _sum(match: Match) -> str:
    return match[1] + _OPERATORS[match[2]]


Rule = tuple[str, Callable[[Match], str]]


def _codes() -> list[Rule]:
    """Return the rules for addresses, abbreviations, dates, times and telephone numbers."""
    months = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS) + "|Sept"
    short = "|".join(map(re.escape, _ABBREVIATIONS))
    month, date = r"(?:1[0-2]|0?[1-9])", r"(?:[12]\d|3[01]|0?[1-9])"
    day = r"(?P<d>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"

    def named(match: Match) -> str:
        return _date(match["d"], _month(match), match["y"] or "")

    def day_first(match: Match) -> str:
        spoken = f"the {ordinal(match['d'])} of {_MONTHS[_month(match) - 1]}"
        return f"{spoken}, {year(match['y'])}" if match["y"] else spoken

    return [
        (ADDRESS, _address),
        (rf"(?<![\w/.])({short})(?![\w])", lambda m: _ABBREVIATIONS[m[1]]),
        (r"\bNo\.\s?(?=\d)", lambda m: "number "),
        (r"(?<=:[0-5]\d)\s?[-–~]\s?(?=\d)", lambda m: " to "),
        (r"(?<=[ap]m)\s?[-–~]\s?(?=\d)", lambda m: " to "),
        (rf"\b(?P<month>{months})\.?\s{day}(?:,?\s(?P<y>[12]\d{{3}}))?\b(?![:.]\d)", named),
        (
            rf"\b(?:the )?{day}\s(?:of )?(?P<month>{months})\b\.?(?:,?\s(?P<y>[12]\d{{3}}))?\b",
            day_first,
        ),
        (rf"\b(?P<y>[12]\d{{3}})-(?P<m>{month})-(?P<d>{date})\b", _numeric_date),
        (rf"\b(?P<m>{month})/(?P<d>{date})/(?P<y>[12]\d{{3}})\b", _numeric_date),
        (rf"\b(?P<m>{date})/(?P<d>{month})/(?P<y>[12]\d{{3}})\b", _numeric_date),
        (
            r"\b(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?P<half>\s?[AaPp]\.?[Mm]\b\.?)?(?!\d)",
            _clock,
        ),
        (r"\b(?P<h>1[0-2]|[1-9])(?P<m>)\s?(?P<half>[ap]\.m\.|[ap]m\b)", _hour),
        (r"(?<![\w.])(?:\+\d{1,3}[- ]?)?(?:\(\d{3}\)\s?|\d{3}[-.])\d{3}[-.]\d{4}\b", _telephone),
        (r"(?<![\w-])\d+(?:-\d+){2,}(?![\w-])", _telephone),
        (r"(?<=\b[Cc]all )\d{3}\b|(?<=\b[Dd]ial )\d{3}\b", _telephone),
        (r"\b\d+(?:\.\d+){2,}\b", lambda m: " point ".join(map(cardinal, m[0].split(".")))),
    ]


def _hour(match: Match) -> str:
    return f"{cardinal(match['h'])} {match['half'][0].upper()} M"


def _amounts() -> list[Rule]:
    units = "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
    signs = "|".join(map(re.escape, _MONEY))
    scales = r"thousand|million|billion|trillion|[kKmMbB](?![A-Za-z])|bn(?![A-Za-z])"
    operand = r"(?:\d+(?:\.\d+)?|[A-Za-z])"
    return [
        (rf"(?<![\w.])({operand})\s+([-+−×*÷=])\s+(?={operand}\b)", _sum),
        (r"(?<=[\d%])\s?[-–~]\s?(?=[\d$£€])", lambda m: " to "),
        (r"(?<![\w)])[-−](?=[$£€]?\.?\d)", lambda m: "negative "),
        (r"\b(\d)'\s?(\d{1,2})(?:\"|''|\b)", lambda m: f"{m[1]} foot {m[2]}"),
        (r"(?<=\d)\s?[xX×]\s?(?=\d)(?!.*=)", lambda m: " by "),
        (rf"(?P<sign>{signs})\s?(?P<amount>{NUMBER})(?:\s?(?P<scale>{scales}))?", _money),
        (rf"(?:(?<!\d)|(?=\d{{1,3}},))(?P<amount>{NUMBER})(?P<scale>)(?P<sign>[$£€])", _money),
        (r"(?:(?<=^)|(?<=\n))(\d{1,2})\. ", lambda m: f"{ordinal(m[1])}, "),
        (r"(\d)\s?([+×÷=])\s?(?=\d)", _sum),
        (r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1].replace(",", ""))),
        (r"(?<!\w)'?((?:1\d|20)\d0|[2-9]0)s\b", _decade),
        (rf"(?<![\w.])(?P<amount>{NUMBER})[ -]?(?P<unit>{units})(?![A-Za-z'])", _unit),
        (r"(?<![\d/])(\d+)/(\d+)(?![\d/])", _fraction),
        (r"\b\d+:\d+\b", lambda m: " to ".join(map(cardinal, m[0].split(":")))),
    ]


def _rest() -> list[Rule]:
    romans = "|".join(_ROMANS)
    return [
        (rf"\b([A-Z][a-z]+)\s({romans})\b", _roman),
        (
            r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?:(?<!\d)|(?<=,\d{3}))\d+\.\d+",
            lambda m: f" {cardinal(m[0])} ",
        ),
        (r"(?<!\d)\.(\d+)", lambda m: f" point {spell_digits(m[1])}"),
        (r"\d+", lambda m: f" {bare_number(m[0])} "),
        (r"\s[-–]+\s", lambda m: ", "),
        (f"[{re.escape(''.join(_SYMBOLS))}]", lambda m: _SYMBOLS[m[0]]),
    ]


# Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every digit
# of a long number, which takes quadratic time. Two patterns may also begin inside a number: at the
# last digits before a comma (1234,567€), and after the three digits that end a number with commas
# (1,2345.6).
@cache
def _rules() -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    return [(re.compile(pattern), say) for pattern, say in [*_codes(), *_amounts(), *_rest()]]
