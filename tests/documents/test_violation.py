"""Violations are found exactly when msgspec finds them, with messages for users."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as types

from core.consent import records
from core.documents import violation
from core.errors import REFUSED, Refused
from core.manifest import validate
from core.manifest.fields import Defaults, Delivery, Item, Label, Manifest, Voice
from tests.support.manifests import ITEM, VOICE, manifest

RECORD = {
    "schema": "voicedrop/consent/1",
    "id": "consent-1",
    "subject": {"name": "Alice"},
    "controller": "Example Ltd",
    "purposes": ["tests"],
    "scope": {"languages": ["en"], "channels": []},
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": None,
    "method": "own-voice",
    "statement_text": "I agree.",
    "statement_audio": {"key": "a.wav", "sha256": "0" * 64},
    "ref_audio_sha256": ["0" * 64],
    "created_by": "studio",
}
GOOD: list[tuple[type[msgspec.Struct], dict[str, Any]]] = [
    (Item, ITEM | {"speed": 1, "seed": 7, "subtitle": ["srt"], "meta": {"a": None}}),
    (Defaults, {"format": "flac", "sample_rate": 24000, "speed": 0.5, "chapter": None}),
    (Voice, VOICE | {"sha256": "0" * 64}),
    (Label, {"profile": "none", "waiver": "a test", "producer": "p"}),
    (Delivery, {"concatenate": "book", "titles": {"a": "One"}}),
    (Manifest, manifest(labels={"a": "b"}, wait_s=0, mode="validate", retry_of="0" * 32)),
    (records.Consent, RECORD),
]
OTHERS = st.sampled_from(
    [
        *(None, True, 0, 1, -1, 1.0, 0.5, 2**40, 1e300, 24000),
        *(
            "",
            "a",
            "en",
            "wav",
            "none",
            "a\n",
            "x" * 5000,
            "2026-01-01",
            "2026-01-01T00:00:00",
            "\ud800",
        ),
        *([], [1], ["srt"], {}, {"a": 1}),
    ]
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, name)
        if isinstance(part, dict | list):
            yield from paths(part, (*path, name))


@st.composite
def altered(draw: st.DrawFn) -> tuple[type[msgspec.Struct], Any]:
    """A document in which one value is changed or removed, or an unknown field is added."""
    type_, good = draw(st.sampled_from(GOOD))
    value = json.loads(json.dumps(good))
    *parents, last = draw(st.sampled_from(list(paths(value))))
    place = value
    for parent in parents:
        place = place[parent]
    change = draw(st.sampled_from(["other", "removed", "unknown"]))
    if change == "removed":
        del place[last]
    elif change == "unknown" and isinstance(place, dict):
        place["colour"] = draw(OTHERS)
    else:
        place[last] = draw(OTHERS)
    return type_, value


def fits(value: Any, type_: type[msgspec.Struct]) -> bool:
    """Whether msgspec accepts the fields; checks in __post_init__ are ignored."""
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as exc:
        return exc.__cause__ is not None
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.slow
@settings(max_examples=600, deadline=None, database=None, derandomize=True)
@given(altered())
def test_a_violation_is_found_exactly_when_there_is_one(case: tuple[type[Any], Any]) -> None:
    type_, value = case
    found = violation.find_violation(value, type_)
    assert (found is None) is fits(value, type_), found


@pytest.mark.parametrize(("type_", "good"), GOOD, ids=lambda one: getattr(one, "__name__", ""))
def test_valid_documents_have_no_violation(
    type_: type[msgspec.Struct], good: dict[str, Any]
) -> None:
    assert violation.find_violation(good, type_) is None
    assert fits(good, type_)


MESSAGES: dict[str, tuple[type[msgspec.Struct], dict[str, Any], str, str]] = {
    "a type": (Item, {"text": 1}, "/text", "Expected a string, not an integer."),
    "null": (Item, {"text": None}, "/text", "Expected a string, not null."),
    "a fraction": (Item, {"seed": 1.5}, "/seed", "Expected an integer, not a decimal number."),
    "true": (Item, {"speed": True}, "/speed", "Expected a number, not true or false."),
    "an array": (Item, {"meta": []}, "/meta", "Expected an object, not an array."),
    "too small": (Item, {"speed": 0}, "/speed", "Expected 0.5 to 2.0."),
    "too long": (Label, {"waiver": "x" * 501}, "/waiver", "Expected a length of at most 500."),
    "in a map": (Delivery, {"titles": {"a": ""}}, "/titles/a", "Expected a length of 1 to 200."),
    "in an array": (Item, {"subtitle": ["sub"]}, "/subtitle/0", "Use one of json, srt, vtt."),
    "a lone surrogate": (
        Item,
        {"format": "\ud800"},
        "/format",
        REFUSED["TEXT_SURROGATE"],
    ),
    "a lone surrogate for a number": (
        Item,
        {"seed": "\ud800"},
        "/seed",
        REFUSED["TEXT_SURROGATE"],
    ),
    "a choice": (Item, {"format": "aac"}, "/format", "Use one of flac, mp3, opus, wav."),
    "no field": (Voice, {"language": "en"}, "/reference", "`reference` is missing."),
}


@pytest.mark.parametrize(
    ("type_", "changes", "pointer", "message"), MESSAGES.values(), ids=MESSAGES
)
def test_the_messages_for_producers(
    type_: type[msgspec.Struct], changes: dict[str, Any], pointer: str, message: str
) -> None:
    value = ITEM | changes if type_ is Item else changes
    with pytest.raises(Refused) as caught:
        validate.convert(value, type_, "")
    assert (caught.value.pointer, caught.value.message) == (pointer, message)


SURROGATE = REFUSED["TEXT_SURROGATE"].removesuffix(".")


def patterns(kind: Any, advice: str = "") -> Iterator[tuple[str, str]]:
    """Patterns in a type and the types that it contains, with their advice."""
    if isinstance(kind, types.Metadata):
        yield from patterns(kind.type, (kind.extra or {}).get("advice", ""))
    if isinstance(kind, types.StrType) and kind.pattern:
        yield kind.pattern, advice
    inner = [field.type for field in getattr(kind, "fields", ())]
    inner += [*getattr(kind, "types", ())]
    inner += [getattr(kind, name) for name in ("item_type", "value_type") if hasattr(kind, name)]
    for one in inner:
        yield from patterns(one)


@pytest.mark.parametrize("type_", [Manifest, Item, records.Consent])
def test_every_pattern_comes_with_advice(type_: type[msgspec.Struct]) -> None:
    found = list(patterns(types.type_info(type_)))
    assert len(found) >= 3
    assert all(advice and advice[-1] != "." for _, advice in found), found


CONSENTS = {
    "not JSON": (b"{", "not JSON: Expecting a key in double quotes (line 1)"),
    "a trailing comma": (
        b'{"id":\n"a",\n}',
        "not JSON: Trailing comma (line 3)",
    ),
    "not UTF-8": (b"\xff", "not UTF-8"),
    "a byte order mark": (
        codecs.BOM_UTF8 + b"{}",
        "it begins with a byte order mark: save it as UTF-8 without one",
    ),
    "a lone surrogate": ({"method": "\ud800"}, f"/method: {SURROGATE}"),
    "a lone surrogate in a time": ({"valid_until": "\ud800"}, f"/valid_until: {SURROGATE}"),
    "a lone surrogate as a name": ({"\ud800": 1}, "/\\ud800: There is no field `\\ud800`"),
    "a lone surrogate alone": (b'"\\ud800"', "Expected an object, not a string"),
    "a list": (b"[]", "Expected an object, not an array"),
    "no purpose": ({"purposes": []}, "/purposes: Expected a length of at least 1"),
    "a bad digest": (
        {"statement_audio": {"key": "a", "sha256": "a"}},
        "/statement_audio/sha256: A SHA-256 is 64 hexadecimal digits, lower case",
    ),
    "evidence in capitals": (
        {"evidence_sha256": "A" * 64},
        "/evidence_sha256: A SHA-256 is 64 hexadecimal digits, lower case",
    ),
    "a bad language": (
        {"scope": {"languages": ["english"]}},
        "/scope/languages/0: Write the language as its ISO 639 code, such as en or zh, "
        "not `english` or `zh-CN`",
    ),
    "a bad id": (
        {"id": "a/b"},
        "/id: Use 1-64 letters, digits, `.`, `_` or `-`; begin with a letter or digit",
    ),
    "a day": (
        {"valid_from": "2026-01-01"},
        "/valid_from: Expected a time such as 2026-01-31T00:00:00Z",
    ),
    "an unknown field": ({"colour": 1}, "/colour: There is no field `colour`"),
    "no name": ({"subject": {}}, "a subject needs a name or a pseudonym"),
    "no source": ({"method": "public-domain"}, "the method public-domain needs source"),
}


@pytest.mark.parametrize(("bad", "message"), CONSENTS.values(), ids=CONSENTS)
def test_the_messages_for_authors_of_consent_records(
    bad: bytes | dict[str, Any], message: str
) -> None:
    record = bad if isinstance(bad, bytes) else json.dumps(RECORD | bad).encode()
    with pytest.raises(Refused) as caught:
        records.parse_consent(record)
    assert caught.value.message == f"Not a consent record: {message}."


def test_an_unknown_field_of_a_document_that_allows_them_is_none() -> None:
    class Open(msgspec.Struct):
        a: int = 0

    assert violation.find_violation({"a": 1, "b": 2}, Open) is None
