"""English number words in the style of inflect (`one thousand, two hundred`), with which GPT-SoVITS
was trained. inflect is not used because its import takes two seconds."""

from __future__ import annotations

import re

_SMALL = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = (
    "", " thousand", " million", " billion", " trillion", " quadrillion", " quintillion",
)  # fmt: skip
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip


def cardinal(digits: str) -> str:
    """Return a number as words: `1,345` is `one thousand, three hundred forty-five`."""
    integer, _, fraction = digits.replace(",", "").partition(".")
    if len(integer) > 3 * len(_SCALES):
        return spell_digits(integer)
    spoken = integer_words(int(integer or 0))
    return f"{spoken} point {spell_digits(fraction)}" if fraction else spoken


def ordinal(digits: str) -> str:
    """Return an ordinal as words: `22` is `twenty-second`."""
    head, last = re.fullmatch(r"(.*?)(\w+)", cardinal(digits)).groups()  # type: ignore[union-attr]
    if last in _ORDINALS:
        return head + _ORDINALS[last]
    return head + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def spell_digits(digits: str) -> str:
    """Read a number digit by digit."""
    return " ".join(_SMALL[int(digit)] for digit in digits)


def year(digits: str) -> str:
    """Return a year as words: `1999` is `nineteen ninety-nine`, `1905` is `nineteen oh five`."""
    high, low = int(digits[:2]), int(digits[2:])
    if digits[1:3] == "00":
        return cardinal(digits)
    tail = "hundred" if not low else ("oh " if low < 10 else "") + integer_words(low)
    return f"{integer_words(high)} {tail}"


def integer_words(number: int) -> str:
    """Return a non-negative integer as words."""
    spoken, joint = "", " "
    for scale in _SCALES:
        number, group = divmod(number, 1000)
        if group:
            spoken = _below_thousand(group) + scale + (joint + spoken if spoken else "")
            joint = ", " if scale or group > 99 else " "
    return spoken or "zero"


def _below_thousand(number: int) -> str:
    if number >= 100:
        rest = f" {_below_thousand(number % 100)}" if number % 100 else ""
        return f"{_SMALL[number // 100]} hundred{rest}"
    if number < 20:
        return _SMALL[number]
    return _TENS[number // 10 - 2] + (f"-{_SMALL[number % 10]}" if number % 10 else "")


def bare_number(digits: str) -> str:
    """Read a number without context: as a year if possible, digit by digit if it begins with 0."""
    if re.fullmatch(r"[12]\d{3}", digits) and digits != "1000":
        return year(digits)
    if re.fullmatch(r"0\d+", digits):
        return spell_digits(digits)
    return cardinal(digits)


def code_number(digits: str) -> str:
    """Read a number in a code: four digits in pairs, `3770` as `thirty-seven seventy`."""
    if len(digits) == 4 and digits[0] != "0":
        return year(digits)
    return bare_number(digits)
