"""`<say-as>` of SSML: what a text is, in place of what the reader would take it for.

The kinds are those that the W3C's note on say-as (2005) and the usual engines have in common.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from core.errors import ExplainedError
from core.text import en_cardinal, ko_numbers, zh_numbers
from core.text.digits import to_ascii_digits

MAX_CHARACTERS = 100
_SEPARATORS = {"en": ", ", "ko": ", ", "ja": "、", "zh": "，", "yue": "，"}
_SIGNS = {
    ".": ("dot", "点", "ドット", "점"), "-": ("dash", "杠", "ハイフン", "하이픈"),
    "_": ("underscore", "下划线", "アンダーバー", "밑줄"),
    "/": ("slash", "斜杠", "スラッシュ", "슬래시"),
    "@": ("at", "艾特", "アットマーク", "골뱅이"), "#": ("hash", "井号", "シャープ", "샵"),
    "+": ("plus", "加号", "プラス", "플러스"), "*": ("star", "星号", "アスタリスク", "별표"),
    "&": ("and", "和号", "アンド", "앤드"), ":": ("colon", "冒号", "コロン", "콜론"),
    "=": ("equals", "等号", "イコール", "이퀄"), "%": ("percent", "百分号", "パーセント", "퍼센트"),
    ",": ("comma", "逗号", "カンマ", "쉼표"),
    "!": ("exclamation mark", "感叹号", "びっくりマーク", "느낌표"),
    "?": ("question mark", "问号", "はてな", "물음표"),
}  # fmt: skip
_COLUMN = {"en": 0, "zh": 1, "yue": 1, "ja": 2, "ko": 3}
_KANA_DIGITS = "ゼロ イチ ニ サン ヨン ゴ ロク ナナ ハチ キュー".split()  # noqa: SIM905
_NUMBER = re.compile(r"([-+−]?)(\d[\d,]*(?:\.\d+)?|\.\d+)")
_MINUS = {"en": "minus ", "zh": "负", "yue": "负", "ja": "マイナス", "ko": "마이너스 "}
_DATES = ("mdy", "dmy", "ymd", "md", "dm", "ym", "my", "y", "m", "d", "yyyymmdd")
_MONTHS = (  # noqa: SIM905
    "January February March April May June July August September October November December"
).split()
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?\s*([ap])?\.?(?(4)m\.?)?", re.I)


def say_as(text: str, kind: str, form: str, language: str) -> str:
    """Return the words for a text of a kind. `form`: the attribute `format`, may be empty.

    Raises ExplainedError for kinds, formats and texts that cannot be read so.
    """
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise ExplainedError(f"interpret-as={kind!r} is not supported: use {known}")
    plain = to_ascii_digits(text).strip()
    if not 1 <= len(plain) <= MAX_CHARACTERS:
        raise ExplainedError(f"<say-as> contains 1 to {MAX_CHARACTERS} characters")
    return _KINDS[kind](plain, form, language)


def _no_format(form: str) -> None:
    if form:
        raise ExplainedError(f"format={form!r} belongs to dates and times only")


def _characters(text: str, form: str, language: str) -> str:
    _no_format(form)
    return _SEPARATORS[language].join(
        _character(char, language) for char in text if not char.isspace()
    )


def _character(char: str, language: str) -> str:
    if char.isascii() and char.isdigit():
        return _digits_of(char, language)
    if char in _SIGNS:
        return _SIGNS[char][_COLUMN[language]]
    if not char.isalpha():
        raise ExplainedError(f"the character {char!r} has no name")
    return char.upper() if len(char.upper()) == 1 else char


def _digits_of(digits: str, language: str, one: str = "一", oh: str = "") -> str:
    if language == "en":
        return en_cardinal.spell_digits(digits)
    if language == "ja":
        return "・".join(_KANA_DIGITS[int(digit)] for digit in digits)
    if language == "ko":
        return ko_numbers.spell_digits(digits, oh or "영")
    return zh_numbers.spell_digits(digits, one)


def _digits(text: str, form: str, language: str) -> str:
    _no_format(form)
    groups = re.split(r"[\s,.\-]+", text)
    if not all(re.fullmatch("[0-9]+", group) for group in groups):
        raise ExplainedError(f"{text!r} has more than digits")
    return _SEPARATORS[language].join(_digits_of(group, language) for group in groups)


def _telephone(text: str, form: str, language: str) -> str:
    del form  # a country code, which changes nothing here
    groups = [group for group in re.split(r"[\s()./\-]+", text) if group]
    spoken = []
    for group in groups:
        digits = group.removeprefix("+")
        if not re.fullmatch("[0-9]+", digits):
            raise ExplainedError(f"{text!r} is not a telephone number")
        plus = f"{_SIGNS['+'][_COLUMN[language]]} " if group != digits else ""
        spoken.append(plus + _digits_of(digits, language, "幺", "공"))
    return _SEPARATORS[language].join(spoken)


def _parse_number(text: str) -> tuple[str, str]:
    match = _NUMBER.fullmatch(text.replace(" ", ""))
    if not match:
        raise ExplainedError(f"{text!r} is not a number")
    if len(match[2]) > 40:
        raise ExplainedError("a number has at most 40 digits")
    return match[1], match[2].replace(",", "")


def _cardinal(text: str, form: str, language: str) -> str:
    _no_format(form)
    sign, number = _parse_number(text)
    return (_MINUS[language] if sign in ("-", "−") else "") + _CARDINALS[language](number)


def _ordinal(text: str, form: str, language: str) -> str:
    _no_format(form)
    sign, number = _parse_number(re.sub(r"(?<=\d)(?:st|nd|rd|th)$", "", text, flags=re.I))
    if sign or "." in number:
        raise ExplainedError(f"{text!r} is not an ordinal number")
    if language == "en":
        return en_cardinal.ordinal(number)
    if language == "ko":
        return "제" + ko_numbers.cardinal(number)
    return "第" + (number if language == "ja" else zh_numbers.cardinal(number))


def _date(text: str, form: str, language: str) -> str:
    numbers = re.findall(r"\d+", text)
    if not re.fullmatch(r"\d+(?:[-/. 年月日년월일]+\d+){0,2}[日일号年月년월]?", text):
        raise ExplainedError(f"{text!r} is not a date in numbers, such as 2026-11-30")
    form = form.lower() or _guess_order(numbers)
    if form not in _DATES:
        raise ExplainedError(f"format={form!r} is not supported: use one of {', '.join(_DATES)}")
    if form == "yyyymmdd" and len(numbers) == 1 and len(numbers[0]) == 8:
        numbers, form = [text[:4], text[4:6], text[6:]], "ymd"
    if len(numbers) != len(form):
        raise ExplainedError(f"{text!r} is not a date in the format {form}")
    found = dict(zip(form, map(int, numbers), strict=True))
    if not 1 <= found.get("m", 1) <= 12 or not 1 <= found.get("d", 1) <= 31:
        raise ExplainedError(f"{text!r} has a month or day that does not exist")
    return _say_date(found, language)


def _guess_order(numbers: list[str]) -> str:
    if len(numbers) == 1:
        return "yyyymmdd" if len(numbers[0]) == 8 else "y"
    if len(numbers) == 2:
        return "ym" if len(numbers[0]) == 4 else "md"
    return "ymd" if len(numbers[0]) == 4 else "mdy"


def _say_date(found: Mapping[str, int], language: str) -> str:
    year, month, day = found.get("y"), found.get("m"), found.get("d")
    if language == "en":
        month_and_day = [_MONTHS[month - 1]] if month else []
        month_and_day += [en_cardinal.ordinal(str(day))] if day else []
        spoken = en_cardinal.bare_number(str(year)) if year is not None else ""
        return ", ".join(filter(None, [" ".join(month_and_day), spoken]))
    units = ("년", "월", "일") if language == "ko" else ("年", "月", "日")
    parts = [f"{n}{unit}" for n, unit in zip((year, month, day), units, strict=True) if n]
    return (" " if language == "ko" else "").join(parts)


def _time(text: str, form: str, language: str) -> str:
    if form.lower() not in ("", "hms12", "hms24", "hms", "hm", "h"):
        raise ExplainedError(f"format={form!r} is not supported: use hms12 or hms24")
    match = _CLOCK.fullmatch(text)
    if not match:
        raise ExplainedError(f"{text!r} is not a time of day, such as 14:30")
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if hour > 24 or minute > 59 or second > 59:
        raise ExplainedError(f"{text!r} is a time that does not exist")
    if language == "en":
        half = f" {match[4].upper()} M" if match[4] else ""
        clock = f"{hour}:{minute:02}" if minute or not half else str(hour)
        seconds = f" and {second} second{'s' * (second != 1)}" if second else ""
        return f"{clock}{half}{seconds}"
    if match[4] and match[4].lower() == "p" and hour < 12:
        hour += 12
    hours, minutes, seconds_ = {
        "ja": ("時", "分", "秒"), "ko": ("시", "분", "초")
    }.get(language, ("点", "分", "秒"))  # fmt: skip
    space = " " if language == "ko" else ""
    parts = [f"{hour}{hours}"]
    parts += [f"{minute}{minutes}"] if minute or second else []
    parts += [f"{second}{seconds_}"] if second else []
    return space.join(parts)


_CARDINALS: Mapping[str, Callable[[str], str]] = {
    "en": en_cardinal.cardinal,
    "ja": str,  # OpenJTalk reads a number as one
    "ko": ko_numbers.cardinal,
    "yue": zh_numbers.cardinal,
    "zh": zh_numbers.cardinal,
}
_KINDS: Mapping[str, Callable[[str, str, str], str]] = {
    "characters": _characters,
    "spell-out": _characters,
    "digits": _digits,
    "cardinal": _cardinal,
    "number": _cardinal,
    "ordinal": _ordinal,
    "date": _date,
    "time": _time,
    "telephone": _telephone,
}
