"""Who works on a job: a lease kept as an append-only log, used as compare-and-swap.

    lease/<job_id> = record*
    record = 64 bytes: JSON, spaces, newline
    JSON   = {"w": worker, "e": expires (store's clock, 0 = released), "a": attempt, "d": done}

A worker owns the job while the last record is its own and has not expired. Two workers that
append at the same position cannot both succeed, whatever they believe about the time; so a lease
saves work, and what makes results right is that every output is written once (`Store.put_once`).
The attempt is written before anything is decoded: a manifest that kills its worker is counted.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType

from core.errors import JobError, Refused, Unavailable
from core.storage.object_keys import lease_key
from core.storage.port import Store

RECORD = 64
LOG_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    worker: str
    expires: float
    attempt: int
    """Acquisitions in a row during which no further output was stored."""
    done: int
    """Outputs known to be stored."""

    def dump(self) -> bytes:
        fields = {"w": self.worker, "e": round(self.expires, 1), "a": self.attempt, "d": self.done}
        text = json.dumps(fields, separators=(",", ":"))
        return text.encode().ljust(RECORD - 1) + b"\n"

    @staticmethod
    def parse(raw: bytes) -> Record:
        fields = json.loads(raw)
        return Record(fields["w"], fields["e"], fields["a"], fields["d"])


class Lease:
    """Hold a job: `with Lease.acquire(...) as lease`. Renewed from a thread until left."""

    def __init__(
        self, store: Store, key: str, record: Record, position: int, seconds: float
    ) -> None:
        self._store, self._key, self._seconds = store, key, seconds
        self._record, self._position = record, position
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._lost: Unavailable | None = None
        self._thread = threading.Thread(target=self._keep, name=f"lease {key}", daemon=True)

    @property
    def attempt(self) -> int:
        return self._record.attempt

    @staticmethod
    def acquire(store: Store, job_id: str, worker: str, seconds: float) -> Lease:
        """Unavailable JOB_BUSY while another worker holds the job.

        `worker` is at most 16 ASCII characters and unique to this run.
        """
        key = lease_key(job_id)
        log = _read(store, key)
        now = store.now()
        attempt, done = 1, 0
        if log:
            last = Record.parse(log[-RECORD:])
            if last.expires > now:
                raise Unavailable(
                    "JOB_BUSY", f"held by {last.worker} for {last.expires - now:.0f} s more"
                )
            attempt, done = last.attempt + 1, last.done
        record = Record(worker, now + seconds, attempt, done)
        if not store.append(key, record.dump(), position=len(log)):
            raise Unavailable("JOB_BUSY", "another worker took the job at this moment")
        return Lease(store, key, record, len(log) + RECORD, seconds)

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
            # Expired at once, so that a retry need not wait for the clock; if this fails it waits.
            with suppress(JobError):
                self._write(expires=0.0)

    def check(self) -> None:
        """Unavailable LEASE_LOST once another worker has taken over: stop before writing."""
        if self._lost:
            raise self._lost

    def progress(self, done: int) -> None:
        """`done` outputs are stored: if that is more than was known, the attempts counted so far
        were not in vain. Others learn of it with the next renewal."""
        self.check()
        with self._lock:
            if done > self._record.done:
                self._record = replace(self._record, attempt=1, done=done)

    def forgive(self) -> None:
        """This attempt broke off through no fault of the job: do not count it."""
        with self._lock:
            self._record = replace(self._record, attempt=self._record.attempt - 1)

    def renew(self) -> None:
        """Hold the job for the full time again. Unavailable if the store is away."""
        self._write(expires=self._store.now() + self._seconds)

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            # While the store is away we try again; the lease itself may run out meanwhile.
            with suppress(JobError):
                self.renew()
            if self._lost:
                return

    def _write(self, *, expires: float) -> None:
        with self._lock:
            record = replace(self._record, expires=expires)
            if self._store.append(self._key, record.dump(), position=self._position):
                self._record, self._position = record, self._position + RECORD
            else:
                self._lost = Unavailable("LEASE_LOST")


def last(store: Store, job_id: str) -> Record | None:
    """The claim that counts; None if nobody has ever worked on the job."""
    log = _read(store, lease_key(job_id))
    return Record.parse(log[-RECORD:]) if log else None


def _read(store: Store, key: str) -> bytes:
    try:
        log = store.get(key, limit=LOG_LIMIT).data
    except Refused as exc:
        if exc.code != "OBJECT_MISSING":
            raise
        return b""
    return log[: len(log) // RECORD * RECORD]
