"""Every way to spoil a bucket is found, and nothing is found where nothing is wrong."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from core import audit
from core.audit import Report
from core.consent import records
from core.crypto import keys
from core.documents import signed
from core.job.lease import Lease
from core.result.document import Result, parse_result
from core.result.item_result import LabelUsed
from core.storage.local import LocalStore
from core.storage.object_keys import LOG_BATCHES, LOG_CHECKPOINTS, LOG_QUEUE, mark_key, result_key
from core.storage.port import Info
from core.tlog import log, tiles
from tests.audit.conftest import SIZE, opened, sources
from tests.support.audited_bucket import add, fill, sequence
from tests.support.runtime import finish_job, local_runtime, put_job
from tests.support.stores import head

HOUR_AGO = time.time() - 3600


def run(root: Path, earlier: str = "", **changes: object) -> Report:
    found = sources(root, **changes)
    return audit.build_report(audit.audit_bucket(found, earlier=earlier), found, "")


def told(report: Report) -> set[tuple[int, str]]:
    return {(finding.check, finding.code) for finding in report.findings}


def results(root: Path) -> list[Path]:
    """The result documents of jobs with outputs, all long arrived."""
    found = sorted(path.parent for path in root.glob("results/out/*/*.sealed"))
    return [folder / "result.json" for folder in found]


def sealed(root: Path, number: int = 0) -> Path:
    return results(root)[number].parent / "hello.wav.sealed"


def age(root: Path) -> None:
    """Nothing may look as if it had arrived just now."""
    for path in root.rglob("*"):
        if path.is_file() and ".meta" not in path.parts:
            os.utime(path, (HOUR_AGO, HOUR_AGO))


@pytest.mark.slow
def test_a_clean_bucket_has_no_findings(clean: Path) -> None:
    report = run(clean)
    assert report.findings == []
    assert report.verdict == "clean"
    assert (report.totals.jobs, report.totals.outputs) == (SIZE, SIZE - 1)
    skipped = {check.name: check.reasons for check in report.checks if check.skipped}
    assert skipped.pop("c2pa") == {"NOT_MADE": SIZE - 1, "NO_OUTPUT": 1}
    assert {code for reasons in skipped.values() for code in reasons} == {"NO_OUTPUT", "NO_VOICE"}


@pytest.mark.slow
def test_results_of_the_pipeline_pass(tmp_path: Path) -> None:

    made = local_runtime(tmp_path)
    finish_job(put_job(made), made)
    made.inbox.put("jobs/bad.manifest.json", b"{}")
    finish_job("jobs/bad.manifest.json", made)
    sequence(made)
    report = run(tmp_path)
    assert report.findings == []
    (key,) = (i.key for i in made.results.list("out/") if i.key.endswith(".sealed"))
    assert head(made.results, key).metadata["vc-aigc"] == "1"
    passed = {check.name for check in report.checks if check.passed}
    assert passed == {name for name, _ in audit.CHECKS.values()} - {"c2pa"}


def flip_a_bit(root: Path) -> None:
    path = sealed(root)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap_objects(root: Path) -> None:
    one, other = sealed(root, 0), sealed(root, 1)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def remove_an_object(root: Path) -> None:
    sealed(root).unlink()


def remove_a_result(root: Path) -> None:
    results(root)[0].unlink()


def remove_a_job(root: Path) -> None:
    shutil.rmtree(results(root)[0].parent)


def add_a_foreign_object(root: Path) -> None:
    (results(root)[0].parent / "extra.wav.sealed").write_bytes(b"hello")


def add_a_foreign_object_at_the_root(root: Path) -> None:
    (root / "results" / "readme.txt").write_bytes(b"hello")


def add_a_foreign_job(root: Path) -> None:
    folder = root / "results" / "out" / ("ab" * 16)
    folder.mkdir()
    (folder / "hello.wav.sealed").write_bytes(b"hello")
    age(root)


def add_a_foreign_event(root: Path) -> None:
    (root / "results/events/dt=2026-11-01" / f"{'ab' * 16}.json").write_bytes(b"{}")


def add_a_foreign_mark(root: Path) -> None:
    payload = 0xABCD1234
    registry_entry = root / "results" / mark_key(payload)
    registry_entry.parent.mkdir(exist_ok=True)
    registry_entry.write_bytes(b'{"item":"x","job":"y","schema":"voicedrop/mark/1"}')


def payload_of(root: Path) -> int:
    """That its first result states."""
    mark = of(root).items[0].watermark
    assert mark
    return int(mark.payload, 16)


def rename_a_mark(root: Path) -> None:
    path = root / "results" / mark_key(payload_of(root))
    path.write_bytes(path.read_bytes().replace(b"hello", b"other"))


def change_a_field(root: Path) -> None:
    path = results(root)[0]
    path.write_bytes(path.read_bytes().replace(b'"status":"succeeded"', b'"status":"partial"'))


def resign_a_changed_result(root: Path) -> None:
    """By somebody who holds the signing key."""
    changed = msgspec.structs.replace(of(root), labels={"new": "label"})
    results(root)[0].write_bytes(signed.sign(changed, opened(root).keys.signing))


def move_a_result(root: Path) -> None:
    results(root)[0].write_bytes(results(root)[1].read_bytes())


def remove_a_leaf(root: Path) -> None:
    path = root / "results" / tiles.key("entries", 0, SIZE)
    path.write_bytes(tiles.bundle(tiles.unbundle(path.read_bytes())[1:]))


def replace_a_leaf(root: Path) -> None:
    path = root / "results" / tiles.key("entries", 0, SIZE)
    entries = tiles.unbundle(path.read_bytes())
    path.write_bytes(tiles.bundle([entries[1], *entries[1:]]))


def remove_the_leaves(root: Path) -> None:
    (root / "results" / tiles.key("entries", 0, SIZE)).unlink()


def remove_a_batch(root: Path) -> None:
    next((root / "results" / LOG_BATCHES).iterdir()).unlink()


def change_a_batch(root: Path) -> None:
    path = next((root / "results" / LOG_BATCHES).iterdir())
    path.write_bytes(tiles.bundle(tiles.unbundle(path.read_bytes())[::-1]))


def remove_the_checkpoints(root: Path) -> None:
    shutil.rmtree(root / "results" / LOG_CHECKPOINTS)
    age(root)


def remove_the_log(root: Path) -> None:
    shutil.rmtree(root / "results" / "log")
    for proof in root.glob("results/out/*/*.tlog-proof"):
        proof.unlink()
    age(root)


def forge_the_checkpoint(root: Path) -> None:
    (path,) = (root / "results" / LOG_CHECKPOINTS).iterdir()
    path.write_text(path.read_text().replace(f"\n{SIZE}\n", f"\n{SIZE + 1}\n"))
    age(root)


def remove_a_proof(root: Path) -> None:
    results(root)[0].with_name("result.tlog-proof").unlink()


def swap_a_proof(root: Path) -> None:
    proof = results(root)[0].with_name("result.tlog-proof")
    proof.write_bytes(results(root)[1].with_name("result.tlog-proof").read_bytes())


def release_without_a_mark(root: Path) -> None:
    """By a worker of ours, signed and logged."""
    made = opened(root)
    add(made, 5000, marked=False)
    sequence(made)


def never_log(root: Path) -> None:
    made = opened(root)
    job = add(made, 100).job_id
    made.control.delete(LOG_QUEUE + job)
    age(root)


def queue_what_has_no_result(root: Path) -> None:
    log.enqueue(opened(root).control, log.Leaf(job="cd" * 16, result_sha256="0" * 64))


def lose_the_consent(root: Path) -> None:
    (root / "inbox/consent/alice.json").unlink()


def replace_the_consent(root: Path) -> None:
    path = root / "inbox/consent/alice.json"
    path.write_bytes(path.read_bytes() + b"\n")


def withdraw_consent_before(root: Path) -> None:
    path = root / "inbox/consent" / f"alice.json{records.REVOKED_SUFFIX}"
    path.write_bytes(b"")
    os.utime(path, (0, 0))


def of(root: Path) -> Result:
    return parse_result(results(root)[0].read_bytes())


SPOILED: dict[Callable[[Path], None], set[tuple[int, str]]] = {
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
    move_a_result: {(1, "RESULT_MISPLACED"), (8, "LOG_MISMATCH")},
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
    never_log: {(8, "NOT_LOGGED")},
    queue_what_has_no_result: {(10, "RESULT_MISSING")},
    lose_the_consent: {(11, "CONSENT_MISSING")},
    replace_the_consent: {(11, "CONSENT_REPLACED")},
    withdraw_consent_before: {(11, "CONSENT_REVOKED")},
}


@pytest.mark.slow
@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_tampering_is_found(copy: Path, spoil: Callable[[Path], None]) -> None:
    spoil(copy)
    assert told(run(copy)) == SPOILED[spoil]


@pytest.mark.slow
def test_seven_faults_in_a_larger_bucket_are_all_found(sixty: Path, tmp_path: Path) -> None:
    assert run(sixty).findings == []
    root = shutil.copytree(sixty, tmp_path / "sixty")
    documents = results(root)
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
    report = run(root)
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


def rewrite(root: Path, **changes: object) -> None:
    """The first item of the first result, changed and signed again by who holds the key."""
    done = of(root)
    item = msgspec.structs.replace(done.items[0], **changes)
    changed = msgspec.structs.replace(done, items=[item, *done.items[1:]])
    results(root)[0].write_bytes(signed.sign(changed, opened(root).keys.signing))


def envelope_of_another(root: Path) -> None:
    rewrite(root, envelope=parse_result(results(root)[1].read_bytes()).items[0].envelope)


def other_plaintext(root: Path) -> None:
    output = of(root).items[0].output
    assert output
    rewrite(root, output=msgspec.structs.replace(output, plain_sha256="0" * 64))


def no_envelope(root: Path) -> None:
    rewrite(root, envelope=None)


def label_denied(root: Path) -> None:
    rewrite(root, label=LabelUsed(profile="none", cue="none"))


def label_of_another(root: Path) -> None:
    rewrite(root, label=LabelUsed(profile="cn", cue="none", producer="x", produce_id="y"))


def no_mark_stated(root: Path) -> None:
    rewrite(root, watermark=None)


def mark_of_another(root: Path) -> None:
    rewrite(root, watermark=parse_result(results(root)[1].read_bytes()).items[0].watermark)


def mark_taken_away(root: Path) -> None:
    payload = payload_of(root)
    (root / "results" / mark_key(payload)).write_bytes(b"[]")


def no_consent(root: Path) -> None:
    done = of(root)
    voices = {n: msgspec.structs.replace(v, consent=None) for n, v in done.voices.items()}
    changed = msgspec.structs.replace(done, voices=voices)
    results(root)[0].write_bytes(signed.sign(changed, opened(root).keys.signing))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "found"),
    [
        (envelope_of_another, {(3, "SEAL_INVALID")}),
        (no_envelope, {(3, "SEAL_INVALID")}),
        (other_plaintext, {(4, "SEAL_INVALID")}),
        (label_denied, {(5, "LABEL_MISMATCH")}),
        (label_of_another, {(5, "LABEL_MISMATCH")}),
        (no_mark_stated, {(7, "WATERMARK_VERIFY_FAILED")}),
        (mark_of_another, {(7, "MARK_UNREGISTERED")}),
        (no_consent, {(11, "CONSENT_MISSING")}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_false_signed_result_is_found(
    copy: Path, claim: Callable[[Path], None], found: set[tuple[int, str]]
) -> None:
    claim(copy)
    assert told(run(copy)) == found | {(8, "LOG_MISMATCH")}


def test_an_invalid_registry_entry_is_found(copy: Path) -> None:
    mark_taken_away(copy)
    assert told(run(copy)) == {(7, "MARK_UNREGISTERED")}


@pytest.mark.slow
def test_a_waiver_is_not_a_finding(tmp_path: Path) -> None:

    made = local_runtime(tmp_path, consent="optional")
    key = put_job(made, label={"profile": "none", "waiver": "a test"})
    document = msgspec.json.decode(made.inbox.get(key, limit=9999).data)
    del document["voices"]["alice"]["consent"]
    made.inbox.put(key, msgspec.json.encode(document))
    finish_job(key, made)
    report = run(tmp_path)
    assert report.findings == []
    (key,) = (i.key for i in made.results.list("out/") if i.key.endswith(".sealed"))
    assert "vc-aigc" not in head(made.results, key).metadata
    assert report.checks[4].reasons == report.checks[10].reasons == {"WAIVED": 1}


def test_consent_is_skipped_if_the_manifest_was_replaced(copy: Path) -> None:
    for path in copy.glob("inbox/jobs/*"):
        path.write_bytes(b"{}")
    assert run(copy).checks[10].reasons == {"NO_INBOX": SIZE - 1, "NO_VOICE": 1}


def test_without_the_control_bucket_outputs_without_a_result_are_unclaimed(copy: Path) -> None:
    add_a_foreign_job(copy)
    assert told(run(copy, control=None)) == {(10, "OBJECT_UNCLAIMED")}


def test_only_the_job_with_the_fault_is_named(copy: Path) -> None:
    flip_a_bit(copy)
    name = sealed(copy).parent.name
    assert {finding.job for finding in run(copy).findings} == {name}


@pytest.mark.slow
def test_a_truncated_log_is_found_with_an_earlier_checkpoint(copy: Path) -> None:
    """Somebody with every key removes the end of the log and all traces of it."""
    made = opened(copy)
    before = {info.key for info in made.results.list("")}
    job = add(made, 100).job_id
    sequence(made)
    kept = log.read_latest_checkpoint(made.results) or ""
    for info in list(made.results.list("")):
        if info.key not in before:
            made.results.delete(info.key)
    assert run(copy).findings == []
    assert told(run(copy, kept)) == {(9, "LOG_INVALID")}
    assert made.results.head(result_key(job)) is None


@pytest.mark.slow
def test_a_checkpoint_of_another_log_is_reported(copy: Path, tmp_path: Path) -> None:
    other = log.read_latest_checkpoint(fill(tmp_path / "other", [0]).results) or ""
    (finding,) = run(copy, other).findings
    assert "The earlier checkpoint is does not belong to this log." in finding.message


@pytest.mark.slow
def test_a_longer_log_continues_its_earlier_checkpoint(copy: Path) -> None:
    made = opened(copy)
    kept = log.read_latest_checkpoint(made.results) or ""
    add(made, 100)
    sequence(made)
    assert run(copy, kept).findings == []


def test_a_deleted_log_is_found_with_an_earlier_checkpoint(copy: Path) -> None:
    kept = log.read_latest_checkpoint(opened(copy).results) or ""
    remove_the_log(copy)
    assert (9, "LOG_INVALID") in told(run(copy, kept))


def test_without_secrets_all_public_checks_run(copy: Path) -> None:
    for secret in (*copy.glob("keys/*.key"), copy / "keys/sign-001.pem"):
        secret.unlink()
    held = keys.load_reading_keys(copy / "keys")
    clean = run(copy, keys=held)
    assert clean.findings == []
    skipped = {check.number for check in clean.checks if "NO_KEY" in check.reasons}
    assert skipped == {3, 4, 7}
    flip_a_bit(copy)
    change_a_field(copy)
    assert (1, "SIGNATURE_INVALID") in told(run(copy, keys=held))


def test_a_destroyed_key_is_not_a_finding(copy: Path) -> None:
    (copy / "keys/kek-001.key").unlink()
    keys.create_keys(copy / "keys")
    report = run(copy)
    assert report.findings == []
    assert report.checks[2].reasons["KEY_DESTROYED"] == SIZE - 1


def test_the_results_bucket_alone_can_be_audited(clean: Path) -> None:
    report = run(clean, control=None, inbox=None)
    assert report.findings == []
    assert report.checks[10].reasons == {"NO_INBOX": SIZE - 1, "NO_VOICE": 1}


@pytest.mark.slow
def test_a_queued_result_is_not_a_finding(copy: Path) -> None:
    add(opened(copy), 100)
    age(copy)
    report = run(copy)
    assert report.findings == []
    assert report.checks[7].reasons == {"NOT_LOGGED_YET": 1}


def test_a_bucket_without_a_log_is_skipped(tmp_path: Path) -> None:
    fill(tmp_path, [0], integrate=False)
    age(tmp_path)
    report = run(tmp_path, control=None)
    assert report.findings == []
    assert report.checks[7].reasons == {"NO_LOG": 1}


@pytest.mark.slow
def test_a_result_logged_during_the_audit_is_not_a_finding(copy: Path) -> None:
    """The log is read first; then a job and its proof arrive."""
    made = opened(copy)

    class Late(LocalStore):
        def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
            if prefix == "" and not self.head(result_key(late[0])):
                shutil.copytree(aside, copy / "results/out", dirs_exist_ok=True)
            return super().list(prefix, after=after)

    aside = copy / "aside"
    late = [add(made, 100).job_id]
    sequence(made)
    shutil.copytree(copy / "results/out" / late[0], aside / late[0])
    shutil.rmtree(copy / "results/out" / late[0])
    for path in (copy / "results" / "log").rglob(f"*{SIZE + 1}"):
        path.unlink()
    (copy / "results" / LOG_BATCHES / f"{SIZE:020}").unlink()
    report = run(copy, results=Late(copy / "results"))
    assert report.findings == []
    assert report.checks[7].reasons == {"NOT_LOGGED_YET": 1}


def test_outputs_of_a_job_in_progress_are_not_findings(copy: Path) -> None:
    add_a_foreign_job(copy)
    with Lease.acquire(LocalStore(copy / "control"), "ab" * 16, "worker", 30):
        report = run(copy)
    assert report.findings == []
    assert report.checks[9].reasons == {"IN_PROGRESS": 1}


def test_consent_withdrawn_afterwards_is_not_a_finding(copy: Path) -> None:
    (copy / "inbox/consent" / f"alice.json{records.REVOKED}").write_bytes(b"")
    os.utime(copy / "inbox/consent" / f"alice.json{records.REVOKED}", (4e9, 4e9))
    assert run(copy).findings == []


def test_consent_is_skipped_if_the_manifest_was_deleted(copy: Path) -> None:
    shutil.rmtree(copy / "inbox/jobs")
    report = run(copy)
    assert report.findings == []
    assert report.checks[10].reasons == {"NO_INBOX": SIZE - 1, "NO_VOICE": 1}


def test_an_audit_writes_to_no_bucket(clean: Path) -> None:
    def everything() -> dict[Path, tuple[int, int]]:
        files = (path for path in clean.rglob("*") if path.is_file())
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    before = everything()
    run(clean)
    assert everything() == before
