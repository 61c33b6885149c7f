"""Errors that refuse a whole manifest: code, pointer and message."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from core.errors import Refused
from core.manifest import resolve
from core.manifest.fields import UNSUPPORTED_FIELDS
from core.manifest.parse import Limits
from core.manifest.validate import convert
from tests.support.manifests import ITEM, VOICE, encode, lines, manifest

MINIMAL = encode(manifest())
DEEP = b"[" * 100_000 + b"]" * 100_000


def refused(data: bytes, *, lines: bool = False, limits: Limits = resolve.LIMITS) -> Refused:
    with pytest.raises(Refused) as caught:
        resolve.parse_job(data, lines=lines, limits=limits)
    return caught.value


BYTES = {
    "an empty file": (b"", "MANIFEST_EMPTY", ""),
    "white space": (b" \r\n\t\n", "MANIFEST_EMPTY", ""),
    "a byte order mark alone": (b"\xef\xbb\xbf\n", "MANIFEST_EMPTY", ""),
    "a comment": (b'{"a": 1, // one\n "b": 2}', "JSON_SYNTAX", "JSON has no comments"),
    "a comment before": (b"# a job\n" + MINIMAL, "JSON_SYNTAX", "JSON has no comments"),
    "a table": (b"id,text\na,Words\n", "JSON_SYNTAX", "This looks like CSV"),
    "prose": (b"hello", "JSON_SYNTAX", "line 1 column 1"),
    "text after the document": (MINIMAL + b"\n{}", "JSON_SYNTAX", "line 2 column 1"),
    "comma before the end of an object": (b'{"a": 1,}', "JSON_SYNTAX", "line 1 column 9"),
    "comma before the end of the items": (
        MINIMAL.replace(b"}]", b"},]"),
        "JSON_SYNTAX",
        "comma",
    ),
    "comma missing": (b'{"a": 1\n "b": 2}', "JSON_SYNTAX", "line 2 column 2"),
    "comma missing between items": (b'{"items": [{} {}]}', "JSON_SYNTAX", "line 1 column 15"),
    "comma missing inside an item": (b'{"items": [{"a": 1 "b": 2}]}', "JSON_SYNTAX", "','"),
    "colon missing": (b'{"a" 1}', "JSON_SYNTAX", "':'"),
    "key without quotes": (b"{a: 1}", "JSON_SYNTAX", "key in double quotes"),
    "single quotes": (b"{'a': 1}", "JSON_SYNTAX", "key in double quotes"),
    "comment": (b'{"a": 1} // why', "JSON_SYNTAX", "Unexpected text after"),
    "comment inside": (b'{/* why */ "a": 1}', "JSON_SYNTAX", "line 1 column 2"),
    "truncated in a string": (MINIMAL[:60], "JSON_SYNTAX", "Unterminated string"),
    "truncated after a member": (b'{"a": 1', "JSON_SYNTAX", "line 1 column 8"),
    "a raw newline in a string": (b'{"a": "x\ny"}', "JSON_SYNTAX", "control character"),
    "a NUL in a string": (b'{"schema": "x\0y"}', "JSON_SYNTAX", "control character"),
    "UTF-16 with a mark": (MINIMAL.decode().encode("utf-16"), "JSON_ENCODING", "UTF-16"),
    "UTF-16 little endian": (MINIMAL.decode().encode("utf-16-le"), "JSON_ENCODING", "UTF-16"),
    "UTF-16 big endian": (MINIMAL.decode().encode("utf-16-be"), "JSON_ENCODING", "UTF-16 (big"),
    "UTF-32 with a mark": (MINIMAL.decode().encode("utf-32"), "JSON_ENCODING", "UTF-32"),
    "UTF-32 little endian": (MINIMAL.decode().encode("utf-32-le"), "JSON_ENCODING", "UTF-32"),
    "UTF-32 big endian": (MINIMAL.decode().encode("utf-32-be"), "JSON_ENCODING", "UTF-32 (big"),
    "GBK": ('{"schema": "你好世界"}'.encode("gbk"), "JSON_ENCODING", "GBK"),
    "Shift-JIS": ('{"schema": "こんにちは"}'.encode("shift_jis"), "JSON_ENCODING", "Shift-JIS"),
    "Latin-1": ('{"schema": "déjà vu"}'.encode("latin-1"), "JSON_ENCODING", "Latin-1"),
    "invalid UTF-8": (b'{"a":\n"\xff\xfe\xff"}', "JSON_ENCODING", "Line 2"),
    "bytes of no known encoding": (b'{"a": "\x81\x20\x8d\xff"}', "JSON_ENCODING", "not UTF-8:"),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0", "JSON_ENCODING", "gzip"),
    "zip": (b"PK\x03\x04" + bytes(30), "JSON_ENCODING", "zip"),
    "an array": (b"[]", "SCHEMA_TYPE", "one JSON object"),
    "a string": (b'"manifest"', "SCHEMA_TYPE", "one JSON object"),
    "100,000 levels": (DEEP, "JSON_TOO_DEEP", "16 levels"),
    "100,000 levels in an item": (
        b'{"items": [{"meta": ' + DEEP + b"}]}",
        "JSON_TOO_DEEP",
        "16 levels",
    ),
    "no fields at all": (b"{}", "SCHEMA_UNSUPPORTED", "voicedrop/job/1"),
}


@pytest.mark.parametrize(("data", "code", "words"), BYTES.values(), ids=BYTES)
def test_bytes_that_are_not_a_manifest(data: bytes, code: str, words: str) -> None:
    error = refused(data)
    assert error.code == code
    assert words in error.message


SYNTAX = {
    "a key that is not a string": ('{"a": {1: 2}}', "Expecting a key in double quotes", 1, 8),
    "a key in curly quotes": (
        '{"a": 1, \u201cb\u201d: 2}',
        'Expecting a key in double quotes. Write " in place of \u201c',
        1,
        10,
    ),
    "a text in curly quotes": (
        '{"items": [{"text": \u201eb\u201c}]}',
        'Expecting a value. Write " in place of \u201e',
        1,
        21,
    ),
    "no colon": ('{"a": {"b" 2}}', "Expecting ':'", 1, 12),
    "no comma": ('{"a": [1 2]}', "Expecting ','", 1, 10),
    "no value": ('{"a": [1, nul]}', "Expecting a value", 1, 11),
    "no end of a string": ('{"a": "b}', "Unterminated string", 1, 7),
    "a raw tab": ('{"a": "\t"}', "A control character in a string must be escaped", 1, 8),
    "an unknown escape": ('{"a": "\\x"}', "Invalid escape", 1, 8),
    "a short escape": ('{"a": "\\u12"}', "\\u must be followed by four hexadecimal digits", 1, 9),
    "a comma at the end of an object": (
        '{"a": {"b": 1, \n }}',
        "Trailing comma",
        2,
        2,
    ),
    "a comma at the end of an array": (
        '{"a": [1,]}',
        "Trailing comma",
        1,
        10,
    ),
    "only a comma": ('{"a": [,]}', "Expecting a value", 1, 8),
}


@pytest.mark.parametrize(("text", "reason", "line", "column"), SYNTAX.values(), ids=SYNTAX)
def test_a_syntax_error_has_the_same_message_in_every_python(
    text: str, reason: str, line: int, column: int
) -> None:
    assert refused(text.encode()).message == f"{reason}: line {line} column {column}."


FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another major version": ({"schema": "voicedrop/job/2"}, "SCHEMA_UNSUPPORTED", "/schema"),
    "a schema that is a number": ({"schema": 1}, "SCHEMA_UNSUPPORTED", "/schema"),
    "an unknown field": ({"colour": "red"}, "UNKNOWN_FIELD", "/colour"),
    "an unknown field that needs escapes": ({"a/b~c": 1}, "UNKNOWN_FIELD", "/a~1b~0c"),
    "an unknown field in defaults": ({"defaults": {"sped": 1}}, "UNKNOWN_FIELD", "/defaults/sped"),
    "no voices": ({"voices": {}}, "FIELD_MISSING", "/voices"),
    "voices of the wrong type": ({"voices": []}, "SCHEMA_TYPE", "/voices"),
    "a voice of the wrong type": ({"voices": {"a": 1}}, "SCHEMA_TYPE", "/voices/a"),
    "33 voices": ({"voices": {f"v{n}": VOICE for n in range(33)}}, "VALUE_RANGE", "/voices"),
    "a voice without a reference": (
        {"voices": {"alice": {"language": "en"}}},
        "FIELD_MISSING",
        "/voices/alice/reference",
    ),
    "a voice with a name like a path": ({"voices": {"../a": VOICE}}, "ID_INVALID", "/voices/..~1a"),
    "an invalid hash": (
        {"voices": {"alice": VOICE | {"sha256": "abc"}}},
        "VALUE_RANGE",
        "/voices/alice/sha256",
    ),
    "a transcript with control characters": (
        {"voices": {"alice": VOICE | {"transcript": "a\x07b"}}},
        "TEXT_CONTROL",
        "/voices/alice/transcript",
    ),
    "a long transcript": (
        {"voices": {"alice": VOICE | {"transcript": "a" * 2001}}},
        "VALUE_RANGE",
        "/voices/alice/transcript",
    ),
    "a reference on the web": (
        {"voices": {"alice": VOICE | {"reference": "https://x.example/a.wav"}}},
        "REF_FORBIDDEN",
        "/voices/alice/reference",
    ),
    "a consent record outside the bucket": (
        {"voices": {"alice": VOICE | {"consent": "../c.json"}}},
        "KEY_INVALID",
        "/voices/alice/consent",
    ),
    "no items": ({"items": []}, "ITEMS_EMPTY", "/items"),
    "items of the wrong type": ({"items": {"a": ITEM}}, "SCHEMA_TYPE", "/items"),
    "items that are text": ({"items": "jsonl"}, "SCHEMA_TYPE", "/items"),
    "two items with one id": ({"items": [ITEM, ITEM]}, "DUPLICATE_ID", "/items/1/id"),
    "two ids that differ by case": (
        {"items": [ITEM, ITEM | {"id": "HELLO"}]},
        "DUPLICATE_ID",
        "/items/1/id",
    ),
    "the id of a bad item repeated": (
        {"items": [ITEM | {"text": ""}, ITEM]},
        "DUPLICATE_ID",
        "/items/1/id",
    ),
    "a job id with a slash": ({"id": "a/b"}, "ID_INVALID", "/id"),
    "an undefined default voice": (
        {"defaults": {"voice": "alicia"}},
        "VOICE_UNKNOWN",
        "/defaults/voice",
    ),
    "a default speed of 0": ({"defaults": {"speed": 0}}, "VALUE_RANGE", "/defaults/speed"),
    "defaults of the wrong type": ({"defaults": []}, "SCHEMA_TYPE", "/defaults"),
    "a lone surrogate for the defaults": ({"defaults": "\ud800"}, "SCHEMA_TYPE", "/defaults"),
    "a negative wait": ({"wait_s": -1}, "VALUE_RANGE", "/wait_s"),
    "a wait of a fraction": ({"wait_s": 1.0}, "SCHEMA_TYPE", "/wait_s"),
    "true for a number": ({"wait_s": True}, "SCHEMA_TYPE", "/wait_s"),
    "text for a number": ({"wait_s": "1"}, "SCHEMA_TYPE", "/wait_s"),
    "a label that is a number": ({"labels": {"a": 1}}, "SCHEMA_TYPE", "/labels/a"),
    "33 labels": ({"labels": {f"l{n}": "" for n in range(33)}}, "VALUE_RANGE", "/labels"),
    "a label without a name": ({"labels": {"": "a"}}, "VALUE_RANGE", "/labels/"),
    "a label with a long name": (
        {"labels": {"n" * 65: "a"}},
        "VALUE_RANGE",
        f"/labels/{'n' * 65}",
    ),
    "a lone surrogate in a label": ({"labels": {"a": "\ud800"}}, "TEXT_SURROGATE", "/labels/a"),
    "a producer in Chinese": ({"label": {"producer": "公司"}}, "LABEL_CHARSET", "/label/producer"),
    "a producer with a space": ({"label": {"producer": "a b"}}, "LABEL_CHARSET", "/label/producer"),
    "an unknown cue": ({"label": {"cue": "bell"}}, "VALUE_RANGE", "/label/cue"),
    "no label and no waiver": ({"label": {"profile": "none"}}, "FIELD_MISSING", "/label/waiver"),
    "a lone surrogate in the waiver": (
        {"label": {"profile": "none", "waiver": "\udc00"}},
        "TEXT_SURROGATE",
        "/label/waiver",
    ),
    "a number of 5,000 digits": ({"x-n": 10**4000}, "NUMBER_RANGE", "/x-n"),
    "17 levels": (
        {"x-deep": json.loads("[" * 16 + "]" * 16)},
        "JSON_TOO_DEEP",
        "/x-deep",
    ),
}


@pytest.mark.parametrize(("changes", "code", "pointer"), FIELDS.values(), ids=FIELDS)
def test_invalid_fields(changes: dict[str, Any], code: str, pointer: str) -> None:
    error = refused(json.dumps(manifest(**changes)).encode())
    assert (error.code, error.pointer) == (code, pointer)


UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "priority": ({"priority": "high"}, "/priority"),
    "the producer's own key": ({"encrypt": {"key": "kms:alias/voices"}}, "/encrypt"),
    "unencrypted outputs": ({"encrypt": {"enabled": False}}, "/encrypt"),
    "one for true": ({"encrypt": {"enabled": 1}}, "/encrypt"),
    "no events": ({"notify": {"events": False}}, "/notify"),
    "an output prefix": ({"output": {"prefix": "book/"}}, "/output/prefix"),
    "markup": ({"markup": True}, "/markup"),
    "unnormalised text": ({"defaults": {"normalize_text": False}}, "/defaults/normalize_text"),
    "visible text": ({"label": {"visible_text": None}}, "/label/visible_text"),
    "the European profile": ({"label": {"profile": "cn+eu"}}, "/label/profile"),
    "a spoken cue": ({"label": {"cue": "spoken-start"}}, "/label/cue"),
}


@pytest.mark.parametrize(("changes", "pointer"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_an_unsupported_field_or_value_is_refused_with_its_pointer(
    changes: dict[str, Any], pointer: str
) -> None:
    error = refused(encode(manifest(**changes)))
    assert (error.code, error.pointer) == ("FIELD_UNSUPPORTED", pointer)


def test_a_misspelt_field_gets_a_suggestion() -> None:
    assert "Did you mean `voices`?" in refused(encode(manifest(voice={}))).message


@pytest.mark.parametrize("type_", UNSUPPORTED_FIELDS)
def test_every_field_that_belongs_elsewhere_is_answered_with_its_place(
    type_: type[msgspec.Struct],
) -> None:
    own = {*type_.__struct_fields__, *UNSUPPORTED_FIELDS[type_]}
    elsewhere = {name for other in UNSUPPORTED_FIELDS for name in other.__struct_fields__} - own
    assert elsewhere
    for name in elsewhere:
        with pytest.raises(Refused, match=f"UNKNOWN_FIELD: `{name}` belongs .*, not here"):
            convert({name: None}, type_, "")


def test_the_place_of_a_field_is_named() -> None:
    error = refused(encode(manifest(output={"subtitle": ["srt"]})))
    message = "`subtitle` belongs in an item or in `defaults`, not here."
    assert (error.message, error.pointer) == (message, "/output/subtitle")


def test_the_word_of_another_format_gets_a_suggestion() -> None:
    assert "Did you mean `voice`?" in refused(encode(manifest(defaults={"speaker": "me"}))).message


def test_the_beginning_of_a_field_gets_a_suggestion() -> None:
    error = refused(encode(manifest(voices={"alice": {"ref": "refs/alice.flac"}})))
    assert "Did you mean `reference`?" in error.message


def test_a_misspelt_voice_gets_a_suggestion() -> None:
    assert "Did you mean `alice`?" in refused(encode(manifest(defaults={"voice": "alise"}))).message


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have(literal: str) -> None:
    error = refused(MINIMAL.replace(b'"schema"', f'"wait_s": {literal}, "schema"'.encode()))
    assert (error.code, error.pointer) == ("JSON_SYNTAX", "/wait_s")


def test_a_float_that_overflows() -> None:
    error = refused(MINIMAL.replace(b'"schema"', b'"wait_s": 1e999, "schema"'))
    assert (error.code, error.pointer) == ("NUMBER_RANGE", "/wait_s")


@pytest.mark.parametrize(
    ("member", "duplicate", "pointer"),
    [
        (b'"schema"', b'"schema": "voicedrop/job/1", "schema"', "/schema"),
        (b'"items"', b'"items": [], "items"', "/items"),
        (b'"language"', b'"language": "zh", "language"', "/voices"),
    ],
    ids=["at the top", "the items", "in a voice"],
)
def test_a_duplicate_key(member: bytes, duplicate: bytes, pointer: str) -> None:
    error = refused(MINIMAL.replace(member, duplicate))
    assert (error.code, error.pointer) == ("JSON_DUPLICATE_KEY", pointer)


def test_a_manifest_larger_than_the_limit() -> None:
    error = refused(MINIMAL, limits=Limits(manifest_bytes=len(MINIMAL) - 1))
    assert error.code == "MANIFEST_TOO_LARGE"


def test_too_many_items() -> None:
    items = [ITEM | {"id": f"i{n}"} for n in range(4)]
    error = refused(encode(manifest(items=items)), limits=Limits(items=3))
    assert (error.code, error.pointer) == ("ITEMS_TOO_MANY", "/items/3")


def test_the_texts_of_a_job_are_too_long_together() -> None:
    items = [ITEM | {"id": f"i{n}", "text": "a" * 10} for n in range(4)]
    error = refused(encode(manifest(items=items)), limits=Limits(job_chars=39))
    assert (error.code, error.pointer) == ("TEXT_TOO_LONG", "/items")


HEADERS = {
    "no header": (lines(header=ITEM), "JSONL_HEADER", "line 1"),
    "a header that is a list": (lines(ITEM, header=[]), "JSONL_HEADER", "line 1"),
    "items in the header": (lines(header=manifest()), "JSONL_HEADER", "/items"),
    "a second header": (lines(manifest()), "JSONL_HEADER", "line 2"),
    "only a header": (lines(), "ITEMS_EMPTY", ""),
    "an empty file": (b"", "MANIFEST_EMPTY", ""),
    "a blank first line": (b"\n" + lines(ITEM), "MANIFEST_EMPTY", ""),
    "a duplicate key": (
        lines(ITEM).replace(b'"schema"', b'"schema":1,"schema"'),
        "JSON_DUPLICATE_KEY",
        "line 1",
    ),
    "a wrong field": (
        lines(ITEM, header=manifest(voices={}, items="jsonl")),
        "FIELD_MISSING",
        "/voices",
    ),
    "UTF-16": (lines(ITEM).decode().encode("utf-16"), "JSON_ENCODING", ""),
    "a duplicate id": (lines(ITEM, ITEM), "DUPLICATE_ID", "line 3/id"),
}


@pytest.mark.parametrize(("data", "code", "pointer"), HEADERS.values(), ids=HEADERS)
def test_json_lines_that_are_not_a_manifest(data: bytes, code: str, pointer: str) -> None:
    error = refused(data, lines=True)
    assert (error.code, error.pointer) == (code, pointer)


def test_json_lines_with_more_than_a_tenth_unreadable() -> None:
    good = [ITEM | {"id": f"i{n}"} for n in range(90)]
    error = refused(lines(*good, *["not json"] * 11), lines=True)
    assert error.code == "JSON_SYNTAX"
    assert "11 of 101" in error.message


def test_json_lines_with_too_many_items() -> None:
    items = [ITEM | {"id": f"i{n}"} for n in range(4)]
    error = refused(lines(*items), lines=True, limits=Limits(items=3))
    assert (error.code, error.pointer) == ("ITEMS_TOO_MANY", "line 5")
