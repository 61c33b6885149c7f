from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.crypto.keys import Keyring, LocalKeys
from core.documents import signed
from core.documents.signed import key_id
from core.errors import JobError, Misconfigured, Unavailable
from core.job.lease import LOG_LIMIT, LONGEST, Lease, LeaseRecord, read_last_record
from core.storage.local import LocalStore
from core.storage.port import read_log
from tests.support.present import present
from tests.support.runtime import local_runtime

SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = SIGNING.public_key()
KEYS = Keyring(LocalKeys({}), SIGNING, {key_id(PUBLIC): PUBLIC}, {})


@pytest.fixture
def control(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def acquire(store: LocalStore, worker: str = "a", seconds: float = 30) -> Lease:
    return Lease.acquire(store, "job", worker, seconds, KEYS)


def records(store: LocalStore) -> list[LeaseRecord]:
    log = store.get("lease/job", limit=10**6).data
    return msgspec.json.Decoder(LeaseRecord).decode_lines(log)


def append_record(
    store: LocalStore, *, key: Ed25519PrivateKey = SIGNING, name: str = "job", **changes: Any
) -> None:
    """Append a record of another worker; `changes`: its fields."""
    size = len(read_log(store, "lease/job", limit=10**6))
    fields: dict[str, Any] = {
        "position": size,
        "worker": "b",
        "expires": store.now() + 30,
        "attempt": 2,
        "done": 0,
    }
    line = LeaseRecord(name=name, **(fields | changes)).sign(key)
    assert store.append("lease/job", line, position=size)


@pytest.mark.parametrize("worker", ["", "w" * 17, "a b", 'a"b', "工人"])
def test_a_worker_whose_name_does_not_fit_into_a_record_does_not_start(
    tmp_path: Path, worker: str
) -> None:
    with pytest.raises(Misconfigured, match="SETTING_INVALID"):
        local_runtime(tmp_path, worker=worker)


def test_a_leased_job_is_busy_for_other_workers(control: LocalStore) -> None:
    with acquire(control, "a"), pytest.raises(Unavailable, match="JOB_BUSY"):
        acquire(control, "b")


def test_a_released_job_is_free_at_once(control: LocalStore) -> None:
    with acquire(control, "a"):
        pass
    with acquire(control, "b") as lease:
        assert lease.attempt == 2


@pytest.mark.slow
def test_an_expired_lease_is_taken_over_and_the_first_worker_learns_of_it(
    control: LocalStore,
) -> None:
    first = acquire(control, "a", seconds=0.3)  # not renewed, as by a frozen worker
    time.sleep(0.4)
    with acquire(control, "b"):
        first._write(expires=control.now() + 30)
        with pytest.raises(Unavailable, match="LEASE_LOST"):
            first.check()
        assert records(control)[-1].worker == "b"


@pytest.mark.slow
def test_a_lease_is_renewed_while_it_is_held(control: LocalStore) -> None:
    with acquire(control, "a", seconds=0.3) as lease:
        time.sleep(0.6)
        with pytest.raises(Unavailable, match="JOB_BUSY"):
            acquire(control, "b")
        lease.check()


@pytest.mark.slow
def test_a_worker_that_lost_its_lease_stops_renewing_and_does_not_release_it(
    control: LocalStore,
) -> None:
    with acquire(control, "a", seconds=0.2) as lease:
        append_record(control)
        time.sleep(0.3)
        with pytest.raises(Unavailable, match="LEASE_LOST"):
            lease.record_outputs(1)
    assert records(control)[-1].worker == "b"


def test_attempts_are_counted_without_progress_and_reset_by_it(control: LocalStore) -> None:
    for expected in (1, 2, 3):
        with acquire(control) as lease:
            assert lease.attempt == expected
    with acquire(control) as lease:
        lease.record_outputs(1)
        lease.record_outputs(1)
    with acquire(control) as lease:
        assert lease.attempt == 2
        lease.record_outputs(1)  # no progress
    with acquire(control) as lease:
        assert lease.attempt == 3


def test_seconds_and_calls_are_carried_from_one_acquisition_to_the_next(
    control: LocalStore,
) -> None:
    charged = [5.0]
    with Lease.acquire(control, "job", "a", 30, KEYS, lambda: charged[0]) as lease:
        assert (lease.calls, lease.seconds) == (1, 5.0)
        charged[0] = 7.0
        lease.renew()
        charged[0] = 8.0
    with Lease.acquire(control, "job", "b", 30, KEYS, lambda: 1.0) as lease:
        assert (lease.calls, lease.seconds) == (2, 9.0)
    assert [(one.calls, one.seconds) for one in records(control)] == [
        (1, 0.0),
        (1, 7.0),
        (1, 8.0),
        (2, 8.0),
        (2, 9.0),
    ]


def test_one_of_many_simultaneous_workers_gets_the_job(control: LocalStore) -> None:
    won: list[Lease] = []
    refused: list[JobError] = []
    start = threading.Barrier(16)

    def work(name: str) -> None:
        start.wait()
        try:
            won.append(acquire(control, name))
        except Unavailable as exc:
            refused.append(exc)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 15)
    assert {exc.code for exc in refused} == {"JOB_BUSY"}


class Flaky(LocalStore):
    """A store that is unavailable while `down` is set."""

    down = False

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        if self.down:
            raise Unavailable("STORAGE_UNAVAILABLE")
        return super().append(key, data, position=position)


@pytest.mark.slow
def test_an_outage_shorter_than_the_lease_does_not_lose_it(tmp_path: Path) -> None:
    store = Flaky(tmp_path)
    with acquire(store, seconds=0.3) as lease:
        store.down = True
        time.sleep(0.15)
        store.down = False
        time.sleep(0.3)
        lease.check()
        assert records(store)[-1].expires > store.now()


def test_releasing_a_lease_during_an_outage_raises_nothing(tmp_path: Path) -> None:
    store = Flaky(tmp_path)
    with acquire(store):
        store.down = True


def test_a_lease_log_that_is_too_large_is_begun_again(control: LocalStore, tmp_path: Path) -> None:
    control.put("lease/job", b"")
    with (tmp_path / "lease/job").open("r+b") as file:
        file.truncate(LOG_LIMIT + 1)  # sparse
    assert acquire(control).attempt == 1


FORGED: dict[str, dict[str, Any]] = {
    "by another key": {"key": Ed25519PrivateKey.generate()},
    "of another job": {"name": "other"},
    "at another position": {"position": 0},
    "that never expires": {"expires": time.time() + 2 * LONGEST},
}


@pytest.mark.parametrize("how", FORGED)
def test_a_record_that_is_forged_or_copied_neither_blocks_a_job_nor_gives_it_up(
    control: LocalStore, how: str
) -> None:
    with acquire(control):
        pass
    append_record(control, **({"attempt": 99} | FORGED[how]))
    assert read_last_record(control, "job", KEYS.verifying) is None
    with acquire(control) as lease:
        assert lease.attempt == 1
    assert present(read_last_record(control, "job", KEYS.verifying)).worker == "a"


@pytest.mark.parametrize("change", [{"schema": "voicedrop/lease/2"}, {"more": {"a": 1}}])
def test_the_lease_of_a_newer_version_is_left_as_it_is(
    control: LocalStore, change: dict[str, Any]
) -> None:
    """Even when it has expired: only workers of that version know what the record says."""
    with acquire(control):
        pass
    before = control.get("lease/job", limit=10**6).data
    fields = msgspec.to_builtins(records(control)[-1]) | {"position": len(before), "expires": 1.0}
    line = signed.sign(fields | change, SIGNING) + b"\n"
    assert control.append("lease/job", line, position=len(before))
    with pytest.raises(Unavailable, match=r"FORMAT_NEWER: A newer version .* wrote this lease"):
        acquire(control)
    assert control.get("lease/job", limit=10**6).data == before + line


OTHERS = (b"x", b"\n", b"{}\n", b'{"w":"b","e":9e9,"a":9,"d":0}'.ljust(63) + b"\n")


@pytest.mark.parametrize("data", OTHERS, ids=["text", "empty line", "object", "version 0.1.0"])
def test_a_log_that_nobody_signed_is_begun_again(control: LocalStore, data: bytes) -> None:
    control.put("lease/job", data)
    with acquire(control) as lease:
        assert lease.attempt == 1
        with pytest.raises(Unavailable, match="JOB_BUSY"):
            acquire(control, "b")
    assert len(records(control)) == 2
