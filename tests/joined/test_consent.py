"""A joined file is new speech: consent to the voices is asked for again, as when they speak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from core.consent import records
from core.consent.records import Scope
from core.job.runtime import Runtime
from core.result.document import Result
from core.settings import ConsentPolicy
from tests.support.faults import cached_audio
from tests.support.present import present
from tests.support.runtime import REFERENCE, consent_record, local_runtime, put_job, run_job

RECORD = "consent/alice.json"
ITEMS = [
    {"id": "a", "text": "The first sentence of it."},
    {"id": "b", "text": "这一句是中文。", "language": "zh"},
]
YESTERDAY = datetime(2026, 2, 1, tzinfo=UTC)
OTHER = REFERENCE.read_bytes() + b"other"
VOICE = {"reference": "refs/alice.flac", "transcript": "what she says", "language": "en"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runtime, Result]]:
    """A finished job, whose items later jobs keep."""
    with cached_audio.memoised():
        runtime = local_runtime(tmp_path_factory.mktemp("joined"))
        yield runtime, run_job(put_job(runtime, items=ITEMS), runtime)


def join(made: tuple[Runtime, Result], name: str, record: bytes | None, **fields: Any) -> Result:
    """Join the items of the finished job, whose recording is gone, under this record; None: there
    is none at its key."""
    runtime, first = made
    key = put_job(
        runtime,
        name=name,
        items=ITEMS,
        retry_of=first.job_id,
        output={"concatenate": "book"},
        **fields,
    )
    runtime.inbox.delete("refs/alice.flac")
    if record is None:
        runtime.inbox.delete(RECORD)
    else:
        runtime.inbox.put(RECORD, record)
    return run_job(key, runtime)


def record(data: bytes = REFERENCE.read_bytes(), **changes: Any) -> bytes:
    return records.format_consent(consent_record(data, **changes))


CASES: dict[str, tuple[bytes | None, ConsentPolicy, str]] = {
    "missing": (None, "required", "CONSENT_MISSING"),
    "missing where optional": (None, "optional", "CONSENT_MISSING"),
    "invalid": (b"{}", "required", "CONSENT_INVALID"),
    "expired": (record(valid_until=YESTERDAY), "required", "CONSENT_EXPIRED"),
    "another recording": (record(OTHER), "optional", "CONSENT_SCOPE"),
    "another language": (record(scope=Scope(languages=["en"])), "required", "CONSENT_SCOPE"),
    "no statement": (record(), "verified", "CONSENT_UNVERIFIED"),
}


@pytest.mark.parametrize("case", CASES)
def test_kept_items_are_joined_only_with_consent(made: tuple[Runtime, Result], case: str) -> None:
    stored, policy, code = CASES[case]
    runtime = replace(made[0], consent=policy)
    done = join((runtime, made[1]), case.replace(" ", "-"), stored)
    assert [item.status for item in done.items] == ["succeeded", "succeeded"]
    assert done.totals.kept == 2
    (book,) = done.chapters
    assert (book.status, present(book.error).code, book.output) == ("failed", code, None)
    assert not list(runtime.results.list(f"out/{done.job_id}/chapters/"))


def test_kept_items_are_not_joined_for_a_manifest_that_names_no_record(
    made: tuple[Runtime, Result],
) -> None:
    done = join(made, "unnamed", record(), voices={"alice": VOICE})
    assert present(done.chapters[0].error).code == "CONSENT_MISSING"
    waived = replace(made[0], consent="optional"), made[1]
    assert join(waived, "waived", record(), voices={"alice": VOICE}).status == "succeeded"


def test_kept_items_are_joined_under_a_record_that_covers_them(
    made: tuple[Runtime, Result],
) -> None:
    later = record(id="later", scope=Scope(languages=["en", "zh"]))
    done = join(made, "covered", later)
    assert (done.status, done.totals.kept) == ("succeeded", 2)
    assert len(done.chapters[0].items) == 2
