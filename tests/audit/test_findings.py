"""Every kind of tampering with a bucket is found, and a clean bucket has no findings."""

from __future__ import annotations

import csv
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from core import audit
from core.audit import Report
from core.audit.model import attempt, explain
from core.crypto import keys
from core.documents import signed
from core.errors import Misconfigured
from core.job.lease import Lease
from core.result.document import Result, parse_result
from core.result.item_result import LabelUsed
from core.storage.local import LocalStore
from core.storage.object_keys import (
    LOG_BATCHES,
    LOG_CHECKPOINTS,
    LOG_QUEUE,
    REVOKED_SUFFIX,
    mark_key,
    plan_key,
    result_key,
    shard_key,
)
from core.storage.port import Info
from core.tlog import log, sequencer, tiles
from core.tlog.leaf import Leaf
from handlers.jobs import carry_out_shard
from tests.audit.conftest import JOB_COUNT, open_runtime, open_sources
from tests.support.audited_bucket import add_job, fill_bucket, integrate_log
from tests.support.runtime import finish_job, local_runtime, put_job, split_job
from tests.support.stores import head

HOUR_AGO = time.time() - 3600


def run_audit(root: Path, earlier: str = "", **changes: object) -> Report:
    sources = open_sources(root, **changes)
    return audit.build_report(audit.audit_bucket(sources, earlier=earlier), sources, "")


def finding_codes(report: Report) -> set[tuple[int, str]]:
    return {(finding.check, finding.code) for finding in report.findings}


def result_paths(root: Path) -> list[Path]:
    """Return the result documents of jobs with outputs."""
    found = sorted(path.parent for path in root.glob("results/out/*/*.sealed"))
    return [folder / "result.json" for folder in found]


def sealed_path(root: Path, number: int = 0) -> Path:
    return result_paths(root)[number].parent / "hello.wav.sealed"


def make_old(root: Path) -> None:
    """Set the modification time of all objects to an hour ago."""
    for path in root.rglob("*"):
        if path.is_file() and ".meta" not in path.parts:
            os.utime(path, (HOUR_AGO, HOUR_AGO))


@pytest.mark.slow
def test_a_clean_bucket_has_no_findings(clean: Path) -> None:
    report = run_audit(clean)
    assert report.findings == []
    assert report.verdict == "clean"
    assert (report.totals.jobs, report.totals.outputs) == (JOB_COUNT, JOB_COUNT - 1)
    skipped = {check.name: check.reasons for check in report.checks if check.skipped}
    assert skipped.pop("c2pa") == {"NOT_MADE": JOB_COUNT - 1, "NO_OUTPUT": 1}
    assert {code for reasons in skipped.values() for code in reasons} == {"NO_OUTPUT", "NO_VOICE"}


@pytest.mark.slow
def test_results_of_the_pipeline_pass(tmp_path: Path) -> None:

    runtime = local_runtime(tmp_path)
    finish_job(put_job(runtime), runtime)
    runtime.inbox.put("jobs/bad.manifest.json", b"{}")
    finish_job("jobs/bad.manifest.json", runtime)
    integrate_log(runtime)
    report = run_audit(tmp_path)
    assert report.findings == []
    (key,) = (i.key for i in runtime.results.list("out/") if i.key.endswith(".sealed"))
    assert head(runtime.results, key).metadata["vc-aigc"] == "1"
    passed = {check.name for check in report.checks if check.passed}
    assert passed == {name for name, _ in audit.CHECKS.values()} - {"c2pa"}


def flip_a_bit(root: Path) -> None:
    path = sealed_path(root)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap_objects(root: Path) -> None:
    one, other = sealed_path(root, 0), sealed_path(root, 1)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def remove_an_object(root: Path) -> None:
    sealed_path(root).unlink()


def remove_a_result(root: Path) -> None:
    result_paths(root)[0].unlink()


def remove_a_job(root: Path) -> None:
    shutil.rmtree(result_paths(root)[0].parent)


def add_a_foreign_object(root: Path) -> None:
    (result_paths(root)[0].parent / "extra.wav.sealed").write_bytes(b"hello")


def add_a_foreign_object_at_the_root(root: Path) -> None:
    (root / "results" / "readme.txt").write_bytes(b"hello")


def add_a_foreign_job(root: Path) -> None:
    folder = root / "results" / "out" / ("ab" * 16)
    folder.mkdir()
    (folder / "hello.wav.sealed").write_bytes(b"hello")
    make_old(root)


def add_a_foreign_event(root: Path) -> None:
    (root / "results/events/dt=2026-11-01" / f"{'ab' * 16}.json").write_bytes(b"{}")


def add_a_foreign_mark(root: Path) -> None:
    payload = 0xABCD1234
    registry_entry = root / "results" / mark_key(payload)
    registry_entry.parent.mkdir(exist_ok=True)
    registry_entry.write_bytes(b'{"item":"x","job":"y","schema":"voicedrop/mark/1"}')


def payload_of(root: Path) -> int:
    """Return the watermark payload of the first item of the first result."""
    mark = first_result(root).items[0].watermark
    assert mark
    return int(mark.payload, 16)


def rename_a_mark(root: Path) -> None:
    path = root / "results" / mark_key(payload_of(root))
    path.write_bytes(path.read_bytes().replace(b"hello", b"other"))


def change_a_field(root: Path) -> None:
    path = result_paths(root)[0]
    path.write_bytes(path.read_bytes().replace(b'"status":"succeeded"', b'"status":"partial"'))


def resign_a_changed_result(root: Path) -> None:
    """Change a result and sign it again, as somebody with the signing key can."""
    changed = msgspec.structs.replace(first_result(root), labels={"new": "label"})
    result_paths(root)[0].write_bytes(signed.sign(changed, open_runtime(root).keys.signing))


def move_a_result(root: Path) -> None:
    result_paths(root)[0].write_bytes(result_paths(root)[1].read_bytes())


def remove_a_leaf(root: Path) -> None:
    path = root / "results" / tiles.key("entries", 0, JOB_COUNT)
    path.write_bytes(tiles.bundle(tiles.unbundle(path.read_bytes())[1:]))


def replace_a_leaf(root: Path) -> None:
    path = root / "results" / tiles.key("entries", 0, JOB_COUNT)
    entries = tiles.unbundle(path.read_bytes())
    path.write_bytes(tiles.bundle([entries[1], *entries[1:]]))


def remove_the_leaves(root: Path) -> None:
    (root / "results" / tiles.key("entries", 0, JOB_COUNT)).unlink()


def remove_a_batch(root: Path) -> None:
    next((root / "results" / LOG_BATCHES).iterdir()).unlink()


def change_a_batch(root: Path) -> None:
    path = next((root / "results" / LOG_BATCHES).iterdir())
    path.write_bytes(tiles.bundle(tiles.unbundle(path.read_bytes())[::-1]))


def remove_the_checkpoints(root: Path) -> None:
    shutil.rmtree(root / "results" / LOG_CHECKPOINTS)
    make_old(root)


def remove_the_log(root: Path) -> None:
    shutil.rmtree(root / "results" / "log")
    for proof in root.glob("results/out/*/*.tlog-proof"):
        proof.unlink()
    make_old(root)


def forge_the_checkpoint(root: Path) -> None:
    (path,) = (root / "results" / LOG_CHECKPOINTS).iterdir()
    path.write_text(path.read_text().replace(f"\n{JOB_COUNT}\n", f"\n{JOB_COUNT + 1}\n"))
    make_old(root)


def remove_a_proof(root: Path) -> None:
    result_paths(root)[0].with_name("result.tlog-proof").unlink()


def swap_a_proof(root: Path) -> None:
    proof = result_paths(root)[0].with_name("result.tlog-proof")
    proof.write_bytes(result_paths(root)[1].with_name("result.tlog-proof").read_bytes())


def release_without_a_mark(root: Path) -> None:
    """Add a signed and logged result whose output has no watermark."""
    runtime = open_runtime(root)
    add_job(runtime, 5000, marked=False)
    integrate_log(runtime)


def leave_out_of_the_log(root: Path) -> None:
    runtime = open_runtime(root)
    job = add_job(runtime, 100).job_id
    runtime.control.delete(LOG_QUEUE + job)
    make_old(root)


def queue_a_job_without_a_result(root: Path) -> None:
    sequencer.enqueue(open_runtime(root).control, Leaf(job="cd" * 16, result_sha256="0" * 64))


def remove_the_consent(root: Path) -> None:
    (root / "inbox/consent/alice.json").unlink()


def overwrite_the_consent(root: Path) -> None:
    (root / "inbox/consent/alice.json").write_bytes(b"{}")


def withdraw_consent_before(root: Path) -> None:
    path = root / "inbox/consent" / f"alice.json{REVOKED_SUFFIX}"
    path.write_bytes(b"")
    begun = datetime(2026, 2, 1, tzinfo=UTC).timestamp()  # the record is valid from January
    os.utime(path, (begun, begun))


def first_result(root: Path) -> Result:
    return parse_result(result_paths(root)[0].read_bytes())


DAMAGES: dict[Callable[[Path], None], set[tuple[int, str]]] = {
    flip_a_bit: {(2, "OBJECT_CHANGED"), (4, "SEAL_INVALID")},
    swap_objects: {(2, "OBJECT_CHANGED"), (4, "SEAL_INVALID")},
    remove_an_object: {(2, "OBJECT_MISSING")},
    remove_a_result: {(10, "RESULT_MISSING")},
    remove_a_job: {(10, "RESULT_MISSING"), (10, "OBJECT_UNCLAIMED")},
    add_a_foreign_object: {(10, "OBJECT_UNCLAIMED")},
    add_a_foreign_object_at_the_root: {(10, "OBJECT_UNCLAIMED")},
    add_a_foreign_job: {(10, "OBJECT_UNCLAIMED")},
    add_a_foreign_event: {(10, "OBJECT_UNCLAIMED")},
    add_a_foreign_mark: {(10, "OBJECT_UNCLAIMED")},
    rename_a_mark: {(7, "MARK_UNREGISTERED")},
    change_a_field: {(1, "SIGNATURE_INVALID"), (8, "LOG_MISMATCH")},
    resign_a_changed_result: {(8, "LOG_MISMATCH")},
    move_a_result: {(1, "RESULT_MISPLACED"), (8, "LOG_MISMATCH"), (10, "OBJECT_UNCLAIMED")},
    remove_a_leaf: {(8, "LOG_INVALID"), (9, "LOG_INVALID")},
    replace_a_leaf: {(8, "LOG_INVALID"), (9, "LOG_INVALID")},
    remove_the_leaves: {(8, "LOG_INVALID"), (9, "LOG_INVALID")},
    remove_a_batch: {(9, "LOG_INVALID")},
    change_a_batch: {(9, "LOG_INVALID")},
    remove_the_checkpoints: {(8, "LOG_INVALID"), (9, "LOG_INVALID")},
    remove_the_log: {(8, "NOT_LOGGED")},
    forge_the_checkpoint: {(8, "LOG_INVALID"), (9, "LOG_INVALID")},
    remove_a_proof: {(8, "PROOF_MISSING")},
    swap_a_proof: {(8, "LOG_INVALID")},
    release_without_a_mark: {(7, "WATERMARK_VERIFY_FAILED")},
    leave_out_of_the_log: {(8, "NOT_LOGGED")},
    queue_a_job_without_a_result: {(10, "RESULT_MISSING")},
    remove_the_consent: {(11, "CONSENT_MISSING")},
    overwrite_the_consent: {(11, "CONSENT_INVALID")},
    withdraw_consent_before: {(11, "CONSENT_REVOKED")},
}


RUNNING = re.compile(
    "being read|check its name|not released|which the manifest must|consent new|upload|retr|export"
)


@pytest.mark.parametrize("code", ["AUDIO_CORRUPT", "AUDIO_TRUNCATED", "LABEL_VERIFY_FAILED"])
def test_a_code_is_explained_as_an_auditor_needs_it(code: str) -> None:
    assert not RUNNING.search(explain(code))


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_tampering_is_found(copy: Path, damage: Callable[[Path], None]) -> None:
    damage(copy)
    report = run_audit(copy)
    assert finding_codes(report) == DAMAGES[damage]
    # The words of core/errors.py for a job that is being run, or for its producer.
    assert not RUNNING.search(" ".join([*report.codes.values(), *map(str, report.findings)]))


@pytest.mark.slow
def test_seven_faults_in_a_larger_bucket_are_all_found(sixty: Path, tmp_path: Path) -> None:
    assert run_audit(sixty).findings == []
    root = shutil.copytree(sixty, tmp_path / "sixty")
    documents = result_paths(root)
    release_without_a_mark(root)
    bit, one, other, removed, foreign, changed = (path.parent for path in documents[10:16])
    data = bytearray((bit / "hello.wav.sealed").read_bytes())
    data[999] ^= 8
    (bit / "hello.wav.sealed").write_bytes(data)
    bodies = [(folder / "hello.wav.sealed").read_bytes() for folder in (one, other)]
    (one / "hello.wav.sealed").write_bytes(bodies[1])
    (other / "hello.wav.sealed").write_bytes(bodies[0])
    (removed / "result.json").unlink()
    (foreign / "hello.mp3.sealed").write_bytes(b"hello")
    text = (changed / "result.json").read_bytes()
    (changed / "result.json").write_bytes(text.replace(b'"job_id"', b'"job_ID"'))
    entries = root / "results" / tiles.key("entries", 0, 61)
    (lost, *kept) = tiles.unbundle(entries.read_bytes())
    entries.write_bytes(tiles.bundle(kept))
    report = run_audit(root)
    where = {(f.check, f.code): f.job or f.key for f in report.findings}
    assert where[2, "OBJECT_CHANGED"] in {bit.name, one.name, other.name}
    assert sum(f.check == 2 for f in report.findings) == 3
    assert where[10, "RESULT_MISSING"] == removed.name
    assert where[10, "OBJECT_UNCLAIMED"] == foreign.name
    assert where[1, "SIGNATURE_INVALID"] == changed.name
    assert (9, "LOG_INVALID") in where
    assert {f.job for f in report.findings if f.check == 8} == {
        msgspec.json.decode(lost)["job"],
        changed.name,
    }
    unmarked = [f.job for f in report.findings if f.code == "WATERMARK_VERIFY_FAILED"]
    assert len(unmarked) == 1


def rewrite_first_item(root: Path, **changes: object) -> None:
    """Change the first item of the first result and sign it again."""
    done = first_result(root)
    item = msgspec.structs.replace(done.items[0], **changes)
    changed = msgspec.structs.replace(done, items=[item, *done.items[1:]])
    result_paths(root)[0].write_bytes(signed.sign(changed, open_runtime(root).keys.signing))


def envelope_of_another(root: Path) -> None:
    rewrite_first_item(
        root, envelope=parse_result(result_paths(root)[1].read_bytes()).items[0].envelope
    )


def other_plaintext(root: Path) -> None:
    output = first_result(root).items[0].output
    assert output
    rewrite_first_item(root, output=msgspec.structs.replace(output, plain_sha256="0" * 64))


def no_envelope(root: Path) -> None:
    rewrite_first_item(root, envelope=None)


def label_denied(root: Path) -> None:
    rewrite_first_item(root, label=LabelUsed(profile="none", cue="none"))


def label_of_another(root: Path) -> None:
    rewrite_first_item(
        root, label=LabelUsed(profile="cn", cue="none", producer="x", produce_id="y")
    )


def no_mark_stated(root: Path) -> None:
    rewrite_first_item(root, watermark=None)


def mark_of_another(root: Path) -> None:
    rewrite_first_item(
        root, watermark=parse_result(result_paths(root)[1].read_bytes()).items[0].watermark
    )


def invalid_registry_entry(root: Path) -> None:
    payload = payload_of(root)
    (root / "results" / mark_key(payload)).write_bytes(b"[]")


def no_consent(root: Path) -> None:
    done = first_result(root)
    voices = {n: msgspec.structs.replace(v, consent=None) for n, v in done.voices.items()}
    changed = msgspec.structs.replace(done, voices=voices)
    result_paths(root)[0].write_bytes(signed.sign(changed, open_runtime(root).keys.signing))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("falsify", "found"),
    [
        (envelope_of_another, {(3, "SEAL_INVALID")}),
        (no_envelope, {(3, "SEAL_INVALID")}),
        (other_plaintext, {(3, "SEAL_INVALID")}),
        (label_denied, {(5, "LABEL_MISMATCH")}),
        (label_of_another, {(5, "LABEL_MISMATCH")}),
        (no_mark_stated, {(7, "WATERMARK_VERIFY_FAILED")}),
        (mark_of_another, {(7, "MARK_UNREGISTERED")}),
        (no_consent, {(11, "CONSENT_MISSING")}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_false_signed_result_is_found(
    copy: Path, falsify: Callable[[Path], None], found: set[tuple[int, str]]
) -> None:
    falsify(copy)
    assert finding_codes(run_audit(copy)) == found | {(8, "LOG_MISMATCH")}


def test_an_invalid_registry_entry_is_found(copy: Path) -> None:
    invalid_registry_entry(copy)
    assert finding_codes(run_audit(copy)) == {(7, "MARK_UNREGISTERED")}


@pytest.mark.slow
def test_a_waiver_is_not_a_finding(tmp_path: Path) -> None:

    runtime = local_runtime(tmp_path, consent="optional")
    key = put_job(runtime, label={"profile": "none", "waiver": "a test"})
    document = msgspec.json.decode(runtime.inbox.get(key, limit=9999).data)
    del document["voices"]["alice"]["consent"]
    runtime.inbox.put(key, msgspec.json.encode(document))
    finish_job(key, runtime)
    report = run_audit(tmp_path)
    assert report.findings == []
    (key,) = (i.key for i in runtime.results.list("out/") if i.key.endswith(".sealed"))
    assert "vc-aigc" not in head(runtime.results, key).metadata
    assert report.checks[4].reasons == report.checks[10].reasons == {"WAIVED": 1}


def note_withdrawal(root: Path, at: float) -> None:
    """Withdraw the consent of every recording under a record, as a worker does."""
    runtime = local_runtime(root)
    record = runtime.inbox.get("consent/alice.json", limit=10**6).data
    assert runtime.consents.withdraw(record, at)


def test_items_of_a_voice_that_was_withdrawn_since_are_named(copy: Path, tmp_path: Path) -> None:
    before = run_audit(copy)
    note_withdrawal(copy, 4e9)
    report = run_audit(copy)
    assert (report.findings, before.totals.withdrawn) == ([], 0)
    assert report.totals.withdrawn == report.totals.outputs > 0
    sources = open_sources(copy)
    bucket = audit.audit_bucket(sources)
    rows = list(csv.DictReader(audit.format_items_csv(bucket)))
    assert {row["withdrawn"][:4] for row in rows if row["bytes"] != "0"} == {"2096"}


def test_an_item_made_after_the_withdrawal_is_a_finding_without_the_inbox(copy: Path) -> None:
    note_withdrawal(copy, datetime(2026, 2, 1, tzinfo=UTC).timestamp())
    assert finding_codes(run_audit(copy)) == {(11, "CONSENT_REVOKED")}
    assert finding_codes(run_audit(copy, inbox=None)) == {(11, "CONSENT_REVOKED")}


def test_a_note_of_withdrawal_that_we_did_not_write_is_a_finding(copy: Path) -> None:
    path = copy / "results/withdrawn" / ("0" * 64) / f"{'1' * 64}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")
    assert finding_codes(run_audit(copy)) == {(10, "OBJECT_UNCLAIMED")}


def test_consent_is_skipped_if_the_manifest_was_replaced(copy: Path) -> None:
    for path in copy.glob("inbox/jobs/*"):
        path.write_bytes(b"{}")
    assert run_audit(copy).checks[10].reasons == {"NO_INBOX": JOB_COUNT - 1, "NO_VOICE": 1}


def test_without_the_control_bucket_outputs_without_a_result_are_unclaimed(copy: Path) -> None:
    add_a_foreign_job(copy)
    assert finding_codes(run_audit(copy, control=None)) == {(10, "OBJECT_UNCLAIMED")}


def test_only_the_job_with_the_fault_is_named(copy: Path) -> None:
    flip_a_bit(copy)
    name = sealed_path(copy).parent.name
    assert {finding.job for finding in run_audit(copy).findings} == {name}


@pytest.mark.slow
def test_a_truncated_log_is_found_with_an_earlier_checkpoint(copy: Path) -> None:
    """Somebody with every key removes the end of the log and everything that belongs to it."""
    runtime = open_runtime(copy)
    before = {info.key for info in runtime.results.list("")}
    job = add_job(runtime, 100).job_id
    integrate_log(runtime)
    kept = log.read_latest_checkpoint(runtime.results) or ""
    for info in list(runtime.results.list("")):
        if info.key not in before:
            runtime.results.delete(info.key)
    assert run_audit(copy).findings == []
    assert finding_codes(run_audit(copy, kept)) == {(9, "LOG_INVALID")}
    assert runtime.results.head(result_key(job)) is None


@pytest.mark.slow
def test_a_checkpoint_of_another_log_is_reported(copy: Path, tmp_path: Path) -> None:
    other = log.read_latest_checkpoint(fill_bucket(tmp_path / "other", [0]).results) or ""
    (finding,) = run_audit(copy, other).findings
    assert "The earlier checkpoint does not belong to this log." in finding.message


@pytest.mark.slow
def test_a_longer_log_continues_its_earlier_checkpoint(copy: Path) -> None:
    runtime = open_runtime(copy)
    kept = log.read_latest_checkpoint(runtime.results) or ""
    add_job(runtime, 100)
    integrate_log(runtime)
    assert run_audit(copy, kept).findings == []


def test_a_deleted_log_is_found_with_an_earlier_checkpoint(copy: Path) -> None:
    kept = log.read_latest_checkpoint(open_runtime(copy).results) or ""
    remove_the_log(copy)
    assert (9, "LOG_INVALID") in finding_codes(run_audit(copy, kept))


def test_without_secrets_all_public_checks_run(copy: Path) -> None:
    for secret in (*copy.glob("keys/*.key"), copy / "keys/sign-001.pem"):
        secret.unlink()
    public_keys = keys.load_reading_keys(copy / "keys")
    clean = run_audit(copy, keys=public_keys)
    assert clean.findings == []
    skipped = {check.number for check in clean.checks if "NO_KEY" in check.reasons}
    assert skipped == {3, 4, 7}
    flip_a_bit(copy)
    change_a_field(copy)
    assert (1, "SIGNATURE_INVALID") in finding_codes(run_audit(copy, keys=public_keys))


def test_a_destroyed_key_is_not_a_finding(copy: Path) -> None:
    (copy / "keys/kek-001.key").unlink()
    keys.create_keys(copy / "keys")
    report = run_audit(copy)
    assert report.findings == []
    assert report.checks[2].reasons["KEY_DESTROYED"] == JOB_COUNT - 1


def test_the_results_bucket_alone_can_be_audited(clean: Path) -> None:
    report = run_audit(clean, control=None, inbox=None)
    assert report.findings == []
    assert report.checks[10].reasons == {"NO_INBOX": JOB_COUNT - 1, "NO_VOICE": 1}


@pytest.mark.slow
def test_a_queued_result_is_not_a_finding(copy: Path) -> None:
    add_job(open_runtime(copy), 100)
    make_old(copy)
    report = run_audit(copy)
    assert report.findings == []
    assert report.checks[7].reasons == {"NOT_LOGGED_YET": 1}


def test_a_bucket_without_a_log_is_skipped(tmp_path: Path) -> None:
    fill_bucket(tmp_path, [0], integrate=False)
    make_old(tmp_path)
    report = run_audit(tmp_path, control=None)
    assert report.findings == []
    assert report.checks[7].reasons == {"NO_LOG": 1}


@pytest.mark.slow
def test_a_result_logged_during_the_audit_is_not_a_finding(copy: Path) -> None:
    """The audit reads the log; then a job and its proof are written."""
    runtime = open_runtime(copy)

    class LateStore(LocalStore):
        def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
            if prefix == "" and not self.head(result_key(late_jobs[0])):
                shutil.copytree(aside, copy / "results/out", dirs_exist_ok=True)
            return super().list(prefix, after=after)

    aside = copy / "aside"
    late_jobs = [add_job(runtime, 100).job_id]
    integrate_log(runtime)
    shutil.copytree(copy / "results/out" / late_jobs[0], aside / late_jobs[0])
    shutil.rmtree(copy / "results/out" / late_jobs[0])
    for path in (copy / "results" / "log").rglob(f"*{JOB_COUNT + 1}"):
        path.unlink()
    (copy / "results" / LOG_BATCHES / f"{JOB_COUNT:020}").unlink()
    report = run_audit(copy, results=LateStore(copy / "results"))
    assert report.findings == []
    assert report.checks[7].reasons == {"NOT_LOGGED_YET": 1}


def test_outputs_of_a_job_in_progress_are_not_findings(copy: Path) -> None:
    add_a_foreign_job(copy)
    runtime = open_runtime(copy)
    with Lease.acquire(runtime.control, "ab" * 16, "worker", 30, runtime.keys):
        report = run_audit(copy)
    assert report.findings == []
    assert report.checks[9].reasons == {"IN_PROGRESS": 1}


@pytest.mark.slow
def test_outputs_of_a_job_with_unfinished_shards_are_not_findings(tmp_path: Path) -> None:
    """Nobody has a lease: one shard is made, and the worker of the other has not started yet."""
    runtime = local_runtime(tmp_path, shard_items=1)
    items = [{"id": name, "text": "Words of a job that was cut."} for name in ("a", "b")]
    job = split_job(put_job(runtime, items=items), runtime).job_id
    assert carry_out_shard(shard_key(job, 0), runtime) is None
    make_old(tmp_path)
    report = run_audit(tmp_path)
    assert report.findings == []
    assert report.checks[9].reasons == {"IN_PROGRESS": 1}
    assert carry_out_shard(shard_key(job, 1), runtime)
    make_old(tmp_path)
    assert run_audit(tmp_path).checks[9].reasons == {}


@pytest.mark.parametrize("key", [plan_key("ab" * 16), shard_key("ab" * 16, 0)])
def test_an_unsigned_object_under_work_does_not_hide_a_foreign_job(copy: Path, key: str) -> None:
    add_a_foreign_job(copy)
    LocalStore(copy / "control").put(key, b"{}")
    assert [finding.code for finding in run_audit(copy).findings] == ["OBJECT_UNCLAIMED"]


def test_consent_withdrawn_afterwards_is_not_a_finding(copy: Path) -> None:
    (copy / "inbox/consent" / f"alice.json{REVOKED_SUFFIX}").write_bytes(b"")
    os.utime(copy / "inbox/consent" / f"alice.json{REVOKED_SUFFIX}", (4e9, 4e9))
    assert run_audit(copy).findings == []


def test_consent_is_skipped_if_the_manifest_was_deleted(copy: Path) -> None:
    shutil.rmtree(copy / "inbox/jobs")
    report = run_audit(copy)
    assert report.findings == []
    assert report.checks[10].reasons == {"NO_INBOX": JOB_COUNT - 1, "NO_VOICE": 1}


def test_an_audit_writes_to_no_bucket(clean: Path) -> None:
    def everything() -> dict[Path, tuple[int, int]]:
        files = (path for path in clean.rglob("*") if path.is_file())
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    before = everything()
    run_audit(clean)
    assert everything() == before


def test_a_bucket_that_cannot_be_read_is_no_finding() -> None:
    with pytest.raises(Misconfigured, match="BUCKET_FORBIDDEN"), attempt(1):
        raise Misconfigured("BUCKET_FORBIDDEN")
