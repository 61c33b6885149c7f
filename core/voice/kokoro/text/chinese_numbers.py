"""Numbers, dates, times, money and units in Chinese text, written out as they are said."""

from __future__ import annotations

import re
from collections.abc import Callable

_DIGITS = "零一二三四五六七八九"
_UNITS = {
    "km/h": "公里每小时", "km": "公里", "kg": "公斤", "cm": "厘米", "mm": "毫米", "ml": "毫升",
    "GB": "吉字节", "MB": "兆字节", "kHz": "千赫兹", "Hz": "赫兹",
    "℃": "摄氏度", "°C": "摄氏度",
}  # fmt: skip
_MONEY = {"￥": "元", "¥": "元", "$": "美元", "€": "欧元", "£": "英镑"}
_MEASURE = "个只位条张次天年月周名家件本种间块项步层岁辆台支双对座"


def expand(text: str) -> str:
    """`2024年3月5日` -> `二零二四年三月五日`, `8:30` -> `八点三十分`, `50%` -> `百分之五十`."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    for pattern, say in _RULES:
        text = pattern.sub(say, text)
    return text


def cardinal(digits: str) -> str:
    """An unsigned decimal number: `10500.5` -> `一万零五百点五`."""
    import cn2an

    whole, _, fraction = digits.partition(".")
    if len(whole) > 16 or (len(whole) > 1 and whole.startswith("0")):
        spoken = spell(whole)
    else:
        spoken = cn2an.an2cn(whole, "low").removeprefix("一" if 10 <= int(whole) < 20 else "#")
    return f"{spoken}点{spell(fraction)}" if fraction else spoken


def spell(digits: str) -> str:
    """Digit by digit, as years and telephone numbers are read."""
    return "".join(_DIGITS[int(d)] for d in digits)


def _clock(found: re.Match[str]) -> str:
    hour, minute = found[1], found[2]
    if minute == "00":
        return f"{cardinal(str(int(hour)))}点"
    zero = "零" if minute.startswith("0") else ""
    return f"{cardinal(str(int(hour)))}点{zero}{cardinal(str(int(minute)))}分"


def _rules() -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    number = r"(\d+(?:\.\d+)?)"
    units = "|".join(map(re.escape, _UNITS))
    # Patterns that begin with a number begin with (?<!\d): tried at each of its digits, a long one
    # takes time by the square of its length.
    rules: dict[str, Callable[[re.Match[str]], str]] = {
        r"(\d{4})(?=\s*年)": lambda m: spell(m[1]),
        r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})": lambda m: (
            f"{spell(m[1])}年{cardinal(str(int(m[2])))}月{cardinal(str(int(m[3])))}日"
        ),
        r"(?<!\d)([01]?\d|2[0-4]):([0-5]\d)(?!\d)": _clock,
        rf"([{''.join(_MONEY)}])\s*{number}": lambda m: cardinal(m[2]) + _MONEY[m[1]],
        rf"(?<!\d){number}\s*[%％]": lambda m: f"百分之{cardinal(m[1])}",
        r"(?<!\d)(\d+)/(\d+)": lambda m: f"{cardinal(m[2])}分之{cardinal(m[1])}",
        rf"(?<!\d){number}\s*({units})(?![A-Za-z])": lambda m: cardinal(m[1]) + _UNITS[m[2]],
        rf"(?<=[\d.])\s*[-~～—至]+\s*{number}": lambda m: f"至{cardinal(m[1])}",
        rf"(?<![\w])[-−]{number}": lambda m: f"负{cardinal(m[1])}",
        r"(?<![\d.])(1\d{10}|\d{7,8})(?![\d.])": lambda m: spell(m[1]).replace("一", "幺"),
        rf"(?<![\d.])2(?=[{_MEASURE}])": lambda m: "两",
        number: lambda m: cardinal(m[1]),
        r"(?<=[零一二三四五六七八九十百千万亿])\s*\+\s*(?=[零一二三四五六七八九])": lambda m: "加",
        r"=": lambda m: "等于",
        r"&": lambda m: "和",
    }
    return [(re.compile(pattern), say) for pattern, say in rules.items()]


_RULES = _rules()
