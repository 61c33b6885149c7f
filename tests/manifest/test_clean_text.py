"""Cleaning texts: what is changed, what gets a notice, what is refused."""

from __future__ import annotations

import unicodedata

import pytest

from core.errors import Refused
from core.manifest import clean_text


def cleaned(text: str, language: str = "en") -> tuple[str, list[str]]:
    result, notices = clean_text.clean(text, language=language, limit=5000, pointer="/text")
    assert all(notice.pointer == "/text" for notice in notices)
    return result, [notice.code for notice in notices]


UNTOUCHED = {
    "plain": ("Hello, world.", "en"),
    "accents": ("Déjà vu – naïve café…", "en"),
    "chinese": ("你好，世界！今天是2026年。", "zh"),
    "chinese with product names": ("我用iPhone 15 Pro Max拍的。", "zh"),
    "rare chinese": ("𠮷野家", "zh"),
    "chinese of unicode 15": ("\U00031350\U0002ebf0", "zh"),
    "japanese": ("プログラムを、書きます。々〆ヶ", "ja"),
    "half-width kana": ("ｱｲｳｴｵ", "ja"),
    "korean": ("안녕하세요.", "ko"),
    "cantonese": ("你喺邊度呀？", "yue"),
    "numbers alone": ("3.14", "en"),
    "symbols that are spoken": ("20 °C, 5 %, £3, ©, ①, ℃, ㎡", "en"),
    "tab and newline": ("one\ttwo\nthree", "en"),
    "another language": ("Привет", "ru"),
    "four marks on a letter": ("a\u0323\u0308\u0304\u0301b", "en"),
}


@pytest.mark.parametrize(("text", "language"), UNTOUCHED.values(), ids=UNTOUCHED)
def test_good_text_is_not_changed(text: str, language: str) -> None:
    assert cleaned(text, language) == (unicodedata.normalize("NFC", text), [])


CLEANED = {
    "a right-to-left override": ("abc\u202edef", "abcdef", "TEXT_BIDI"),
    "isolates": ("\u2066abc\u2069", "abc", "TEXT_BIDI"),
    "zero-width characters": ("a\u200bb\u200dc\ufeffd", "abcd", "TEXT_BIDI"),
    "a soft hyphen": ("hy\u00adphen", "hyphen", "TEXT_BIDI"),
    "an invisible filler": ("a\u3164b", "ab", "TEXT_BIDI"),
    "emoji": ("good 😀", "good", "TEXT_DROPPED_CHARS"),
    "a heart with its selector": ("love ❤\ufe0f you", "love  you", "TEXT_DROPPED_CHARS"),
    "a keycap": ("press 1\u20e3", "press 1", "TEXT_DROPPED_CHARS"),
    "private use": ("a\ue000b", "ab", "TEXT_DROPPED_CHARS"),
    "supplementary private use": ("a\U000f0000b", "ab", "TEXT_DROPPED_CHARS"),
    "unassigned": ("a\u0378b", "ab", "TEXT_DROPPED_CHARS"),
    "a tag": ("a\U000e0041b", "ab", "TEXT_DROPPED_CHARS"),
}


@pytest.mark.parametrize(("text", "expected", "code"), CLEANED.values(), ids=CLEANED)
def test_unspeakable_characters_are_removed_with_a_notice(
    text: str, expected: str, code: str
) -> None:
    assert cleaned(text) == (expected, [code])


def test_the_dropped_characters_are_named() -> None:
    def message(text: str) -> str:
        return clean_text.clean(text, language="en", limit=100, pointer="/text")[1][0].message

    begin = "Characters that cannot be spoken were dropped: "
    assert message("good 😀😀 \ue000") == f"{begin}😀 (U+1F600), U+E000."
    assert message("😀😁😂😃😄😅😆 a").endswith("😄 (U+1F604) and 2 more.")


def test_joined_emoji_are_removed_completely() -> None:
    assert cleaned("hi 👨‍👩‍👧!") == ("hi !", ["TEXT_BIDI", "TEXT_DROPPED_CHARS"])


@pytest.mark.parametrize("end", ["\r\n", "\r", "\u2028", "\u2029"])
def test_line_ends_become_newlines(end: str) -> None:
    assert cleaned(f"one{end}two") == ("one\ntwo", [])


def test_space_around_the_text_is_removed() -> None:
    assert cleaned(" \n hello\t ") == ("hello", [])


OTHER_SCRIPT = {
    "chinese for english": ("你好世界", "en"),
    "mostly chinese for english": ("你好世界 ok", "en"),
    "cyrillic for english": ("Привет мир", "en"),
    "english for chinese": ("hello there", "zh"),
    "japanese for chinese": ("これはペンです", "zh"),
    "korean for japanese": ("안녕하세요", "ja"),
    "japanese for korean": ("これはペンです", "ko"),
    "english for cantonese": ("hello", "yue"),
}


@pytest.mark.parametrize(("text", "language"), OTHER_SCRIPT.values(), ids=OTHER_SCRIPT)
def test_another_script_gets_a_notice(text: str, language: str) -> None:
    assert cleaned(text, language) == (text, ["LANGUAGE_MISMATCH"])


REFUSED = {
    "empty": ("", "TEXT_EMPTY"),
    "ideographic spaces": ("\u3000\u3000", "TEXT_EMPTY"),
    "line ends": ("\r\n\r\n", "TEXT_EMPTY"),
    "punctuation": ("。！？", "TEXT_UNSPEAKABLE"),
    "zero width only": ("\u200b\u200b", "TEXT_UNSPEAKABLE"),
    "private use only": ("\ue000", "TEXT_UNSPEAKABLE"),
    "a combining mark alone": ("\u0301", "TEXT_UNSPEAKABLE"),
    "nine marks": ("a" + "\u0301" * 9, "TEXT_COMBINING_LIMIT"),
    "nine marks between invisibles": ("a" + "\u0301\u200b" * 9, "TEXT_COMBINING_LIMIT"),
    "nine marks between emoji": ("a" + "\u0301😀" * 9, "TEXT_COMBINING_LIMIT"),
    "vertical tab": ("a\vb", "TEXT_CONTROL"),
    "delete": ("a\x7f", "TEXT_CONTROL"),
    "low surrogate": ("a\udfff", "TEXT_SURROGATE"),
    "too long": ("a" * 5001, "TEXT_TOO_LONG"),
}


@pytest.mark.parametrize(("text", "code"), REFUSED.values(), ids=REFUSED)
def test_text_that_cannot_be_cleaned_is_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        cleaned(text)
    assert (caught.value.code, caught.value.pointer) == (code, "/text")


def test_eight_combining_marks_are_accepted() -> None:
    assert cleaned("a" + "\u0323" * 8 + "b")[1] == []
