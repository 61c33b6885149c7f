"""Write numbers, dates, times, money and units in Korean text as words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from core.text.plain import roman_signs_to_digits, to_plain

Match = re.Match[str]

_DIGITS = "영일이삼사오육칠팔구"
_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
_COUNTERS = (
    "군데|권|개(?!월|년|국)|그루|대(?!학)|마리|모금|발짝|번째|번(?!호)|벌|보루|살|시간|시(?!속)|쌈|움큼|"
    "짝|채|켤레|톨|통|명|사람|잔|병|곳|가지|송이|다발|배(?!터)|장|척|달"
)
_UNITS = {
    "km": "킬로미터", "cm": "센티미터", "mm": "밀리미터", "nm": "나노미터", "μm": "마이크로미터",
    "m": "미터", "km²": "제곱킬로미터", "km2": "제곱킬로미터", "m²": "제곱미터", "m2": "제곱미터",
    "cm²": "제곱센티미터", "cm2": "제곱센티미터", "m³": "세제곱미터", "m3": "세제곱미터",
    "cm³": "세제곱센티미터", "cm3": "세제곱센티미터", "kg": "킬로그램", "mg": "밀리그램",
    "μg": "마이크로그램", "g": "그램", "t": "톤", "ml": "밀리리터", "mL": "밀리리터",
    "dL": "데시리터", "L": "리터", "mmol": "밀리몰", "mol": "몰", "mmHg": "밀리미터 에이치지",
    "hPa": "헥토파스칼", "kPa": "킬로파스칼", "kcal": "킬로칼로리", "kJ": "킬로줄", "dB": "데시벨",
    "Hz": "헤르츠", "kHz": "킬로헤르츠", "MHz": "메가헤르츠", "GHz": "기가헤르츠", "kW": "킬로와트",
    "W": "와트", "kWh": "킬로와트시", "V": "볼트", "mAh": "밀리암페어시", "KB": "킬로바이트",
    "MB": "메가바이트", "GB": "기가바이트", "TB": "테라바이트", "℃": "도", "°C": "도", "°F": "도",
    "°": "도",
}  # fmt: skip
_PER = {"h": "시", "s": "초", "min": "분"} | _UNITS
_MONEY = {
    "US$": "달러", "HK$": "홍콩 달러", "A$": "호주 달러", "C$": "캐나다 달러", "CN¥": "위안",
    "₩": "원", "$": "달러", "€": "유로", "¥": "엔", "£": "파운드", "USD": "달러", "KRW": "원",
    "EUR": "유로", "JPY": "엔", "CNY": "위안",
}  # fmt: skip
_OPERATORS = {
    "+": " 더하기 ", "-": " 빼기 ", "−": " 빼기 ", "×": " 곱하기 ", "*": " 곱하기 ",
    "÷": " 나누기 ", "/": " 나누기 ",
}  # fmt: skip
_COMPARED = {"<": "보다 작다", ">": "보다 크다", "≤": "보다 작거나 같다", "≥": "보다 크거나 같다"}
_SIGNS = {
    "±": "플러스마이너스 ", "√": "루트 ", "∞": "무한대", "≈": " 약 ", "≠": " 같지 않다 ",
    "‰": "퍼밀", "%": "퍼센트", "×": " 곱하기 ", "÷": " 나누기 ", "+": " 플러스 ", "&": " 앤드 ",
    "π": "파이", "α": "알파", "β": "베타", "γ": "감마", "Ω": "옴", "μ": "뮤", "=": " 는 ",
}  # fmt: skip
_POWERS = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True))
_NUMBER = r"\d+(?:\.\d+)?"
_TERM = rf"{_NUMBER}(?:\s?[-+−×*÷/]\s?{_NUMBER}){{0,40}}"


def expand(text: str) -> str:
    """Rewrite `사과 3개, 12.5%, 2024년 6월` as `사과 세개, 십이점오퍼센트, 이천이십사년 유월`."""
    text = to_plain(roman_signs_to_digits(text))
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


def _with_topic(number: str) -> str:
    """Return a number as words with the particle 은 after a consonant, 는 after a vowel."""
    spoken = cardinal(number)
    has_tail = (ord(spoken[-1]) - 0xAC00) % 28
    return spoken + ("은" if has_tail else "는")


def _term(text: str) -> str:
    return re.sub(r"\s*([-+−×*÷/])\s*", lambda m: _OPERATORS[m[1]], text)


def _equation(match: Match) -> str:
    """Read `3×4=12` as 삼 곱하기 사는 십이."""
    head, last = re.fullmatch(rf"(.*?)({_NUMBER})", match[1]).groups()  # type: ignore[union-attr]
    return f"{_term(head)}{_with_topic(last)} {_term(match[2])}"


def _comparison(match: Match) -> str:
    return f"{_with_topic(match[1])} {cardinal(match[3])}{_COMPARED[match[2]]}"


def _unit(match: Match) -> str:
    """Read a number with a unit, which may be a quotient: `g/L` is 그램 퍼 리터."""
    minus = "" if not match[1] else "영하 " if match[3] in ("℃", "°C") else "마이너스 "
    per = "".join(f" 퍼 {_PER[unit]}" for unit in match[4].split("/")[1:])
    spoken = minus + cardinal(match[2]) + _UNITS[match[3]]
    return spoken if match[4] == "/h" else spoken + per


@cache
def _rules() -> list[tuple[re.Pattern[str], Callable[[Match], str]]]:
    number = _NUMBER
    units, per, signs = (
        "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        for names in (_UNITS, _PER, _MONEY)
    )
    codes = "|".join(sign for sign in _MONEY if sign.isalpha())
    # Patterns that begin with a number begin with (?<!\d). Without it a match is tried at every
    # digit of a long number, which takes quadratic time.
    rules: dict[str, Callable[[Match], str]] = {
        r"(?<![\d,])\d{1,3}(?:,\d{3})+(?!\d)": lambda m: m[0].replace(",", ""),
        r"(?<!\d)(\d{4})[-./](\d{1,2})[-./](\d{1,2})(?!\d)": lambda m: (
            f"{m[1]}년 {int(m[2])}월 {int(m[3])}일"
        ),
        r"(?<!\d)0\d{1,2}-\d{3,4}-\d{4}(?!\d)|(?<!\d)1\d{3}-\d{4}(?!\d)": _telephone,
        r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])": _clock,
        rf"({signs})\s?({number})([만억천백조]*)": lambda m: cardinal(m[2]) + m[3] + _MONEY[m[1]],
        rf"(?<![\d.])({number})\s?({codes})(?![A-Za-z])": lambda m: cardinal(m[1]) + _MONEY[m[2]],
        r"(?<=[\w)])(?:\^(\d+)|([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))": lambda m: (
            "의 " + (m[1] or "".join(_POWERS[c] for c in m[2])).replace("-", "마이너스 ") + "제곱"
        ),
        rf"(?<![\d.])({_TERM})\s?=\s?({_TERM})": _equation,
        rf"(?<![\d.])({number})\s?([<>≤≥])\s?({number})": _comparison,
        rf"(?<![\d.]){number}(?:\s?[+×÷]\s?{number})+": lambda m: _term(m[0]),
        rf"(?<=[\d%])\s?[-~〜～]\s?(?=[-−]?{number})": lambda m: "에서 ",
        rf"(?<!\d)({number})\s?[%％]": lambda m: cardinal(m[1]) + "퍼센트",
        rf"((?<![\w)])[-−])?(?<!\d)({number})\s?({units})((?:/(?:{per}))*)(?![A-Za-z])": _unit,
        r"(?<!\d)(\d+)/(\d+)": lambda m: f"{cardinal(m[2])}분의 {cardinal(m[1])}",
        r"(?<!\d)(\d+)(?=월)": _month,
        r"(?<!\d)1번째": lambda m: "첫번째",
        rf"(?<![\d.])(\d+)(?=\s?(?:{_COUNTERS}))": lambda m: native_cardinal(m[1]),
        r"(?<!\d)[-−](?=\d)": lambda m: "마이너스 ",
        r"(?<!\d)0\d+": lambda m: spell_digits(m[0], "공"),
        number: lambda m: cardinal(m[0]),
        f"[{''.join(_SIGNS)}]": lambda m: _SIGNS[m[0]],
    }
    return [(re.compile(pattern), say) for pattern, say in rules.items()]
