"""Split mixed text into runs of one language, by script.

The caller names the main language, so no statistical language detector is needed. In the `auto`
modes Chinese characters are Japanese if there are kana in the same clause.
"""

from __future__ import annotations

import re

from core.text import en_numbers
from core.text.plain import to_plain
from core.text.spoken import Run

LANGUAGES = ("en", "ja", "ko", "yue", "zh")
MODES = ("auto", "auto_yue", "all_zh", "all_ja", "all_ko", "all_yue", *LANGUAGES)

_UNITS = (
    r"(?:\s?(?:km/h|m/s|kHz|MHz|GHz|mAh|kWh|min|km[²2]?|cm[²³23]?|m[²³23]|mm|nm|kg|mg|m[lL]|[dk]B|ds|ms"
    r"|Hz|kW|℃|℉|°[CF]?|[mgtLhsVW])(?![A-Za-z0-9]))"
)
_LATIN = "A-Za-zÀ-ÖØ-öø-ɏ"
_KANA = "ぁ-ゖァ-ヺーｦ-ﾟ゛゜"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_HAN = "㐀-鿿豈-﫿々〇"
LATIN_WORD = rf"{en_numbers.ADDRESS}|[{_LATIN}][{_LATIN}0-9]*(?:['’.\-&/+_][{_LATIN}0-9]+)*\+*"
"""Pattern of a word, name or address in Latin letters, with the digits that belong to it."""
_TOKEN = re.compile(
    rf"(?P<en>{LATIN_WORD})"
    rf"|(?P<number>(?:(?:US\$|HK\$|[$¥￥€£])\s?)?[-−+]?\.?\d[\d,.:/~〜～–%-]*(?<![,.:]){_UNITS}?)"
    rf"|(?P<ja>[{_KANA}]+)"
    rf"|(?P<ko>[{_HANGUL}]+)"
    rf"|(?P<han>[{_HAN}]+)"
    r"|(?P<mark>.)",
    re.S,
)
_RAISED = "ⁿˣʸ"
"""Letters of powers, whose names are English in every language."""
_JAPANESE = "〆\u3040-\u30ff\u31f0-\u31ffｦ-ﾟ"
"""All that any engine reads as kana."""
_OTHER_LANGUAGE = {
    "en": re.compile(f"[{_JAPANESE}{_HANGUL}{_HAN}]"),
    "ja": re.compile(f"[{_LATIN}{_RAISED}@{_HANGUL}]"),
    "ko": re.compile(f"[{_LATIN}{_RAISED}@{_JAPANESE}{_HAN}]"),
    "yue": re.compile(f"[{_LATIN}{_RAISED}@{_JAPANESE}{_HANGUL}]"),
    "zh": re.compile(f"[{_LATIN}{_RAISED}@{_JAPANESE}{_HANGUL}]"),
}
"""Mode -> characters without which the whole text is in its language; @ may be in an address."""


def split_by_language(text: str, mode: str) -> list[Run]:
    """Return pairs of (language, text) in order; neighbouring runs differ in language.

    In the mode of a language everything except foreign scripts is read in it, with the prefix
    `all_` everything except Latin words; `auto` tells Chinese from Japanese by kana.
    """
    home = mode.removeprefix("all_")
    if text and is_of_one_language(text, mode):
        return [(mode, text)]
    tokens = [(str(token.lastgroup), token.group()) for token in _TOKEN.finditer(text)]
    runs: list[Run] = []
    for i, (kind, token) in enumerate(tokens):
        previous = runs[-1][0] if runs else ""
        _append_run(runs, _language_of(kind, home, mode, tokens, i) or previous, token)
    if runs and not runs[0][0]:  # leading punctuation belongs to the run after it
        first = runs[1][0] if len(runs) > 1 else _default_language(home)
        runs[:2] = [(first, runs[0][1] + (runs[1][1] if len(runs) > 1 else ""))]
    return runs


def is_of_one_language(text: str, mode: str) -> bool:
    """Return whether all of a text is certainly in the language of its mode, as it is and in plain
    characters."""
    other = _OTHER_LANGUAGE.get(mode)
    return other is not None and not other.search(text) and not other.search(to_plain(text))


def _append_run(runs: list[Run], language: str, token: str) -> None:
    if runs and runs[-1][0] == language:
        runs[-1] = (language, runs[-1][1] + token)
    else:
        runs.append((language, token))


def _default_language(home: str) -> str:
    return {"auto": "zh", "auto_yue": "yue"}.get(home, home)


def _language_of(kind: str, home: str, mode: str, tokens: list[Run], i: int) -> str:
    """Return the language of a token, or "" if it takes the language of the token before it."""
    auto = home.startswith("auto")
    if kind in ("en", "mark"):
        return "en" if kind == "en" else ""
    if kind == "number":
        return _language_of_number(tokens, i, home) if auto else home
    if mode.startswith("all_"):
        return home
    if kind != "han":
        return kind
    if auto:
        return "ja" if _has_kana_nearby(tokens, i) else _default_language(home)
    return "zh" if home in ("en", "ko") else home


def _has_kana_nearby(tokens: list[Run], i: int) -> bool:
    """Return whether there are kana in the same clause as token `i`."""
    for step in (-1, 1):
        at = i + step
        while 0 <= at < len(tokens) and tokens[at][0] in ("han", "ja", "number"):
            if tokens[at][0] == "ja":
                return True
            at += step
    return False


def _language_of_number(tokens: list[Run], i: int, home: str) -> str:
    """Return the language of a number in `auto`: that of the characters after it, else ""."""
    if i + 1 == len(tokens):
        return ""
    following = tokens[i + 1][0]
    if following == "han":
        return "ja" if _has_kana_nearby(tokens, i + 1) else _default_language(home)
    return following if following in ("ja", "ko") else ""
