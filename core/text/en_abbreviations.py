"""English abbreviations: how they are read, and where the full stop after them ends no sentence.

The cutter (`core.text.cut`) and the reader (`core.text.en_numbers`) use this one table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Match = re.Match[str]

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
SHORT_MONTHS = {name[:3]: name for name in MONTHS} | {"Sept": "September"}
DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
    "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_TITLES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor",
    "St": "Saint", "Mt": "Mount", "Ft": "Fort", "Capt": "Captain", "Gen": "General",
    "Col": "Colonel", "Maj": "Major", "Lt": "Lieutenant", "Sgt": "Sergeant", "Cpl": "Corporal",
    "Cmdr": "Commander", "Adm": "Admiral", "Rev": "Reverend", "Hon": "Honorable",
    "Gov": "Governor", "Sen": "Senator", "Rep": "Representative", "Pres": "President",
    "Supt": "Superintendent", "Msgr": "Monsignor",
}  # fmt: skip
"""Before a name."""
_WITHOUT_STOP = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Mt", "Ft", "Capt", "Lt", "Sgt", "Cpl")
"""Titles that are written without a full stop as well."""
_BEFORE_NUMBERS = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "p": "page",
    "pp": "pages", "vol": "volume", "vols": "volumes", "ch": "chapter", "chap": "chapter",
    "sec": "section", "sect": "section", "eq": "equation", "eqs": "equations", "art": "article",
    "pt": "part", "ver": "version", "ex": "example", "par": "paragraph", "app": "appendix",
    "rm": "room", "apt": "apartment", "ste": "suite", "ext": "extension", "tel": "telephone",
    "ref": "reference", "ca": "circa", "c": "circa",
}  # fmt: skip
_STREETS = {
    "St": "Street", "Dr": "Drive", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road",
    "Ln": "Lane", "Hwy": "Highway", "Pkwy": "Parkway", "Ct": "Court", "Sq": "Square",
}  # fmt: skip
"""After a name."""
_AFTER_NAMES = {
    "Jr": "Junior", "Sr": "Senior", "Inc": "Incorporated", "Ltd": "Limited", "Corp": "Corporation",
    "Co": "Company", "Bros": "Brothers", "Esq": "Esquire", "Univ": "University",
}  # fmt: skip
_ANYWHERE = {
    "vs": "versus", "approx": "approximately", "dept": "department", "e.g": "for example",
    "i.e": "that is", "cf": "compare", "viz": "namely",
    "est": "established", "avg": "average", "incl": "including", "excl": "excluding",
    "govt": "government", "assn": "association", "asst": "assistant", "misc": "miscellaneous",
    "qty": "quantity",
}  # fmt: skip


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _in_either_case(words: Iterable[str]) -> str:
    """Return a pattern of words whose first letter may be a capital."""
    ordered = sorted(words, key=len, reverse=True)
    return "|".join(f"(?i:{word[0]}){re.escape(word[1:])}" for word in ordered)


_NUMBERED, _OTHERS = _in_either_case(_BEFORE_NUMBERS), _in_either_case(_ANYWHERE)
_MEASURED = r"\d{1,6}\s?(?:min|hrs?|secs?|ft|in|oz|lbs?|yrs?)"
_NO_END = re.compile(
    rf"(?:^|[\s(“\"'])(?:(?P<always>{_any_of([*_TITLES, 'Jr', 'Sr', 'vs', 'etc', 'e.g', 'i.e'])}"
    rf"|[A-Za-z]|[ap]\.m|(?:[A-Z]\.)+[A-Z])|(?P<number>{_NUMBERED})"
    rf"|(?P<date>{_any_of([*SHORT_MONTHS, *DAYS])})"
    rf"|(?P<other>{_any_of([*_STREETS, *_AFTER_NAMES])}|{_OTHERS}|{_MEASURED}))\.$"
)
_LONGEST = 24


def ends_no_sentence(sentence: str, following: str) -> bool:
    """Return whether the full stop at the end of `sentence` only marks an abbreviation.

    Titles and initials never end one; an abbreviation that needs a number, or another word, does
    unless one follows. `following`: the text after the full stop.
    """
    match = _NO_END.search(sentence.rstrip()[-_LONGEST:])
    if not match or match["always"]:
        return match is not None
    first = following.lstrip()[:1]
    if match["number"]:
        return first.isdigit() or first in tuple("#IVX")
    if match["date"]:
        return first.isdigit() or first.islower()
    return first.islower() or first.isdigit() or first in tuple("&,;")


Rule = tuple[str, Callable[[Match], str]]


def rules() -> list[Rule]:
    """Return patterns of abbreviations and what is read instead, in the order of application."""
    name, start = r"[A-Z][a-z’']+", r"(?<![\w/.])"
    street = _any_of(_STREETS)
    return [
        (rf"{start}24/7(?![\w/])", lambda m: "twenty-four seven"),
        (rf"{start}9/11(?![\w/])", lambda m: "nine eleven"),
        (rf"(?<=\d )({name}(?: {name})?) ({street})\b\.?", _street),
        (rf"{start}({name}|\d+(?:st|nd|rd|th)) ({street})\b(?!\.?\s?[A-Z])\.?", _street),
        (rf"{start}({_any_of(_TITLES)})\.", lambda m: _TITLES[m[1]] + _stop_of_sentence(m)),
        (rf"{start}({_any_of(_WITHOUT_STOP)})(?=\s[A-Z])", lambda m: _TITLES[m[1]]),
        (
            rf"{start}({_NUMBERED})\.\s?#?(?=\d|[IVX]+\b)",
            lambda m: _BEFORE_NUMBERS[m[1].lower()] + " ",
        ),
        (rf"{start}({_any_of(DAYS)})\.(?=,?\s)", lambda m: DAYS[m[1]]),
        (
            rf"(?<=[\w,] )({_any_of(_AFTER_NAMES)})\.",
            lambda m: _AFTER_NAMES[m[1]] + _stop_of_sentence(m),
        ),
        (r"(?<=[a-z] )(Jr|Sr|Inc|Ltd|Corp)\b", lambda m: _AFTER_NAMES[m[1]]),
        (rf"{start}({_OTHERS})\.", _other),
        (rf"{start}w/o\b", lambda m: "without"),
        (rf"{start}w/", lambda m: "with"),
    ]


def _other(match: Match) -> str:
    spoken = _ANYWHERE[match[1].lower()]
    capital = match[1][0].isupper()
    return (spoken.capitalize() if capital else spoken) + _stop_of_sentence(match)


def _street(match: Match) -> str:
    return f"{match[1]} {_STREETS[match[2]]}{_stop_of_sentence(match)}"


def _stop_of_sentence(match: Match) -> str:
    """Return the full stop after an abbreviation if it also ends the text."""
    ends = match[0].endswith(".") and not match.string[match.end() :].strip()
    return "." if ends else ""
