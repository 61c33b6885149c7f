"""Result documents survive writing and parsing, with the same bytes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.consent.records import ConsentRef
from core.crypto import sealing
from core.documents import canonical
from core.errors import Notice, Refused, Unavailable
from core.result import document
from core.result.document import Result
from core.result.item_result import ItemResult, Problem
from core.result.withdrawn_voices import WithdrawnSince
from core.storage.local import LocalStore
from core.storage.object_keys import result_key
from core.voice import Match
from tests.support.results import FULL, rejected


def test_a_result_survives_writing_and_parsing() -> None:
    assert document.parse_result(canonical.dump(FULL)) == FULL


def test_writing_a_parsed_result_gives_the_same_bytes() -> None:
    data = canonical.dump(FULL)
    assert canonical.dump(document.parse_result(data)) == data


def test_the_bytes_are_canonical() -> None:
    data = canonical.dump(FULL)
    assert canonical.dump(canonical.load(data)) == data


def test_the_order_of_dictionaries_does_not_matter() -> None:
    stages = dict(reversed(FULL.stages.items()))
    assert list(stages) != list(FULL.stages)
    assert canonical.dump(msgspec.structs.replace(FULL, stages=stages)) == canonical.dump(FULL)


def test_a_rejected_job_has_an_error_and_no_items() -> None:
    parsed = document.parse_result(canonical.dump(rejected()))
    assert parsed.error is not None
    assert (parsed.status, parsed.error.code, parsed.items) == ("rejected", "JSON_SYNTAX", [])


def test_a_problem_has_all_fields_of_the_error() -> None:
    error = Unavailable("NO_SPACE", "not there", pointer="refs/a.wav")
    assert Problem.from_error(error) == Problem(
        code="NO_SPACE",
        message="not there",
        advice=error.advice,
        pointer="refs/a.wav",
        retryable=True,
    )


MALFORMED = {
    "an empty file": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "another schema": b'{"schema":"voicedrop/result/2"}',
    "an unknown field": canonical.dump(FULL)[:-1] + b',"extra":1}',
    "an unknown status": canonical.dump(FULL).replace(b'"partial"', b'"fine"'),
    "an unknown notice without words": canonical.dump(FULL).replace(
        canonical.dump(Notice("BOM")), b'{"code":"NEW","message":"","pointer":""}'
    ),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_document_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="SCHEMA_TYPE"):
        document.parse_result(data)


def test_a_result_without_canonical_form_is_not_written() -> None:
    with pytest.raises(ValueError, match="canonical"):
        canonical.dump(msgspec.structs.replace(FULL, stages={"speak": float("nan")}))


def test_timestamps_are_utc_with_milliseconds() -> None:
    assert document.format_timestamp(1_800_000_000.1239) == "2027-01-15T08:00:00.123Z"
    assert document.format_timestamp(0) == "1970-01-01T00:00:00.000Z"


def test_the_result_is_stored_with_its_outputs() -> None:
    assert result_key("abc") == "out/abc/result.json"


def test_nested_structs_keep_their_types() -> None:
    parsed = document.parse_result(canonical.dump(FULL))
    item: ItemResult = parsed.items[0]
    assert isinstance(item.envelope, sealing.Envelope)
    assert isinstance(parsed.voices["alice"].match["ge2e"], Match)
    assert isinstance(parsed.voices["alice"].consent, ConsentRef)
    assert isinstance(parsed, Result)


@pytest.mark.parametrize("data", [b"{", b"{}", b'{"x":' + b"[" * 1500])
def test_what_is_no_part_is_refused_as_that(data: bytes) -> None:
    with pytest.raises(Refused, match="Not a part of a result"):
        document.parse_part(data)


def test_an_item_whose_maker_cannot_be_read_is_of_no_withdrawn_voice(tmp_path: Path) -> None:
    def fetch(key: str) -> bytes:
        raise Refused("OBJECT_MISSING", pointer=key)

    withdrawn_since = WithdrawnSince(FULL, fetch, LocalStore(tmp_path), {})
    assert withdrawn_since(msgspec.structs.replace(FULL.items[0], kept_from="f" * 32)) == ""
