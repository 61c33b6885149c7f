"""The sequencer believes neither its queue nor what it finds in the log, and the log goes on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.documents import base64url, signed
from core.errors import Refused
from core.storage.local import LocalStore
from core.storage.object_keys import (
    LOG_REFUSED,
    batch_key,
    checkpoint_key,
    proof_key,
    queue_key,
    result_key,
    withdrawal_key,
)
from core.storage.port import Body, Object
from core.tlog import log, sequencer, signed_note, tiles
from core.tlog.leaf import Leaf, TombstoneLeaf, WithdrawalLeaf
from core.tlog.sequencer import Integrated

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
KEYS = [KEY.public_key()]
ORIGIN = "voicedrop/results"
A, B, C = "aa" * 16, "bb" * 16, "cc" * 16
WRONG = "0" * 64


@pytest.fixture
def control(tmp_path: Path) -> LocalStore:
    (tmp_path / "control").mkdir()
    return LocalStore(tmp_path / "control")


@pytest.fixture
def results(tmp_path: Path) -> LocalStore:
    (tmp_path / "results").mkdir()
    return LocalStore(tmp_path / "results")


def put_result(results: LocalStore, job: str, key: Ed25519PrivateKey = KEY, **more: str) -> Leaf:
    """Store a result and return its leaf."""
    data = signed.sign({"schema": "voicedrop/result/1", "job_id": job, **more}, key)
    results.put(result_key(job), data)
    return leaf_of(results, job)


def leaf_of(results: LocalStore, job: str) -> Leaf:
    data = results.get(result_key(job), limit=1 << 20).data
    return Leaf(job=job, result_sha256=hashlib.sha256(data).hexdigest())


def integrate(control: LocalStore, results: LocalStore) -> Integrated:
    return sequencer.integrate(control, results, KEY, ORIGIN)


def logged(results: LocalStore) -> dict[str, str]:
    """Verify the log and return the digest of every document in it."""
    return {name: digest for name, (_, digest) in log.verify(results, KEYS, ORIGIN)[1].items()}


def kept_aside(control: LocalStore) -> list[bytes]:
    return [control.get(i.key, limit=1 << 20).data for i in control.list(LOG_REFUSED)]


def garbage(control: LocalStore, results: LocalStore) -> None:
    control.put(queue_key("0" * 32), b"garbage")


def a_name_of_no_job(control: LocalStore, results: LocalStore) -> None:
    control.put(queue_key("0 strange/name \x7f"), b"")


def too_large(control: LocalStore, results: LocalStore) -> None:
    control.put(queue_key("0" * 32), bytes(100_000))


def a_leaf_under_another_name(control: LocalStore, results: LocalStore) -> None:
    control.put(queue_key("0" * 32), put_result(results, C).dump())


def without_a_result(control: LocalStore, results: LocalStore) -> None:
    sequencer.enqueue(control, Leaf(job=C, result_sha256=WRONG))


def without_a_tombstone(control: LocalStore, results: LocalStore) -> None:
    sequencer.enqueue(control, TombstoneLeaf(job=A, number=0, sha256=WRONG))


def without_a_withdrawal(control: LocalStore, results: LocalStore) -> None:
    sequencer.enqueue(control, WithdrawalLeaf(recording=WRONG, record=WRONG, sha256=WRONG))


def the_withdrawal_of_another_recording(control: LocalStore, results: LocalStore) -> None:
    about = {"recording": "1" * 64, "record": WRONG, "at": "2026-01-01T00:00:00Z"}
    data = signed.sign({"schema": "voicedrop/withdrawal/1"} | about, KEY)
    results.put(withdrawal_key(WRONG, WRONG), data)
    digest = hashlib.sha256(data).hexdigest()
    sequencer.enqueue(control, WithdrawalLeaf(recording=WRONG, record=WRONG, sha256=digest))


def a_result_signed_by_another(control: LocalStore, results: LocalStore) -> None:
    sequencer.enqueue(control, put_result(results, C, OTHER))


def a_result_that_was_changed(control: LocalStore, results: LocalStore) -> None:
    put_result(results, C, status="failed")
    data = results.get(result_key(C), limit=1 << 20).data
    results.put(result_key(C), data.replace(b"failed", b"proved"))
    sequencer.enqueue(control, leaf_of(results, C))


def the_result_of_another_job(control: LocalStore, results: LocalStore) -> None:
    put_result(results, A)
    results.put(result_key(C), results.get(result_key(A), limit=1 << 20).data)
    sequencer.enqueue(control, leaf_of(results, C))


def another_signed_document(control: LocalStore, results: LocalStore) -> None:
    results.put(result_key(C), signed.sign({"schema": "voicedrop/part/1", "job_id": C}, KEY))
    sequencer.enqueue(control, leaf_of(results, C))


def nested_too_deeply(control: LocalStore, results: LocalStore) -> None:
    control.put(queue_key("0" * 32), b'{"x":' + b"[" * 1500)


POISONS = [
    garbage,
    nested_too_deeply,
    a_name_of_no_job,
    too_large,
    a_leaf_under_another_name,
    without_a_result,
    without_a_tombstone,
    without_a_withdrawal,
    the_withdrawal_of_another_recording,
    a_result_signed_by_another,
    a_result_that_was_changed,
    the_result_of_another_job,
    another_signed_document,
]


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_a_bad_leaf_is_set_aside_and_the_log_goes_on(
    control: LocalStore, results: LocalStore, poison: Callable[[LocalStore, LocalStore], None]
) -> None:
    leaves = [put_result(results, job) for job in (A, B)]
    poison(control, results)
    queued = {control.get(i.key, limit=1 << 20).data for i in control.list("log/leaves/")}
    for leaf in leaves:
        sequencer.enqueue(control, leaf)
    done = integrate(control, results)
    assert logged(results) == {leaf.job: leaf.result_sha256 for leaf in leaves}
    assert list(log.list_queued(control)) == []
    assert set(kept_aside(control)) == queued
    assert [leaf.key for leaf in done.refused] == [i.key for i in control.list(LOG_REFUSED)]
    assert integrate(control, results).refused == []


def test_an_object_too_large_to_be_kept_stays_and_the_log_goes_on(
    control: LocalStore, results: LocalStore
) -> None:
    huge = queue_key("0" * 32)
    control.put(huge, b"x")
    os.truncate(control._root / huge, 1 << 40)
    leaf = put_result(results, A)
    sequencer.enqueue(control, leaf)
    (refused,) = integrate(control, results).refused
    assert refused.key == huge
    assert "It cannot be moved: " in refused.reason
    assert logged(results) == {A: leaf.result_sha256}
    assert kept_aside(control) == []


def test_a_false_digest_does_not_keep_the_job_out_of_the_log(
    control: LocalStore, results: LocalStore
) -> None:
    true = put_result(results, A)
    false = Leaf(job=A, result_sha256=WRONG)
    sequencer.enqueue(control, false)
    (refused,) = integrate(control, results).refused
    assert "differs" in refused.reason
    assert kept_aside(control) == [false.dump()]
    assert logged(results) == {A: true.result_sha256}
    assert log.has_proof(results, true, KEYS)
    assert not log.has_proof(results, false, KEYS)


def test_a_second_leaf_of_a_job_is_refused(control: LocalStore, results: LocalStore) -> None:
    first = put_result(results, A)
    sequencer.enqueue(control, first)
    before = integrate(control, results).checkpoint
    second = put_result(results, A, status="rewritten")
    results.delete(proof_key(A))
    sequencer.enqueue(control, second)
    done = integrate(control, results)
    assert "a second is not logged" in done.refused[0].reason
    assert done.checkpoint == before
    assert logged(results) == {A: first.result_sha256}
    _, index = log.verify(results, KEYS, ORIGIN)
    assert [key for key, _ in log.find_changed_documents(results, index)] == [result_key(A)]


def test_a_log_with_two_leaves_of_a_job_is_refused(
    control: LocalStore, results: LocalStore
) -> None:
    first = put_result(results, A)
    sequencer.enqueue(control, first)
    integrate(control, results)
    put_signed_batch(results, 1, [put_result(results, A, status="rewritten").dump()])
    assert integrate(control, results).checkpoint
    with pytest.raises(Refused, match=f"second, different leaf of {A}"):
        log.verify(results, KEYS, ORIGIN)


def test_a_lost_proof_is_written_again(control: LocalStore, results: LocalStore) -> None:
    leaves = [put_result(results, job) for job in (A, B)]
    for leaf in leaves:
        sequencer.enqueue(control, leaf)
    before = integrate(control, results).checkpoint
    results.delete(proof_key(A))
    sequencer.enqueue(control, leaves[0])
    assert integrate(control, results).checkpoint == before
    assert log.has_proof(results, leaves[0], KEYS)


@pytest.mark.parametrize("job", [B, C], ids=["another digest", "no result"])
def test_a_planted_batch_is_set_aside(control: LocalStore, results: LocalStore, job: str) -> None:
    """It would give a job a false leaf."""
    true, other = put_result(results, A), put_result(results, B)
    sequencer.enqueue(control, true)
    integrate(control, results)
    planted = tiles.bundle([Leaf(job=job, result_sha256=WRONG).dump()])
    results.put(batch_key(1), planted)
    sequencer.enqueue(control, other)
    assert len(integrate(control, results).refused) == 1
    assert logged(results) == {A: true.result_sha256, B: other.result_sha256}
    assert kept_aside(control) == [planted]


def put_signed_batch(results: LocalStore, start: int, entries: list[bytes]) -> None:
    """The holder of the key writes a batch itself."""
    batch = tiles.bundle(entries)
    digest = hashlib.sha256(batch).hexdigest()
    about = {"schema": "voicedrop/batch/1", "log": ORIGIN, "start": start, "sha256": digest}
    record = base64url.encode(signed.sign(about, KEY))
    results.put(batch_key(start), batch, metadata={sequencer.BATCH_RECORD: record})


def test_a_signed_batch_without_entries_is_set_aside(
    control: LocalStore, results: LocalStore
) -> None:
    put_signed_batch(results, 0, [])
    sequencer.enqueue(control, put_result(results, A))
    assert len(integrate(control, results).refused) == 1
    assert list(logged(results)) == [A]


@pytest.mark.parametrize("planted", [b"", b"\0", b"\0\0", b"\0\7garbage"])
def test_a_planted_batch_of_garbage_is_set_aside(
    control: LocalStore, results: LocalStore, planted: bytes
) -> None:
    results.put(batch_key(0), planted)
    sequencer.enqueue(control, put_result(results, A))
    assert len(integrate(control, results).refused) == 1
    assert list(logged(results)) == [A]


def test_the_unfinished_batch_of_an_older_version_is_completed(
    control: LocalStore, results: LocalStore
) -> None:
    """Version 0.1.0 did not sign batches."""
    leaf = put_result(results, A)
    results.put(batch_key(0), tiles.bundle([leaf.dump()]))
    assert integrate(control, results).refused == []
    assert logged(results) == {A: leaf.result_sha256}


@pytest.mark.parametrize("key", ["log/tile/entries/000.p/2", "log/tile/0/000.p/2", proof_key(B)])
def test_what_was_planted_in_the_way_of_the_log_is_replaced(
    control: LocalStore, results: LocalStore, key: str
) -> None:
    leaves = [put_result(results, job) for job in (A, B, C)]
    sequencer.enqueue(control, leaves[0])
    integrate(control, results)
    results.put(key, b"planted")
    for leaf in leaves[1:]:
        sequencer.enqueue(control, leaf)
        integrate(control, results)
    assert len(logged(results)) == 3
    assert all(log.has_proof(results, leaf, KEYS) for leaf in leaves)


def test_a_leaf_that_another_sequencer_took_from_the_queue_is_no_failure(
    control: LocalStore, results: LocalStore
) -> None:
    class Shared(LocalStore):
        def get(self, key: str, *, limit: int, etag: str = "") -> Object:
            if key == queue_key(A):
                self.delete(key)
            return super().get(key, limit=limit, etag=etag)

    for job in (A, B):
        sequencer.enqueue(control, put_result(results, job))
    assert integrate(Shared(control._root), results).refused == []
    assert list(logged(results)) == [B]


def test_the_checkpoint_of_another_sequencer_with_another_key_stays(
    control: LocalStore, results: LocalStore
) -> None:
    """While a signing key is rotated, two sequencers complete the same batch."""

    class Raced(LocalStore):
        def put_once(
            self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None
        ) -> bool:
            if key == checkpoint_key(1):
                sequencer.integrate(control, results, OTHER, ORIGIN, earlier_keys=KEYS)
            return super().put_once(key, data, metadata=metadata)

    sequencer.enqueue(control, put_result(results, A))
    both = [OTHER.public_key()]
    done = sequencer.integrate(control, Raced(results._root), KEY, ORIGIN, earlier_keys=both)
    note = results.get(checkpoint_key(1), limit=1 << 20).data.decode()
    assert signed_note.verify_checkpoint(note, ORIGIN, both) == done.checkpoint
    assert kept_aside(control) == []


def test_a_signed_entry_that_is_no_leaf_has_no_proof(
    control: LocalStore, results: LocalStore
) -> None:
    leaf = put_result(results, A)
    put_signed_batch(results, 0, [b"no leaf", leaf.dump()])
    checkpoint = integrate(control, results).checkpoint
    assert checkpoint is not None
    assert checkpoint.size == 2
    assert log.has_proof(results, leaf, KEYS)


def test_a_changed_batch_stops_the_sequencer(control: LocalStore, results: LocalStore) -> None:
    sequencer.enqueue(control, put_result(results, A))
    integrate(control, results)
    results.put(batch_key(0), tiles.bundle([Leaf(job=A, result_sha256=WRONG).dump()]))
    sequencer.enqueue(control, put_result(results, B))
    with pytest.raises(Refused, match=r"restore log/batches"):
        integrate(control, results)


def test_a_checkpoint_of_an_unknown_key_stops_the_sequencer(
    control: LocalStore, results: LocalStore
) -> None:
    sequencer.enqueue(control, put_result(results, A))
    integrate(control, results)
    foreign = signed_note.sign(f"{ORIGIN}\n9\n{'A' * 43}=\n", ORIGIN, OTHER)
    results.put(checkpoint_key(9), foreign.encode())
    sequencer.enqueue(control, put_result(results, B))
    with pytest.raises(Refused, match="the earlier public key is missing"):
        integrate(control, results)


def test_foreign_names_in_the_log_are_ignored(control: LocalStore, results: LocalStore) -> None:
    results.put("log/checkpoints/zzz", b"x")
    results.put("log/batches/zzz", b"x")
    sequencer.enqueue(control, put_result(results, A))
    integrate(control, results)
    assert list(logged(results)) == [A]
