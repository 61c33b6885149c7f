"""Lexicons: what is refused, and which words they change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import Refused
from core.text import lexicon
from core.text.annotated import find_annotations
from core.text.lexicon import Lexicon
from tests.acceptance.lexicon import TERMS, engines_of, is_said

ALL = frozenset({"en", "ja", "ko", "yue", "zh"})


def document(*entries: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"schema": lexicon.SCHEMA, "entries": entries} | fields).encode()


def say(term: str, words: str, language: str = "en", **fields: Any) -> dict[str, Any]:
    return {"term": term, "language": language, "as": words} | fields


LEXICON = lexicon.parse(
    document(
        {"term": "Nguyen", "language": "en", "phonemes": "W IH1 N"},
        say("New York", "Gotham"),
        say("York", "Yorkshire"),
        say("IT", "eye tee"),
        say("polish", "shine", case="exact"),
        say("C++", "see plus plus"),
        say("iPhone", "eye phone"),
        say("iPhone", "爱疯", "zh"),
        say("SQL", "squirrel"),
        say("SQL", "sequel", voice="alice"),
        {"term": "重庆", "language": "zh", "phonemes": "chong2 qing4"},
        say("重", "虫", "zh"),
        say("東京", "トーキョー", "ja"),
        say("서울", "셔울", "ko"),
    ),
    "lex.json",
)


def readings(text: str, language: str = "en", voice: str = "", found: Lexicon = LEXICON) -> str:
    """Return what the lexicon says about each term in a text."""
    annotations = find_annotations(found.annotate(text, language, voice, ALL))
    return ", ".join(f"{a.written}: {a.words or a.phonemes}" for a in annotations)


@pytest.mark.parametrize(
    ("language", "text", "read"),
    [
        ("en", "In New York, in york.", "New York: Gotham, york: Yorkshire"),
        ("en", "NGUYEN nguyens Nguyenx Xnguyen nguyen3 _nguyen", "NGUYEN: W IH1 N"),
        ("en", "Nguyen's and iPhone’s", "Nguyen's: W IH1 N Z, iPhone’s: eye phone's"),
        ("en", "Nguyen'd", ""),
        ("en", "IT is it. It?", "IT: eye tee"),
        ("en", "Polish polish", "polish: shine"),
        ("en", "C++, C+++ and C", "C++: see plus plus, C++: see plus plus"),
        ("en", "see nguyen.com or a@nguyen.org", ""),
        ("en", "ｎｇｕｙｅｎ", "ｎｇｕｙｅｎ: W IH1 N"),
        ("en", "an iPhone in 重庆 and 東京", "iPhone: eye phone, 重庆: chong2 qing4"),
        ("zh", "在重庆很重，用iPhone", "重庆: chong2 qing4, 重: 虫, iPhone: 爱疯"),
        ("ja", "東京の重庆でSQL", "東京: トーキョー, SQL: squirrel"),
        ("ko", "서울은 큰서울", "서울: 셔울"),
        ("en", "", ""),
    ],
)  # fmt: skip
def test_the_longest_whole_word_in_its_language_counts(language: str, text: str, read: str) -> None:
    assert readings(text, language) == read


def test_an_entry_for_a_voice_holds_for_it_alone() -> None:
    assert readings("SQL", voice="alice") == "SQL: sequel"
    assert readings("SQL", voice="bob") == "SQL: squirrel"


def test_readings_that_the_engine_does_not_speak_are_left_alone() -> None:
    assert LEXICON.annotate("서울 重庆", "ko", "", frozenset({"en", "zh"})).startswith("서울 ")


@pytest.mark.parametrize(
    ("data", "pointer", "named"),
    [
        (b"[", "lex.json", "not JSON"),
        (b"{}", "lex.json", "voicedrop/lexicon/1"),
        (document(), "lex.json#/entries", "length"),
        (document(say("a", "b"), x=1), "lex.json#/x", "no field"),
        (document(say("a", "b", "fr")), "lex.json#/entries/0/language", "en, ja, ko, yue, zh"),
        (document({"term": "a", "language": "en"}), "lex.json#/entries/0", "either"),
        (document(say("a", "b", phonemes="AH0")), "lex.json#/entries/0", "either"),
        (document(say("a", "b", alphabet="ipa")), "lex.json#/entries/0", "alphabet"),
        (document(say("", "b")), "lex.json#/entries/0/term", "length"),
        (document(say("a" * 101, "b")), "lex.json#/entries/0/term", "length"),
        (document(say(" a", "b")), "lex.json#/entries/0/term", "spaces"),
        (document(say("a\u200b", "b")), "lex.json#/entries/0/term", "characters"),
        (document(say("e\u0301", "b")), "lex.json#/entries/0/term", "NFC"),
        (document(say(",", "b")), "lex.json#/entries/0/term", "no letter"),
        (document(say("a", "\ufff9b")), "lex.json#/entries/0/as", "characters"),
        (document(say("a", "b" * 201)), "lex.json#/entries/0/as", "length"),
        (document(say("ab", "b"), say("Ab", "c")), "lex.json#/entries/1/term", "already"),
        (
            document(say("a", "b"), {"term": "b", "language": "en", "phonemes": "QQ"}),
            "lex.json#/entries/1/phonemes",
            "QQ",
        ),
        pytest.param(b" " * (lexicon.MAX_BYTES + 1), "lex.json", "bytes", id="too large"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_lexicon_is_named(data: bytes, pointer: str, named: str) -> None:
    with pytest.raises(Refused) as refused:
        lexicon.parse(data, "lex.json")
    assert (refused.value.code, refused.value.pointer) == ("LEXICON_INVALID", pointer)
    assert named in refused.value.message


def test_other_errors_are_counted() -> None:
    with pytest.raises(Refused, match="1 more entries"):
        lexicon.parse(document(say("", "b"), say(" ", "b")), "lex.json")


def test_a_lexicon_that_is_written_is_read_as_it_was() -> None:
    entries = [reading.entry for reading in LEXICON.readings]
    again = lexicon.parse(lexicon.dump(entries), "lex.json")
    assert [reading.entry for reading in again.readings] == entries


def test_many_entries_take_linear_time() -> None:
    many = lexicon.parse(document(*(say(f"term{n}", f"word {n}") for n in range(2000))), "lex.json")
    text = "term5 and term1999 " * 200
    assert len(find_annotations(many.annotate(text, "en", "", ALL))) == 400


@pytest.mark.slow
def test_forty_terms_in_five_languages_are_read_as_stated_by_both_engines() -> None:
    assert [
        (t.language, t.written) for t in TERMS for e in engines_of(t) if not is_said(t, e)
    ] == []
    assert len(TERMS) == 40
