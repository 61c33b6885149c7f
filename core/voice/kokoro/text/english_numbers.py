"""Numbers, dates, times, money, units, addresses and abbreviations in English text, as words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

_ABBREVIATIONS = {
    "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Dr.": "Doctor", "Prof.": "Professor",
    "St.": "Saint", "Jr.": "Junior", "Sr.": "Senior", "vs.": "versus", "etc.": "et cetera",
    "e.g.": "for example", "i.e.": "that is", "approx.": "approximately",
}  # fmt: skip
_UNITS = {
    "km/h": "kilometers per hour", "mph": "miles per hour", "km": "kilometers", "kg": "kilograms",
    "cm": "centimeters", "mm": "millimeters", "ml": "milliliters", "kHz": "kilohertz",
    "MHz": "megahertz", "GHz": "gigahertz", "Hz": "hertz", "GB": "gigabytes", "MB": "megabytes",
    "KB": "kilobytes", "TB": "terabytes", "ms": "milliseconds", "°C": "degrees Celsius",
    "℃": "degrees Celsius", "°F": "degrees Fahrenheit", "lbs": "pounds", "ft": "feet",
}  # fmt: skip
_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
}  # fmt: skip
_SYMBOLS = {
    "%": " percent", "&": " and ", "+": " plus ", "@": " at ", "=": " equals ", "#": " number ",
}  # fmt: skip
_ADDRESS_MARKS = {
    "@": " at ", ".": " dot ", "/": " slash ", "-": " dash ", "_": " underscore ", ":": " colon ",
}  # fmt: skip
_SMALL = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = [(10 ** (3 * i), name) for i, name in (
    (5, "quadrillion"), (4, "trillion"), (3, "billion"), (2, "million"), (1, "thousand")
)] + [(100, "hundred")]  # fmt: skip
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_SCALE = r"(?:\s(thousand|million|billion|trillion))"


def expand(text: str) -> str:
    """`$3.50 at 9:30 on the 2nd` -> `three dollars fifty cents at nine thirty on the second`."""
    for pattern, say in _rules():
        text = pattern.sub(say, text)
    return text


def cardinal(digits: str) -> str:
    """`1,234` -> `one thousand two hundred thirty-four`; `3.14` -> `three point one four`."""
    whole, _, fraction = digits.replace(",", "").partition(".")
    spoken = _whole(int(whole))
    return f"{spoken} point {spell(fraction)}" if fraction else spoken


def ordinal(digits: str) -> str:
    """`22` -> `twenty-second`."""
    head, last = re.fullmatch(r"(.*?)(\w+)", cardinal(digits)).groups()  # type: ignore[union-attr]
    if last in _ORDINALS:
        return head + _ORDINALS[last]
    return head + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def spell(digits: str) -> str:
    """Digit by digit."""
    return " ".join(_SMALL[int(digit)] for digit in digits)


def _whole(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_SMALL[ones]}" if ones else "")
    size, name = next((size, name) for size, name in _SCALES if number >= size)
    high, low = divmod(number, size)
    return f"{_whole(high)} {name}" + (f" {_whole(low)}" if low else "")


def year(digits: str) -> str:
    """`1999` -> `nineteen ninety-nine`, `2005` -> `two thousand five`."""
    high, low = int(digits[:2]), int(digits[2:])
    if digits[1:3] == "00":
        return cardinal(digits)
    tail = "hundred" if low == 0 else cardinal(str(low))
    return f"{cardinal(str(high))} {'oh ' if 0 < low < 10 else ''}{tail}"


def _money(found: re.Match[str]) -> str:
    one, many, cent, cents = _MONEY[found["sign"]]
    amount, scale = found["amount"].replace(",", ""), found["scale"]
    whole, _, part = amount.partition(".")
    if scale or len(part) not in (0, 2):
        return f"{cardinal(amount)} {scale + ' ' if scale else ''}{many}"
    said = []
    if int(whole) or not int(part or 0):
        said.append(f"{cardinal(whole)} {one if int(whole) == 1 else many}")
    if int(part or 0):
        said.append(f"{_whole(int(part))} {cent if int(part) == 1 else cents}")
    return " ".join(said)


def _clock(found: re.Match[str]) -> str:
    hour, minute, half = cardinal(found[1]), int(found[2]), found[3] or ""
    if minute == 0:
        return hour + (half or " o'clock")
    return f"{hour} {'oh ' if minute < 10 else ''}{_whole(minute)}{half}"


def _address(found: re.Match[str]) -> str:
    """Web and mail addresses: the marks are spoken, the words stay words."""
    bare = re.sub(r"^[a-z]+://", "", found[0]).rstrip("/").replace("www", "W W W")
    return "".join(_ADDRESS_MARKS.get(char, char) for char in bare)


def _decade(found: re.Match[str]) -> str:
    spoken = year(found[1])
    return spoken[:-1] + "ies" if spoken.endswith("y") else spoken + "s"


def _number(found: re.Match[str]) -> str:
    digits = found[0]
    if re.fullmatch(r"1[1-9]\d\d|20\d\d", digits):
        return year(digits)
    if re.fullmatch(r"0\d+", digits) or len(digits) > 18:
        return spell(re.sub(r"\D", "", digits))
    return cardinal(digits)


@cache
def _rules() -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    number = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
    units = "|".join(map(re.escape, _UNITS))
    short = "|".join(map(re.escape, _ABBREVIATIONS))
    signs = re.escape("".join(_MONEY))
    scales = "thousand|million|billion|trillion"
    rules: dict[str, Callable[[re.Match[str]], str]] = {
        r"(?:https?://|www\.)[^\s,;]*[A-Za-z0-9/]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+": _address,
        rf"(?<!\w)({short})": lambda m: _ABBREVIATIONS[m[1]],
        rf"(?P<sign>[{signs}])\s?(?P<amount>{number})(?:\s(?P<scale>{scales}))?": _money,
        r"\b(\d{1,2}):([0-5]\d)(?::[0-5]\d)?(\s?[ap]\.?m\.?)?(?!\d)": _clock,
        r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b": lambda m: ordinal(m[1]),
        r"\b((?:1\d|20)\d0)s\b": _decade,
        rf"({number})\s?({units})(?![A-Za-z])": lambda m: f"{cardinal(m[1])} {_UNITS[m[2]]}",
        r"\b(\d+)/(\d+)\b": lambda m: f"{cardinal(m[1])} over {cardinal(m[2])}",
        r"(?<=\d)\s?[-–]\s?(?=\d)": lambda m: " to ",
        r"(?<!\w)-(?=\d)": lambda m: "minus ",
        number: lambda m: f" {_number(m)} ",
        f"[{re.escape(''.join(_SYMBOLS))}]": lambda m: _SYMBOLS[m[0]],
    }
    return [(re.compile(pattern), say) for pattern, say in rules.items()]
