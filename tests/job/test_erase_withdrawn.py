"""`consent withdraw --erase-outputs`: all that was made of a voice is erased, and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import audit
from core.audit.sources import Sources
from core.consent import records
from core.crypto import keys
from core.job import erasure
from core.job.runtime import Runtime
from core.storage.object_keys import part_key, result_key, shards_prefix, tombstone_key
from handlers.jobs import carry_out_shard, integrate_log
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    consent_record,
    finish_job,
    local_runtime,
    put_job,
    split_job,
)

ITEMS = [{"id": name, "text": f"These are the words of {name}."} for name in ("a", "b")]


def sealed(runtime: Runtime) -> set[str]:
    return {i.key for i in runtime.results.list("out/") if i.key.endswith(".sealed")}


def findings(runtime: Runtime, root: Path) -> list[tuple[str, str]]:
    sources = Sources(
        results=runtime.results,
        control=runtime.control,
        inbox=runtime.inbox,
        keys=keys.load_reading_keys(root / "keys"),
    )
    report = audit.build_report(audit.audit_bucket(sources), sources, "")
    return [(finding.code, finding.key) for finding in report.findings]


@pytest.mark.slow
def test_every_output_of_the_voice_is_erased_and_the_audit_stays_clean(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, shard_items=2)
    other = REFERENCE.with_name("ref_1688.flac").read_bytes()
    runtime.inbox.put("refs/bob.flac", other)
    bob = records.format_consent(consent_record(other, id="bob"))
    runtime.inbox.put("consent/bob.json", bob)
    first = finish_job(put_job(runtime, items=ITEMS, output={"concatenate": "book"}), runtime)
    joined = put_job(
        runtime, name="two", items=ITEMS, retry_of=first.job_id, output={"concatenate": "book"}
    )
    finish_job(joined, runtime)
    voices = {
        name: {
            "reference": f"refs/{name}.flac",
            "language": "en",
            "consent": f"consent/{name}.json",
        }
        for name in ("alice", "bob")
    }
    rows = [
        {"id": f"{name}{n}", "text": f"Row {n} of {name}.", "voice": name}
        for name in voices
        for n in range(2)
    ]
    job = split_job(put_job(runtime, name="cut", items=rows, voices=voices), runtime)
    for info in list(runtime.control.list(shards_prefix(job.job_id))):
        if info.key.endswith(".jsonl"):
            carry_out_shard(info.key, runtime)
    integrate_log(runtime)
    record = runtime.inbox.get("consent/alice.json", limit=10**6).data
    runtime.consents.withdraw(record, runtime.results.now())
    tombstones = erasure.erase_withdrawn(record, runtime)
    assert {one.job_id for one in tombstones} >= {first.job_id, job.job_id}
    assert all(one.withdrawal and one.withdrawal.id == "alice-1" for one in tombstones)
    assert sealed(runtime) == {f"out/{job.job_id}/bob{n}.wav.sealed" for n in range(2)}
    assert erasure.erase_withdrawn(record, runtime) == []
    integrate_log(runtime)
    assert findings(runtime, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deleted", "cut", "another"])
def test_an_output_whose_result_was_damaged_is_deleted_too(tmp_path: Path, how: str) -> None:
    runtime = local_runtime(tmp_path)
    other = REFERENCE.with_name("ref_1688.flac").read_bytes()
    theirs = finish_job(put_job(runtime, name="theirs", items=ITEMS, reference=other), runtime)
    kept = sealed(runtime)
    done = finish_job(put_job(runtime, items=ITEMS), runtime)
    key = result_key(done.job_id)
    stored = runtime.results.get(key, limit=10**7).data
    runtime.results.delete(key)
    if how != "deleted":
        foreign = runtime.results.get(result_key(theirs.job_id), limit=10**7).data
        runtime.results.put(key, stored[:100] if how == "cut" else foreign)

    record = records.format_consent(consent_record(REFERENCE.read_bytes()))
    runtime.consents.withdraw(record, runtime.results.now())
    assert erasure.erase_withdrawn(record, runtime) == []
    assert len(erasure.delete_unclaimed(record, runtime)) == len(ITEMS)
    assert sealed(runtime) == kept


def cut_in_two(runtime: Runtime, **fields: Any) -> list[str]:
    """Cut a job of two items into shards; return their keys."""
    job = split_job(put_job(runtime, items=[item | fields for item in ITEMS]), runtime)
    listed = runtime.control.list(shards_prefix(job.job_id))
    return [info.key for info in listed if info.key.endswith(".jsonl")]


def withdraw(runtime: Runtime) -> bytes:
    record = runtime.inbox.get("consent/alice.json", limit=10**6).data
    runtime.consents.withdraw(record, runtime.results.now())
    return record


def test_what_is_erased_of_an_unfinished_job_has_a_tombstone_when_it_is_finished(
    tmp_path: Path,
) -> None:
    """One part is signed and names an output; the result that will name it is not stored yet."""
    runtime = local_runtime(tmp_path, shard_items=1)
    first, second = cut_in_two(runtime, subtitle=["srt"])
    carry_out_shard(first, runtime)
    record = withdraw(runtime)
    assert erasure.erase_withdrawn(record, runtime) == []
    deleted = erasure.delete_unclaimed(record, runtime)
    assert [key.rpartition("/")[2] for key in deleted] == ["a.srt.sealed", "a.wav.sealed"]
    done = present(carry_out_shard(second, runtime))
    integrate_log(runtime)
    assert (done.totals.succeeded, done.totals.failed, sealed(runtime)) == (1, 1, set())
    assert findings(runtime, tmp_path) == []
    data = runtime.results.get(tombstone_key(done.job_id, 0), limit=10**6).data
    assert all(key.encode() in data for key in deleted)
    assert erasure.account_for_deleted(done, runtime) == []


def test_an_output_is_erased_though_a_part_of_its_job_was_damaged(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, shard_items=1)
    done = present([carry_out_shard(key, runtime) for key in cut_in_two(runtime)][-1])
    stored = runtime.results.get(part_key(done.job_id, 1), limit=10**6).data
    runtime.results.put(part_key(done.job_id, 1), stored + b" ")
    record = withdraw(runtime)
    assert [one.items for one in erasure.erase_withdrawn(record, runtime)] == [["a"]]
    assert erasure.delete_unclaimed(record, runtime) == [f"out/{done.job_id}/b.wav.sealed"]
    assert sealed(runtime) == set()
