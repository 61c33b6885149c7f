"""An error in one item fails that item alone, with a pointer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.manifest import resolve
from core.manifest.parse import Limits
from tests.support.manifests import ITEM, VOICE, encode, item_error, lines, manifest, of_item

TWO = {"voices": {"alice": VOICE, "bob": VOICE}}

ITEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no text": ({"text": None}, "SCHEMA_TYPE", "/text"),
    "a text that is a number": ({"text": 1}, "SCHEMA_TYPE", "/text"),
    "an empty text": ({"text": ""}, "TEXT_EMPTY", "/text"),
    "a text of spaces": ({"text": " \t\r\n\u3000"}, "TEXT_EMPTY", "/text"),
    "a text of punctuation": ({"text": "?!... —— ……"}, "TEXT_UNSPEAKABLE", "/text"),
    "a text of emoji": ({"text": "😀👨‍👩‍👧🇨🇳"}, "TEXT_UNSPEAKABLE", "/text"),
    "a long text": ({"text": "a" * 5001}, "TEXT_TOO_LONG", "/text"),
    "a million characters": ({"text": "a" * 1_000_000}, "TEXT_TOO_LONG", "/text"),
    "a NUL": ({"text": "a\0b"}, "TEXT_CONTROL", "/text"),
    "an escape": ({"text": "a\x1b[31mb"}, "TEXT_CONTROL", "/text"),
    "a C1 control": ({"text": "a\x85b"}, "TEXT_CONTROL", "/text"),
    "a lone surrogate": ({"text": "a\ud800b"}, "TEXT_SURROGATE", "/text"),
    "10,000 combining marks": ({"text": "a" + "\u0301" * 4999}, "TEXT_COMBINING_LIMIT", "/text"),
    "an id with a slash": ({"id": "a/b"}, "ID_INVALID", "/id"),
    "an id of two dots": ({"id": ".."}, "ID_INVALID", "/id"),
    "an id with a space": ({"id": "a b"}, "ID_INVALID", "/id"),
    "an id with an emoji": ({"id": "a😀"}, "ID_INVALID", "/id"),
    "an id of 65 characters": ({"id": "a" * 65}, "ID_INVALID", "/id"),
    "an empty id": ({"id": ""}, "ID_INVALID", "/id"),
    "an id with a newline": ({"id": "a\n"}, "ID_INVALID", "/id"),
    "an id that is a number": ({"id": 7}, "SCHEMA_TYPE", "/id"),
    "a misspelt field": ({"txet": "x"}, "UNKNOWN_FIELD", "/txet"),
    "a lone surrogate in a field's name": ({"\ud800": 1}, "UNKNOWN_FIELD", "/\\ud800"),
    "speed 0": ({"speed": 0}, "VALUE_RANGE", "/speed"),
    "speed -1": ({"speed": -1}, "VALUE_RANGE", "/speed"),
    "speed 1e308": ({"speed": 1e308}, "VALUE_RANGE", "/speed"),
    "speed as text": ({"speed": "1.0"}, "SCHEMA_TYPE", "/speed"),
    "speed true": ({"speed": True}, "SCHEMA_TYPE", "/speed"),
    "a seed with a fraction": ({"seed": 1.0}, "SCHEMA_TYPE", "/seed"),
    "a seed of 33 bits": ({"seed": 2**32}, "VALUE_RANGE", "/seed"),
    "an integer of 17 digits": ({"seed": 10**16}, "NUMBER_RANGE", ""),
    "an integer of 4,000 digits": ({"seed": 10**3999}, "NUMBER_RANGE", ""),
    "a pause of a minute": ({"pause_ms": 60_000}, "VALUE_RANGE", "/pause_ms"),
    "an unknown container": ({"format": "aac"}, "VALUE_RANGE", "/format"),
    "a container that is a number": ({"format": 1}, "SCHEMA_TYPE", "/format"),
    "an unknown rate": ({"sample_rate": 32001}, "VALUE_RANGE", "/sample_rate"),
    "a rate that Opus does not support": (
        {"format": "opus", "sample_rate": 44100},
        "VALUE_RANGE",
        "/sample_rate",
    ),
    "a language with a region": ({"language": "en-US"}, "LANGUAGE_UNSUPPORTED", "/language"),
    "an undefined voice": ({"voice": "bob"}, "VOICE_UNKNOWN", "/voice"),
    "meta that is a list": ({"meta": []}, "SCHEMA_TYPE", "/meta"),
    "meta of 5 KiB": ({"meta": {"a": "x" * 5000}}, "VALUE_RANGE", "/meta"),
    "a lone surrogate in meta": ({"meta": {"a": "\ud800"}}, "TEXT_SURROGATE", "/meta"),
    "meta of 16 levels": ({"meta": json.loads('{"a":' * 14 + "1" + "}" * 14)}, "JSON_TOO_DEEP", ""),
    "lists of 16 levels": ({"meta": {"a": json.loads("[" * 13 + "]" * 13)}}, "JSON_TOO_DEEP", ""),
    "speech markup": ({"ssml": True}, "FIELD_UNSUPPORTED", "/ssml"),
    "a chapter that is not a file name": ({"chapter": "ch/01"}, "ID_INVALID", "/chapter"),
    "a pause after it that is too long": ({"after_ms": 10_001}, "VALUE_RANGE", "/after_ms"),
    "unknown subtitles": ({"subtitle": ["sub"]}, "VALUE_RANGE", "/subtitle/0"),
}


@pytest.mark.parametrize(("changes", "code", "pointer"), ITEMS.values(), ids=ITEMS)
def test_a_bad_item(changes: dict[str, Any], code: str, pointer: str) -> None:
    error = item_error(**changes)
    assert (error.code, error.pointer) == (code, f"/items/1{pointer}")


def test_an_item_that_is_not_an_object() -> None:
    items: list[object] = [ITEM, "text", [], None, "\ud800"]
    parsed = resolve.parse_job(json.dumps(manifest(items=items)).encode())
    assert [item.id for item in parsed.items] == ["hello"]
    assert [(e.index, e.error.code, e.error.pointer) for e in parsed.errors] == [
        (n, "SCHEMA_TYPE", f"/items/{n}") for n in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("literal", ["NaN", "-Infinity"])
def test_an_item_with_a_number_that_json_does_not_have(literal: str) -> None:
    data = encode(manifest(items=[ITEM, ITEM | {"id": "b", "speed": "?"}]))
    parsed = resolve.parse_job(data.replace(b'"?"', literal.encode()))
    assert [e.error.code for e in parsed.errors] == ["JSON_SYNTAX"]


def test_an_item_with_a_duplicate_key() -> None:
    data = encode(manifest(items=[ITEM, ITEM | {"id": "b"}]))
    parsed = resolve.parse_job(data.replace(b'"id": "b"', b'"id": "b", "text": "lost"'))
    error = parsed.errors[0]
    assert (error.id, error.error.code, error.error.pointer) == (
        "b",
        "JSON_DUPLICATE_KEY",
        "/items/1",
    )
    assert "'text'" in error.error.message


def test_an_item_with_a_duplicate_key_in_its_meta() -> None:
    data = encode(manifest(items=[ITEM, ITEM | {"id": "b", "meta": {"q": 1}}]))
    parsed = resolve.parse_job(data.replace(b'"q": 1', b'"q": 1, "q": 2'))
    assert [e.error.code for e in parsed.errors] == ["JSON_DUPLICATE_KEY"]


def test_a_misspelt_field_gets_a_suggestion() -> None:
    assert "Did you mean `text`?" in item_error(txet="x").message


def test_messages_name_the_wrong_character() -> None:
    assert "U+0007" in item_error(text="ding \x07").message


def test_an_item_without_a_voice_among_several() -> None:
    parsed = resolve.parse_job(encode(manifest(**TWO, items=[{"id": "a", "text": "Hello."}])))
    error = parsed.errors[0].error
    assert (error.code, error.pointer) == ("FIELD_MISSING", "/items/0/voice")


def test_errors_keep_no_traceback() -> None:
    """A job may keep a hundred thousand errors in memory."""
    error = item_error(speed="fast")
    assert error.__traceback__ is None
    assert error.__context__ is None


def test_an_error_has_the_id_of_its_item_if_valid() -> None:
    parsed = of_item(id="second", speed=0)
    assert parsed.errors[0].id == "second"
    assert of_item(id="a/b").errors[0].id == ""


DEEP_LINE = json.dumps(ITEM | {"x-deep": json.loads("[" * 14 + "]" * 14)})
LINES = {
    "a blank line": ("", "JSONL_BLANK_LINE", "line 3"),
    "white space": ("  \t", "JSONL_BLANK_LINE", "line 3"),
    "not JSON": ("{", "JSON_SYNTAX", "line 3"),
    "two documents": ("{} {}", "JSON_SYNTAX", "line 3"),
    "a long line": (json.dumps(ITEM | {"x-pad": "x" * 70_000}), "JSONL_LINE_TOO_LONG", "line 3"),
    "17 levels": (DEEP_LINE, "JSON_TOO_DEEP", "line 3"),
    "a wrong type": (json.dumps(ITEM | {"text": 1}), "SCHEMA_TYPE", "line 3/text"),
    "a list": ("[]", "SCHEMA_TYPE", "line 3"),
    "a lone surrogate": ('"\\ud800"', "SCHEMA_TYPE", "line 3"),
}


@pytest.mark.parametrize(("line", "code", "pointer"), LINES.values(), ids=LINES)
def test_a_bad_line(line: str, code: str, pointer: str) -> None:
    first, last = ITEM | {"id": "first"}, ITEM | {"id": "last"}
    parsed = resolve.parse_job(lines(first, line, last), lines=True)
    assert [(item.index, item.pointer) for item in parsed.items] == [(0, "line 2"), (2, "line 4")]
    assert [(e.index, e.error.code, e.error.pointer) for e in parsed.errors] == [(1, code, pointer)]


def test_a_line_that_is_not_utf8() -> None:
    data = lines(ITEM, "?").replace(b"?", "你好".encode("gbk"))
    assert [e.error.code for e in resolve.parse_job(data, lines=True).errors] == ["JSON_ENCODING"]


def test_a_syntax_error_names_the_line_of_the_file() -> None:
    parsed = resolve.parse_job(lines(ITEM, '{"id": 1,}'), lines=True)
    assert "line 3 column 10" in parsed.errors[0].error.message


def test_a_tenth_of_unreadable_lines_is_accepted() -> None:
    good = [ITEM | {"id": f"i{n}"} for n in range(100)]
    parsed = resolve.parse_job(lines(*good, *["not json"] * 11), lines=True)
    assert (len(parsed.items), len(parsed.errors)) == (100, 11)


def test_the_limit_of_a_text_can_be_set() -> None:
    parsed = resolve.parse_job(encode(manifest()), limits=Limits(item_chars=10))
    assert parsed.errors[0].error.code == "TEXT_TOO_LONG"
