"""Split mixed text into runs of one language, by script.

The caller names the main language, so no statistical language detector is needed. In the `auto`
modes Chinese characters are Japanese if there are kana in the same clause.
"""

from __future__ import annotations

import re

from core.text import en_numbers

LANGUAGES = ("en", "ja", "ko", "yue", "zh")
MODES = ("auto", "auto_yue", "all_zh", "all_ja", "all_ko", "all_yue", *LANGUAGES)

_UNITS = (
    r"(?:\s?(?:km/h|m/s|kHz|MHz|GHz|mAh|kWh|min|km[²2]?|cm[²³23]?|m[²³23]|mm|nm|kg|mg|m[lL]|[dk]B|ds|ms"
    r"|Hz|kW|℃|℉|°[CF]?|[mgtLhsVW])(?![A-Za-z0-9]))"
)
_TOKEN = re.compile(
    rf"(?P<en>{en_numbers.ADDRESS}|[A-Za-zÀ-ɏ][A-Za-z0-9À-ɏ]*(?:['’.\-&/+_][A-Za-z0-9À-ɏ]+)*\+*)"
    rf"|(?P<number>(?:(?:US\$|HK\$|[$¥￥€£])\s?)?[-−+]?\.?\d[\d,.:/~〜～–%-]*(?<![,.:]){_UNITS}?)"
    r"|(?P<ja>[ぁ-ゖァ-ヺーｦ-ﾟ゛゜]+)"
    r"|(?P<ko>[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]+)"
    r"|(?P<han>[㐀-鿿豈-﫿々〇]+)"
    r"|(?P<mark>.)",
    re.S,
)
Run = tuple[str, str]

QUOTED_IN_A_ROW = 5
QUOTED_IN_ALL = 2
QUOTED_SHARE = 1 / 3
"""Words, or characters of scripts without spaces, up to which another language counts as quoted:
in a row, in the whole text, and as a share of it."""


def split_by_language(text: str, mode: str) -> list[Run]:
    """Return pairs of (language, text) in order; neighbouring runs differ in language.

    In the mode of a language everything except foreign scripts is read in it, with the prefix
    `all_` everything except Latin words; `auto` tells Chinese from Japanese by kana.
    """
    home = mode.removeprefix("all_")
    if mode == "en" and text.isascii():
        return [("en", text)]
    tokens = [(str(token.lastgroup), token.group()) for token in _TOKEN.finditer(text)]
    runs: list[Run] = []
    for i, (kind, token) in enumerate(tokens):
        previous = runs[-1][0] if runs else ""
        _append_run(runs, _language_of(kind, home, mode, tokens, i) or previous, token)
    if runs and not runs[0][0]:  # leading punctuation belongs to the run after it
        first = runs[1][0] if len(runs) > 1 else _default_language(home)
        runs[:2] = [(first, runs[0][1] + (runs[1][1] if len(runs) > 1 else ""))]
    return runs


def spoken_languages(text: str, language: str) -> frozenset[str]:
    """Return the languages in which an engine speaks a text whose stated language is `language`.

    Engines read every script in its own language, so a Chinese text that is stated to be English is
    spoken in Chinese. A name or term in another language is a quotation and does not count: at most
    QUOTED_IN_A_ROW units in a row, and at most QUOTED_IN_ALL or QUOTED_SHARE of the text. Written
    Chinese does not tell Mandarin from Cantonese, nor kanji from Chinese: the statement decides.
    """
    if language not in LANGUAGES or (language == "en" and text.isascii()):
        return frozenset({language})
    longest: dict[str, int] = {}
    total: dict[str, int] = {}
    for spoken, run in split_by_language(text, language):
        units = _count_units(run)
        longest[spoken] = max(longest.get(spoken, 0), units)
        total[spoken] = total.get(spoken, 0) + units
    allowed = max(QUOTED_IN_ALL, QUOTED_SHARE * sum(total.values()))
    foreign = {
        name
        for name in total.keys() - {language}
        if longest[name] > QUOTED_IN_A_ROW or total[name] > allowed
    }
    return frozenset(foreign if foreign and not total.get(language) else {*foreign, language})


def _count_units(run: str) -> int:
    """Count words of alphabets, and characters of other scripts."""
    return sum(
        len(token.group()) if token.lastgroup in ("ja", "ko", "han") else 1
        for token in _TOKEN.finditer(run)
        if token.lastgroup != "mark"
    )


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
