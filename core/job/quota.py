"""Daily limits of jobs and characters for each producer.

    quota/<day>.log = line*
    line            = <job_id> <characters> <producer, percent-encoded> <code> newline
    code            = first 32 hexadecimal digits of HMAC-SHA256(watermark key, day and line)

Workers append to the log by compare-and-swap, as to a lease: one that finds that it has grown reads
it again, so any number of workers together stay within the limit. A job is counted
once, even if it is started several times. Its day (UTC) is the one on which its manifest was
stored, by the store's clock, and does not change later.

A line counts only with the right code, for which a key of the workers is needed: whoever can write
to the control bucket cannot use up the quota of somebody else. Lines of version 0.1.0 have no code.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from core.crypto.keys import Keyring
from core.errors import Refused, Unavailable
from core.settings import Producers
from core.storage.object_keys import quota_key
from core.storage.port import Store, read_log

LOG_LIMIT = 64 << 20
MAX_TRIES = 200
"""Each failed try means that another worker counted a job."""
MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    jobs: int = 0
    """Jobs per producer and day; 0: no limit."""
    characters: int = 0
    """Characters per producer and day; 0: no limit."""
    by: Producers = "prefix"
    principal: str = ""
    """RAM principal that uploaded the manifest; empty if unknown, as in a sweep."""

    def producer(self, manifest: str) -> str:
        """Return `ram:<id>` if producers are principals and this one is known, else
        `jobs/<first folder>`. All manifests without a folder have the same producer."""
        if self.by == "principal" and self.principal:
            # A role's id is followed by the session's name, which the session itself chooses.
            return f"ram:{self.principal.partition(':')[0]}"
        folders = manifest.split("/")[1:-1]
        return "/".join(["jobs", *folders[:1]])

    def count_job(
        self,
        control: Store,
        keys: Keyring,
        job_id: str,
        manifest: str,
        stored: float,
        characters: int,
    ) -> None:
        """Count a job, once. `stored`: when its manifest was stored, in Unix seconds.

        Raises Refused QUOTA_EXCEEDED; Unavailable STORAGE_UNAVAILABLE if other workers counted jobs
        before this one in every try.
        """
        if not (self.jobs or self.characters):
            return
        day = datetime.fromtimestamp(stored, UTC).date().isoformat()
        key, producer = quota_key(day), _producer_name(self.producer(manifest))
        entry = f"{job_id} {characters} {producer}"
        code = _code(day, entry, next(iter(keys.watermark.values())))
        line = f"{entry} {code}\n".encode()
        for _ in range(MAX_TRIES):
            log = _read(control, key)
            counted = {job: (used, owner) for job, used, owner in _entries(log, day, keys)}
            if job_id in counted:
                return
            if log and not counted:  # nothing of it is ours
                control.delete(key)
                log = b""
            used = [used for used, owner in counted.values() if owner == producer]
            self._check(used, characters, producer, day)
            if control.append(key, line, position=len(log)):
                return
        raise Unavailable("STORAGE_UNAVAILABLE", "Too many jobs are counted at once.", pointer=key)

    def _check(self, used: list[int], characters: int, producer: str, day: str) -> None:
        for limit, total, more, what in (
            (self.jobs, len(used), 1, "jobs"),
            (self.characters, sum(used), characters, "characters"),
        ):
            if limit and total + more > limit:
                used_up = f"{producer} used {total} of {limit} {what} on {day}"
                raise Refused("QUOTA_EXCEEDED", f"{used_up}; this job needs {more} more.")


def _producer_name(producer: str) -> str:
    name = quote(producer, safe="/:")
    digest = hashlib.sha256(producer.encode()).hexdigest()
    return name if len(name) <= MAX_NAME_LENGTH else f"sha256:{digest}"


def _entries(log: bytes, day: str, keys: Keyring) -> Iterator[tuple[str, int, str]]:
    """Yield job id, characters and producer of every line that counts."""
    for line in log.decode("ascii", "ignore").splitlines():
        entry, _, code = line.rpartition(" ")
        if any(hmac.compare_digest(_code(day, entry, k), code) for k in keys.watermark.values()):
            job_id, characters, producer = entry.split(" ")
            yield job_id, int(characters), producer


def _code(day: str, entry: str, key: bytes) -> str:
    message = f"voicedrop/quota/1\0{day} {entry}".encode()
    return hmac.digest(key, message, hashlib.sha256).hex()[:32]


def _read(control: Store, key: str) -> bytes:
    """Return the log; of one that is too large to be ours, a byte that is no line of it."""
    try:
        return read_log(control, key, limit=LOG_LIMIT)
    except Refused as exc:
        if exc.code != "OBJECT_TOO_LARGE":
            raise
        return b"?"
