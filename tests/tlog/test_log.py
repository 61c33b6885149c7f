"""core.tlog.log over folders: crashes, concurrent sequencers and tampering."""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.documents import signed
from core.errors import Refused
from core.storage.local import LocalStore
from core.storage.object_keys import LOG_BATCHES, proof_key, result_key
from core.storage.port import Body
from core.tlog import log, merkle, sequencer, signed_note, tiles
from core.tlog.leaf import Leaf

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = [KEY.public_key()]
ORIGIN = "voicedrop.example/results"


@pytest.fixture
def control(tmp_path: Path) -> LocalStore:
    return create_bucket(tmp_path / "control")


@pytest.fixture
def results(tmp_path: Path) -> LocalStore:
    return create_bucket(tmp_path / "results")


def create_bucket(path: Path) -> LocalStore:
    path.mkdir(parents=True)
    return LocalStore(path)


def job_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def make_result(number: int) -> bytes:
    return signed.sign({"schema": "voicedrop/result/1", "job_id": job_of(number)}, KEY)


def make_leaf(number: int) -> Leaf:
    digest = hashlib.sha256(make_result(number)).hexdigest()
    return Leaf(job=job_of(number), result_sha256=digest)


def enqueue_jobs(control: LocalStore, results: LocalStore, numbers: range) -> None:
    """Store the results of jobs and queue their leaves, as a worker does."""
    for number in numbers:
        results.put_once(result_key(job_of(number)), make_result(number))
        sequencer.enqueue(control, make_leaf(number))


def integrate(control: LocalStore, results: LocalStore) -> signed_note.Checkpoint | None:
    return sequencer.integrate(control, results, KEY, ORIGIN).checkpoint


def read_all(store: LocalStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key, limit=1 << 20).data for info in store.list("")}


def test_without_a_queue_nothing_is_logged(control: LocalStore, results: LocalStore) -> None:
    assert integrate(control, results) is None
    assert log.read_latest_checkpoint(results) is None
    assert read_all(results) == {}


def test_queued_jobs_are_logged_once_and_the_queue_is_emptied(
    control: LocalStore, results: LocalStore
) -> None:
    enqueue_jobs(control, results, range(3))
    made = integrate(control, results)
    assert made is not None
    assert made.size == 3
    assert read_all(control) == {}
    found, index = log.verify(results, KEYS, ORIGIN)
    assert found == made
    leaves = [make_leaf(number) for number in range(3)]
    assert {name: digest for name, (_, digest) in index.items()} == {
        leaf.job: leaf.result_sha256 for leaf in leaves
    }


def test_a_job_that_is_queued_again_is_not_logged_again(
    control: LocalStore, results: LocalStore
) -> None:
    enqueue_jobs(control, results, range(3))
    first = integrate(control, results)
    enqueue_jobs(control, results, range(3))
    assert integrate(control, results) == first
    assert read_all(control) == {}


def test_every_proof_is_stored_beside_its_result_and_verifies_alone(
    control: LocalStore, results: LocalStore
) -> None:
    enqueue_jobs(control, results, range(5))
    integrate(control, results)
    enqueue_jobs(control, results, range(5, 9))
    integrate(control, results)
    indices = set()
    for number in range(9):
        proof = results.get(
            f"out/{make_leaf(number).job}/result.tlog-proof", limit=4096
        ).data.decode()
        index, _ = log.check_proof(proof, make_leaf(number).dump(), KEYS, ORIGIN)
        indices.add(index)
        with pytest.raises(Refused, match="LOG_INVALID"):
            log.check_proof(proof, make_leaf(number + 1).dump(), KEYS, ORIGIN)
    assert indices == set(range(9))


@pytest.mark.parametrize(
    ("old", "new"), [("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"), ("index 1", "index x")]
)
def test_an_invalid_proof_is_refused(
    control: LocalStore, results: LocalStore, old: str, new: str
) -> None:
    enqueue_jobs(control, results, range(2))
    integrate(control, results)
    proofs = [proof_key(make_leaf(i).job) for i in range(2)]
    texts = [results.get(key, limit=4096).data.decode() for key in proofs]
    text = next(text for text in texts if old in text)
    for number in range(2):
        with pytest.raises(Refused, match="LOG_INVALID"):
            log.check_proof(text.replace(old, new), make_leaf(number).dump(), KEYS, ORIGIN)


def test_numbers_of_tiles_are_split_as_c2sp_says() -> None:
    assert tiles.key("0", 1_234_067, 256) == "log/tile/0/x001/x234/067"
    assert tiles.key("entries", 1000, 3) == "log/tile/entries/x001/000.p/3"


class Crash(Exception):
    """Stands for the end of the process."""


class CrashingStore(LocalStore):
    """A bucket that crashes its user before the n-th change."""

    def __init__(self, root: Path, changes_left: list[int]) -> None:
        super().__init__(root)
        self.changes_left = changes_left

    def _change(self) -> None:
        self.changes_left[0] -= 1
        if self.changes_left[0] < 0:
            raise Crash

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        self._change()
        super().put(key, data, metadata=metadata)

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        self._change()
        return super().put_once(key, data, metadata=metadata)

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        self._change()
        return super().append(key, data, position=position)

    def delete(self, key: str) -> None:
        self._change()
        super().delete(key)


def test_a_crash_at_any_change_leaves_a_log_that_the_next_run_completes(tmp_path: Path) -> None:
    changes = 0
    while True:
        root = tmp_path / str(changes)
        control, results = create_bucket(root / "control"), create_bucket(root / "results")
        enqueue_jobs(control, results, range(2))
        integrate(control, results)
        enqueue_jobs(control, results, range(2, 5))
        changes_left = [changes]
        try:
            stores = (
                CrashingStore(root / "control", changes_left),
                CrashingStore(root / "results", changes_left),
            )
            sequencer.integrate(*stores, KEY, ORIGIN)
        except Crash:
            crashed = log.verify(results, KEYS, ORIGIN)[0]
            assert crashed.size in (2, 5)
            enqueue_jobs(control, results, range(5, 6))
            integrate(control, results)
            _, index = log.verify(results, KEYS, ORIGIN)
            assert len(index) == index.size == 6
            assert read_all(control) == {}
            changes += 1
        else:
            break
    assert changes == 10  # batch, entries, hashes, three proofs, three deletions, checkpoint


@pytest.mark.slow
def test_concurrent_sequencers_write_one_log(control: LocalStore, results: LocalStore) -> None:
    enqueue_jobs(control, results, range(40))
    with ThreadPoolExecutor(6) as pool:
        for number in range(40, 60):
            pool.submit(integrate, control, results)
            enqueue_jobs(control, results, range(number, number + 1))
    integrate(control, results)
    _, index = log.verify(results, KEYS, ORIGIN)
    assert len(index) == index.size == 60


def test_large_queues_are_divided_into_batches(control: LocalStore, results: LocalStore) -> None:
    enqueue_jobs(control, results, range(10))
    made = sequencer.integrate(control, results, KEY, ORIGIN, max_batch=4).checkpoint
    assert made is not None
    assert made.size == 10
    starts = [info.key for info in results.list(LOG_BATCHES)]
    assert starts == [f"log/batches/{start:020}" for start in (0, 4, 8)]


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    control, results = create_bucket(folder / "control"), create_bucket(folder / "results")
    enqueue_jobs(control, results, range(200))
    integrate(control, results)
    enqueue_jobs(control, results, range(200, 300))
    integrate(control, results)
    return folder / "results"


@pytest.fixture
def logged(three_hundred: Path, tmp_path: Path) -> LocalStore:
    shutil.copytree(three_hundred / "log", tmp_path / "logged/log")
    return LocalStore(tmp_path / "logged")


@pytest.mark.slow
def test_tiles_have_the_keys_of_c2sp(logged: LocalStore) -> None:
    kept = read_all(logged)
    names = {name for name in kept if name.startswith("log/tile/")}
    assert names == {
        "log/tile/0/000",
        "log/tile/0/000.p/200",
        "log/tile/0/001.p/44",
        "log/tile/1/000.p/1",
        "log/tile/entries/000",
        "log/tile/entries/000.p/200",
        "log/tile/entries/001.p/44",
    }
    hashes = [kept["log/tile/0/000"][i : i + 32] for i in range(0, 256 * 32, 32)]
    assert kept["log/tile/1/000.p/1"] == merkle.root(256, merkle.Tree(hashes).node)
    size = struct.unpack(">H", kept["log/tile/entries/000"][:2])[0]
    entry = kept["log/tile/entries/000"][2 : 2 + size]
    assert merkle.leaf_hash(entry) == kept["log/tile/0/000"][:32]
    assert log.verify(logged, KEYS, ORIGIN)[0].size == 300


def test_an_earlier_checkpoint_is_continued(control: LocalStore, logged: LocalStore) -> None:
    earlier = log.read_latest_checkpoint(logged)
    enqueue_jobs(control, logged, range(300, 310))
    integrate(control, logged)
    assert log.verify(logged, KEYS, ORIGIN, earlier=earlier)[0].size == 310


def test_a_rewritten_log_does_not_continue_an_earlier_checkpoint(
    tmp_path: Path, control: LocalStore, results: LocalStore
) -> None:
    """The operator has every key and creates the log again without one job."""
    enqueue_jobs(control, results, range(5))
    integrate(control, results)
    rewritten = create_bucket(tmp_path / "rewritten")
    enqueue_jobs(control, rewritten, range(1, 9))
    integrate(control, rewritten)
    assert log.verify(rewritten, KEYS, ORIGIN)
    with pytest.raises(Refused, match="no longer contains"):
        log.verify(rewritten, KEYS, ORIGIN, earlier=log.read_latest_checkpoint(results))


def test_a_truncated_log_is_refused(
    control: LocalStore, results: LocalStore, logged: LocalStore
) -> None:
    enqueue_jobs(control, results, range(4))
    integrate(control, results)
    with pytest.raises(Refused, match="no longer contains"):
        log.verify(results, KEYS, ORIGIN, earlier=log.read_latest_checkpoint(logged))


@pytest.mark.parametrize(
    "key",
    [
        "log/tile/entries/000",
        "log/tile/entries/001.p/44",
        "log/tile/0/000",
        "log/tile/0/001.p/44",
        "log/tile/1/000.p/1",
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "removed"])
def test_a_damaged_log_is_refused(logged: LocalStore, key: str, damage: str) -> None:
    data = logged.get(key, limit=1 << 20).data
    if damage == "removed":
        logged.delete(key)
    else:
        flipped = data[:9] + bytes([data[9] ^ 1]) + data[10:]
        logged.put(key, {"flipped": flipped, "cut": data[:-1], "emptied": b""}[damage])
    with pytest.raises(Refused, match="LOG_INVALID"):
        log.verify(logged, KEYS, ORIGIN)


@pytest.mark.parametrize("damage", ["flipped", "removed"])
def test_a_lost_checkpoint_is_found_with_a_kept_copy(logged: LocalStore, damage: str) -> None:
    kept, key = log.read_latest_checkpoint(logged), f"log/checkpoints/{300:020}"
    assert kept is not None
    if damage == "removed":
        logged.delete(key)
    else:
        logged.put(key, kept.replace("\n300\n", "\n299\n").encode())
    with pytest.raises(Refused, match="LOG_INVALID"):
        log.verify(logged, KEYS, ORIGIN, earlier=kept)


def test_changed_entries_with_matching_tiles_are_found(logged: LocalStore) -> None:
    entries = list(log.read_entries(logged, 300))
    entries[7] = make_leaf(999).dump()
    hashes = [merkle.leaf_hash(entry) for entry in entries]
    for level, number, data in merkle.Tree(hashes).tiles():
        logged.put(tiles.key(str(level), number, len(data) // 32), data)
    logged.put("log/tile/entries/000", tiles.bundle(entries[:256]))
    with pytest.raises(Refused, match="do not match the root"):
        log.verify(logged, KEYS, ORIGIN)


def test_a_missing_log_is_refused(results: LocalStore) -> None:
    with pytest.raises(Refused, match="LOG_MISSING"):
        log.verify(results, KEYS, ORIGIN)
