"""The lease of a job: a log to which workers append by compare-and-swap.

    lease/<job_id> = record*
    record = a signed JSON document (`LeaseRecord`) on one line

A worker owns the job while the last record is its own and has not expired. Of two workers that
append at the same position only one succeeds, even if their clocks differ. A lease only avoids
double work: results are correct because every output is written once (`Store.put_once`). The
attempt is written before anything is decoded, so a manifest that kills its worker is counted.

A worker that finds the lease taken raises JOB_BUSY, and its notification is delivered again.

A record counts only if one of our keys signed it for this job and this position, and if it expires
within `LONGEST`. With anything else as its last record (a forged or copied one, or one of version
0.1.0, which did not sign them) the log is that of a job on which nobody works: it is begun again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.crypto.keys import Keyring
from core.documents import signed
from core.documents.signed import Signature
from core.errors import JobError, Refused, Unavailable
from core.storage.object_keys import lease_key
from core.storage.port import Store, read_log

LOG_LIMIT = 64 * 1024 * 1024
LEAST_TO_HELP_S = 30.0
"""A waiting worker helps with a job whose rest takes one worker longer than this."""
LONGEST = 7200.0
"""Most seconds until a lease expires: twice the most that `VOICEDROP_LEASE_SECONDS` may be, because
clocks differ."""


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/lease/1"] = "voicedrop/lease/1"
    name: str
    """As in the key: a job id, the name of a shard, or `log`."""
    position: int
    """Bytes before this record."""
    worker: str
    expires: float
    """Unix seconds by the store's clock; 0: released."""
    attempt: int
    """Acquisitions in a row, this one included, without a new output."""
    done: int
    """Outputs that are known to be stored."""
    seconds: float = 0.0
    """For which this and all earlier acquisitions are charged (core/job/meter.py)."""
    calls: int = 0
    """Acquisitions, this one included."""
    signature: Signature | None = None

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """Return the line of the log."""
        rounded = msgspec.structs.replace(
            self, expires=round(self.expires, 1), seconds=round(self.seconds, 3)
        )
        return signed.sign(rounded, key) + b"\n"


class Lease:
    """The right to work on a job. `with Lease.acquire(...) as lease` renews it from a thread."""

    def __init__(
        self,
        store: Store,
        record: LeaseRecord,
        position: int,
        seconds: float,
        keys: Keyring,
        charged: Callable[[], float],
    ) -> None:
        self._store, self._seconds, self._keys = store, seconds, keys
        self._record, self._position = record, position
        self._earlier, self._charged = record.seconds, charged
        self._key = lease_key(record.name)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._lost: Unavailable | None = None
        name = f"lease {self._key}"
        # With the context of the call, to which its credentials belong.
        renew = partial(copy_context().run, self._renew_until_stopped)
        self._thread = threading.Thread(target=renew, name=name, daemon=True)

    @property
    def attempt(self) -> int:
        return self._record.attempt

    @property
    def calls(self) -> int:
        """Acquisitions so far, this one included."""
        return self._record.calls

    @property
    def seconds(self) -> float:
        """For which the work is charged, all acquisitions that are known included."""
        return self._earlier + self._charged()

    @staticmethod
    def acquire(
        store: Store,
        name: str,
        worker: str,
        seconds: float,
        keys: Keyring,
        charged: Callable[[], float] = lambda: 0.0,
    ) -> Lease:
        """Raises Unavailable JOB_BUSY while another worker has the lease.

        `name`: as for `lease_key`. `worker`: unique to this process. `seconds`: until it expires.
        `charged`: returns the seconds for which this attempt is charged so far.
        """
        key = lease_key(name)
        log, now = read_log(store, key, limit=LOG_LIMIT), store.now()
        last = _last_record(log, name, keys.verifying, now)
        if log and last is None:
            store.delete(key)
            log = b""
        attempt, done, earlier, calls = 1, 0, 0.0, 0
        if last:
            if last.expires > now:
                raise Unavailable("JOB_BUSY", describe_holder(last, now))
            attempt, done = last.attempt + 1, last.done
            earlier, calls = last.seconds, last.calls
        record = LeaseRecord(
            name=name,
            position=len(log),
            worker=worker,
            expires=now + seconds,
            attempt=attempt,
            done=done,
            seconds=earlier,
            calls=calls + 1,
        )
        line = record.sign(keys.signing)
        if not store.append(key, line, position=len(log)):
            raise Unavailable("JOB_BUSY", "Another worker got the lease first.")
        return Lease(store, record, len(log) + len(line), seconds, keys, charged)

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
                self._record = msgspec.structs.replace(self._record, attempt=1, done=done)

    def undo_attempt(self) -> None:
        """Do not count this attempt, because it ended for a reason outside the job."""
        with self._lock:
            attempt = self._record.attempt - 1
            self._record = msgspec.structs.replace(self._record, attempt=attempt)

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
            record = msgspec.structs.replace(
                self._record, expires=expires, position=self._position, seconds=self.seconds
            )
            line = record.sign(self._keys.signing)
            if self._store.append(self._key, line, position=self._position):
                self._record, self._position = record, self._position + len(line)
            else:
                self._lost = Unavailable("LEASE_LOST")


def helper_name(job_id: str) -> str:
    """Return the name of the lease of a worker that helps with a job (core/job/helping.py)."""
    return f"{job_id}.help"


def read_helper(store: Store, job_id: str, keys: Keyring) -> LeaseRecord | None:
    """Return the last record of a worker that helped with a job; None if none did."""
    return read_last_record(store, helper_name(job_id), keys.verifying)


def describe_holder(last: LeaseRecord, now: float) -> str:
    """Say who works on a job. `now`: Unix seconds by the store's clock."""
    return f"The worker {last.worker} has the lease for {last.expires - now:.0f} s more."


def read_last_record(
    store: Store, name: str, keys: Mapping[str, Ed25519PublicKey]
) -> LeaseRecord | None:
    """Return the record that counts, or None if there is none. `keys`: our public keys."""
    log = read_log(store, lease_key(name), limit=LOG_LIMIT)
    return _last_record(log, name, keys, store.now())


def is_held(store: Store, name: str, keys: Mapping[str, Ed25519PublicKey]) -> bool:
    """Whether a worker has the lease now. `keys`: our public keys."""
    record = read_last_record(store, name, keys)
    return record is not None and record.expires > store.now()


def _last_record(
    log: bytes, name: str, keys: Mapping[str, Ed25519PublicKey], now: float
) -> LeaseRecord | None:
    position = log.rfind(b"\n", 0, -1) + 1
    with suppress(Refused):
        record = signed.read(log[position:].removesuffix(b"\n"), LeaseRecord, keys)
        is_ours = (record.name, record.position) == (name, position)
        if is_ours and record.expires <= now + LONGEST:
            return record
    return None
