"""The lease of a job: a log to which workers append by compare-and-swap.

    lease/<job_id> = record*
    record = 64 bytes: JSON, spaces, newline
    JSON   = {"w": worker, "e": expires (store's clock, 0 = released), "a": attempt, "d": done}

A worker owns the job while the last record is its own and has not expired. Of two workers that
append at the same position only one succeeds, even if their clocks differ. A lease only avoids
double work: results are correct because every output is written once (`Store.put_once`). The
attempt is written before anything is decoded, so a manifest that kills its worker is counted.

A worker that finds the lease taken raises JOB_BUSY, and its notification is delivered again.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType

from core.errors import JobError, Unavailable
from core.storage.object_keys import lease_key
from core.storage.port import Store, read_log

RECORD_SIZE = 64
LOG_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    worker: str
    expires: float
    attempt: int
    """Acquisitions in a row, this one included, without a new output."""
    done: int
    """Outputs that are known to be stored."""

    def dump(self) -> bytes:
        fields = {"w": self.worker, "e": round(self.expires, 1), "a": self.attempt, "d": self.done}
        text = json.dumps(fields, separators=(",", ":"))
        return text.encode().ljust(RECORD_SIZE - 1) + b"\n"

    @staticmethod
    def parse(raw: bytes) -> LeaseRecord:
        fields = json.loads(raw)
        return LeaseRecord(fields["w"], fields["e"], fields["a"], fields["d"])


class Lease:
    """The right to work on a job. `with Lease.acquire(...) as lease` renews it from a thread."""

    def __init__(
        self, store: Store, key: str, record: LeaseRecord, position: int, seconds: float
    ) -> None:
        self._store, self._key, self._seconds = store, key, seconds
        self._record, self._position = record, position
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._lost: Unavailable | None = None
        name = f"lease {key}"
        self._thread = threading.Thread(target=self._renew_until_stopped, name=name, daemon=True)

    @property
    def attempt(self) -> int:
        return self._record.attempt

    @staticmethod
    def acquire(store: Store, job_id: str, worker: str, seconds: float) -> Lease:
        """Raises Unavailable JOB_BUSY while another worker has the lease.

        `worker`: at most 16 ASCII characters, unique to this process. `seconds`: until it expires.
        """
        key = lease_key(job_id)
        log = _read(store, key)
        now = store.now()
        attempt, done = 1, 0
        if log:
            last = LeaseRecord.parse(log[-RECORD_SIZE:])
            if last.expires > now:
                message = f"{last.worker} has the lease for {last.expires - now:.0f} s more."
                raise Unavailable("JOB_BUSY", message)
            attempt, done = last.attempt + 1, last.done
        record = LeaseRecord(worker, now + seconds, attempt, done)
        if not store.append(key, record.dump(), position=len(log)):
            raise Unavailable("JOB_BUSY", "Another worker got the lease first.")
        return Lease(store, key, record, len(log) + RECORD_SIZE, seconds)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._lost is None:
            # Released, so that a retry need not wait for its end. If this fails, the retry waits.
            with suppress(JobError):
                self._write(expires=0.0)

    def check(self) -> None:
        """Raises Unavailable LEASE_LOST if another worker took over. Call before every write."""
        if self._lost:
            raise self._lost

    def record_outputs(self, done: int) -> None:
        """Set the number of stored outputs. If it has grown, attempts are counted anew, because the
        earlier ones made progress. The next renewal writes it."""
        self.check()
        with self._lock:
            if done > self._record.done:
                self._record = replace(self._record, attempt=1, done=done)

    def undo_attempt(self) -> None:
        """Do not count this attempt, because it ended for a reason outside the job."""
        with self._lock:
            self._record = replace(self._record, attempt=self._record.attempt - 1)

    def renew(self) -> None:
        """Extend the lease to its full time. Raises Unavailable if the store does not answer."""
        self._write(expires=self._store.now() + self._seconds)

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            # While the store does not answer, this tries again; the lease may expire meanwhile.
            with suppress(JobError):
                self.renew()
            if self._lost:
                return

    def _write(self, *, expires: float) -> None:
        with self._lock:
            record = replace(self._record, expires=expires)
            if self._store.append(self._key, record.dump(), position=self._position):
                self._record, self._position = record, self._position + RECORD_SIZE
            else:
                self._lost = Unavailable("LEASE_LOST")


def read_last_record(store: Store, job_id: str) -> LeaseRecord | None:
    """Return the record that counts, or None if no worker has ever had the lease."""
    log = _read(store, lease_key(job_id))
    return LeaseRecord.parse(log[-RECORD_SIZE:]) if log else None


def _read(store: Store, key: str) -> bytes:
    """Return the complete records of a lease."""
    log = read_log(store, key, limit=LOG_LIMIT)
    return log[: len(log) // RECORD_SIZE * RECORD_SIZE]
