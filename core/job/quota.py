"""Daily limits of jobs, characters and traces for each producer.

    quota/<day>.log        = line*, jobs
    quota/<day>.traces.log = line*, traced clips
    line                   = <id> <characters> <producer, percent-encoded> <code> newline
    code                   = first 32 hexadecimal digits of HMAC-SHA256(watermark key, log and line)

Workers append to the log by compare-and-swap, as to a lease: one that finds that it has grown reads
it again, so any number of workers together stay within the limit. A job or clip is counted once,
even if it is started several times. Its day (UTC) is the one on which its object was stored, by the
store's clock, and does not change later.

A line counts only with the right code, for which a key of the workers is needed: whoever can write
to the control bucket cannot use up the quota of somebody else. Lines of version 0.1.0 have no code.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
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
    traces: int = 0
    """Clips traced per producer and day; 0: no limit."""
    by: Producers = "prefix"
    principal: str = ""
    """RAM principal that uploaded the object; empty if unknown, as in a sweep."""

    def producer(self, key: str) -> str:
        """Return who uploaded the object at `key`: `ram:<id>` if producers are principals, else
        `jobs/<first folder>` or `audit/<first folder>`.

        All objects without a folder have the same producer. So have all whose principal is unknown,
        because a producer chooses the folder, and could have the quota of any number of them.
        """
        if self.by == "principal":
            # A role's id is followed by the session's name, which the session itself chooses.
            return f"ram:{self.principal.partition(':')[0] or 'unknown'}"
        top, *folders = key.split("/")[:-1]
        return "/".join([top, *folders[:1]])

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
        if self.jobs or self.characters:
            limits = {"jobs": self.jobs, "characters": self.characters}
            counter = _Counter(control, keys, _day(stored), limits)
            counter.count(job_id, characters, _producer_name(self.producer(manifest)))

    def count_trace(
        self, control: Store, keys: Keyring, name: str, clip: str, stored: float
    ) -> None:
        """Count the trace of a clip, once. `name`: of this clip, without spaces; `clip`: its key.

        Raises what `count_job` raises.
        """
        if self.traces:
            counter = _Counter(control, keys, f"{_day(stored)}.traces", {"traces": self.traces})
            counter.count(name, 0, _producer_name(self.producer(clip)))


@dataclass(frozen=True, slots=True)
class _Counter:
    """One log, and the limits that apply to it."""

    control: Store
    keys: Keyring
    log: str
    """The day, and `.traces` for the log of traces."""
    limits: Mapping[str, int]
    """What is limited -> its limit. What is not called characters is counted in lines."""

    def count(self, name: str, characters: int, producer: str) -> None:
        key = quota_key(self.log)
        entry = f"{name} {characters} {producer}"
        code = _code(self.log, entry, next(iter(self.keys.watermark.values())))
        line = f"{entry} {code}\n".encode()
        for _ in range(MAX_TRIES):
            log = read_log(self.control, key, limit=LOG_LIMIT)
            counted = {
                one: (used, owner) for one, used, owner in _entries(log, self.log, self.keys)
            }
            if name in counted:
                return
            if log and not counted:  # nothing of it is ours
                self.control.delete(key)
                log = b""
            used = [used for used, owner in counted.values() if owner == producer]
            self._check(used, characters, producer)
            if self.control.append(key, line, position=len(log)):
                return
        raise Unavailable("STORAGE_UNAVAILABLE", "Too many jobs are counted at once.", pointer=key)

    def _check(self, used: list[int], characters: int, producer: str) -> None:
        for what, limit in self.limits.items():
            is_size = what == "characters"
            total, more = (sum(used), characters) if is_size else (len(used), 1)
            if limit and total + more > limit:
                used_up = f"{producer} used {total} of {limit} {what} on {self.log[:10]}"
                raise Refused("QUOTA_EXCEEDED", f"{used_up}; this needs {more} more.")


def _day(stored: float) -> str:
    return datetime.fromtimestamp(stored, UTC).date().isoformat()


def _producer_name(producer: str) -> str:
    name = quote(producer, safe="/:")
    digest = hashlib.sha256(producer.encode()).hexdigest()
    return name if len(name) <= MAX_NAME_LENGTH else f"sha256:{digest}"


def _entries(log: bytes, name: str, keys: Keyring) -> Iterator[tuple[str, int, str]]:
    """Yield id, characters and producer of every line that counts."""
    for line in log.decode("ascii", "ignore").splitlines():
        entry, _, code = line.rpartition(" ")
        if any(hmac.compare_digest(_code(name, entry, k), code) for k in keys.watermark.values()):
            job_id, characters, producer = entry.split(" ")
            yield job_id, int(characters), producer


def _code(log: str, entry: str, key: bytes) -> str:
    message = f"voicedrop/quota/1\0{log} {entry}".encode()
    return hmac.digest(key, message, hashlib.sha256).hex()[:32]
