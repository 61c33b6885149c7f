from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from core.errors import JobError, Misconfigured, Refused, Unavailable
from core.job.lease import LOG_LIMIT, RECORD_SIZE, Lease, LeaseRecord
from core.storage.local import LocalStore
from tests.support.runtime import local_runtime


@pytest.fixture
def control(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def acquire(store: LocalStore, worker: str = "a", seconds: float = 30) -> Lease:
    return Lease.acquire(store, "job", worker, seconds)


def records(store: LocalStore) -> list[LeaseRecord]:
    log = store.get("lease/job", limit=10**6).data
    return [LeaseRecord.parse(log[i : i + RECORD_SIZE]) for i in range(0, len(log), RECORD_SIZE)]


def test_a_lease_record_is_64_bytes_and_can_be_parsed() -> None:
    record = LeaseRecord("w" * 16, 1795377600.5, 100, 100_000)
    assert len(record.dump()) == RECORD_SIZE
    assert LeaseRecord.parse(record.dump()) == record


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
        log = control.get("lease/job", limit=10**6).data
        control.append(
            "lease/job", LeaseRecord("b", control.now() + 30, 2, 0).dump(), position=len(log)
        )
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


def test_a_lease_log_that_is_too_large_is_refused(control: LocalStore, tmp_path: Path) -> None:
    control.put("lease/job", b"")
    with (tmp_path / "lease/job").open("r+b") as file:
        file.truncate(LOG_LIMIT + 1)  # sparse
    with pytest.raises(Refused, match="OBJECT_TOO_LARGE"):
        acquire(control)
