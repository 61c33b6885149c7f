"""`consent withdraw --erase-outputs`: all that was made of a voice is erased, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import audit
from core.audit.sources import Sources
from core.consent import records
from core.crypto import keys
from core.job import erasure
from core.job.runtime import Runtime
from core.storage.object_keys import result_key, shards_prefix
from handlers.jobs import carry_out_shard, integrate_log
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
    sources = Sources(
        results=runtime.results,
        control=runtime.control,
        inbox=runtime.inbox,
        keys=keys.load_reading_keys(tmp_path / "keys"),
    )
    report = audit.build_report(audit.audit_bucket(sources), sources, "")
    assert [(f.code, f.key) for f in report.findings] == []


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
