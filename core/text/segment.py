"""Runs of one language within a sentence, told by script.

Which language kanji belong to is asked of the kana around them; no statistical model is needed
where the caller names the main language, and none is used.
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


def split_by_language(text: str, mode: str) -> list[Run]:
    """(language, text) in order; neighbours differ in language.

    Modes are GPT-SoVITS': a language reads everything but foreign scripts; `all_` it reads all but
    Latin words; `auto` tells Chinese from Japanese by kana.
    """
    home = mode.removeprefix("all_")
    if mode == "en" and text.isascii():
        return [("en", text)]
    found = [(str(token.lastgroup), token.group()) for token in _TOKEN.finditer(text)]
    runs: list[Run] = []
    for i, (kind, token) in enumerate(found):
        _append_run(
            runs, _language_of(kind, home, mode, found, i) or (runs[-1][0] if runs else ""), token
        )
    if runs and not runs[0][0]:  # leading marks belong to what follows
        first = runs[1][0] if len(runs) > 1 else _default_language(home)
        runs[:2] = [(first, runs[0][1] + (runs[1][1] if len(runs) > 1 else ""))]
    return runs


def _append_run(runs: list[Run], language: str, token: str) -> None:
    if runs and runs[-1][0] == language:
        runs[-1] = (language, runs[-1][1] + token)
    else:
        runs.append((language, token))


def _default_language(home: str) -> str:
    return {"auto": "zh", "auto_yue": "yue"}.get(home, home)


def _language_of(kind: str, home: str, mode: str, found: list[Run], i: int) -> str:
    """Whose token this is; empty: that of the token before."""
    auto = home.startswith("auto")
    if kind in ("en", "mark"):
        return "en" if kind == "en" else ""
    if kind == "number":
        return _language_of_number(found, i, home) if auto else home
    if mode.startswith("all_"):
        return home
    if kind != "han":
        return kind
    if auto:
        return "ja" if _has_kana_nearby(found, i) else _default_language(home)
    return "zh" if home in ("en", "ko") else home


def _has_kana_nearby(found: list[Run], i: int) -> bool:
    """Is there kana in the same clause?"""
    for step in (-1, 1):
        at = i + step
        while 0 <= at < len(found) and found[at][0] in ("han", "ja", "number"):
            if found[at][0] == "ja":
                return True
            at += step
    return False


def _language_of_number(found: list[Run], i: int, home: str) -> str:
    """In `auto` a number belongs to the characters it stands before, else to what it follows."""
    if i + 1 == len(found):
        return ""
    following = found[i + 1][0]
    if following == "han":
        return "ja" if _has_kana_nearby(found, i + 1) else _default_language(home)
    return following if following in ("ja", "ko") else ""
