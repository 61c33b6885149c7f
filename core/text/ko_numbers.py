"""Write numbers, dates, times, money and units in Korean text as words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from core.text.digits import to_ascii_digits

Match = re.Match[str]

_DIGITS = "영일이삼사오육칠팔구"
_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
_COUNTERS = (
    "군데|권|개(?!월|년|국)|그루|대(?!학)|마리|모금|발짝|번째|번(?!호)|벌|보루|살|시간|시(?!속)|쌈|움큼|"
    "짝|채|켤레|톨|통|명|사람|잔|병|곳|가지|송이|다발|배(?!터)|장|척|달"
)
_UNITS = {
    "km/h": "킬로미터", "km": "킬로미터", "cm": "센티미터", "mm": "밀리미터", "kg": "킬로그램",
    "mg": "밀리그램", "ml": "밀리리터", "mL": "밀리리터", "GB": "기가바이트", "MB": "메가바이트",
    "℃": "도", "°C": "도", "m²": "제곱미터", "㎡": "제곱미터", "m": "미터", "g": "그램",
    "L": "리터", "t": "톤",
}  # fmt: skip
_MONEY = {"₩": "원", "$": "달러", "€": "유로", "¥": "엔", "£": "파운드"}


def expand(text: str) -> str:
    """Rewrite `사과 3개, 12.5%, 2024년 6월` as `사과 세개, 십이점오퍼센트, 이천이십사년 유월`."""
    text = to_ascii_digits(text)
    for pattern, say in _rules():
        text = pattern.sub(say, text)
    return text


def cardinal(digits: str) -> str:
    """Return a Sino-Korean number: `12345` is `만이천삼백사십오`, `3.14` is `삼점일사`."""
    whole, _, fraction = digits.partition(".")
    spoken = _whole(whole.lstrip("0")) or "영"
    return f"{spoken}점{spell_digits(fraction)}" if fraction else spoken


def native_cardinal(digits: str) -> str:
    """Return a native number for use before a counter (`3` is `세`), Sino-Korean from 100 on."""
    number = int(digits[-3:])
    if len(digits) > 2 or number == 0:
        return cardinal(digits)
    return "스무" if number == 20 else _TENS[number // 10] + _ONES[number % 10]


def spell_digits(digits: str, zero: str = "영") -> str:
    """Read a number digit by digit."""
    return "".join(_DIGITS[int(digit)] for digit in digits).replace("영", zero)


def _whole(digits: str) -> str:
    for size, unit in ((16, "경"), (12, "조"), (8, "억"), (4, "만")):
        if len(digits) > size:
            head = _whole(digits[:-size])
            head = "" if head == "일" and unit == "만" else head
            return head + unit + _whole(digits[-size:].lstrip("0"))
    spoken = ""
    for i, digit in enumerate(digits):
        unit = ("", "십", "백", "천")[len(digits) - i - 1]
        if digit != "0":
            spoken += ("" if digit == "1" and unit else _DIGITS[int(digit)]) + unit
    return spoken


def _month(match: Match) -> str:
    return {"6": "유", "06": "유", "10": "시"}.get(match[1]) or cardinal(match[1])


def _telephone(match: Match) -> str:
    return ", ".join(spell_digits(group, "공") for group in re.findall(r"\d+", match[0]))


def _clock(match: Match) -> str:
    minute = int(match[2])
    return f"{native_cardinal(match[1])} 시" + (f" {cardinal(str(minute))} 분" if minute else "")


@cache
def _rules() -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    number = r"\d+(?:\.\d+)?"
    units = "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
    signs = re.escape("".join(_MONEY))
    # Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every
    # digit of a long number, which takes quadratic time.
    rules: dict[str, Callable[[Match], str]] = {
        r"(?<![\d,])\d{1,3}(?:,\d{3})+(?!\d)": lambda m: m[0].replace(",", ""),
        r"(?<!\d)(\d{4})[-./](\d{1,2})[-./](\d{1,2})(?!\d)": lambda m: (
            f"{m[1]}년 {int(m[2])}월 {int(m[3])}일"
        ),
        r"(?<!\d)0\d{1,2}-\d{3,4}-\d{4}(?!\d)|(?<!\d)1\d{3}-\d{4}(?!\d)": _telephone,
        r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])": _clock,
        rf"([{signs}])\s?({number})": lambda m: cardinal(m[2]) + _MONEY[m[1]],
        rf"(?<=[\d%])\s?[-~〜～]\s?(?={number})": lambda m: "에서 ",
        rf"(?<!\d)({number})\s?[%％]": lambda m: cardinal(m[1]) + "퍼센트",
        rf"(?<!\d)({number})\s?({units})(?![A-Za-z])": lambda m: cardinal(m[1]) + _UNITS[m[2]],
        r"(?<!\d)(\d+)/(\d+)": lambda m: f"{cardinal(m[2])}분의 {cardinal(m[1])}",
        r"(?<!\d)(\d+)(?=월)": _month,
        r"(?<!\d)1번째": lambda m: "첫번째",
        rf"(?<![\d.])(\d+)(?=\s?(?:{_COUNTERS}))": lambda m: native_cardinal(m[1]),
        r"(?<!\d)[-−](?=\d)": lambda m: "마이너스 ",
        r"(?<!\d)0\d+": lambda m: spell_digits(m[0], "공"),
        number: lambda m: cardinal(m[0]),
    }
    return [(re.compile(pattern), say) for pattern, say in rules.items()]
