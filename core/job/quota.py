"""Daily limits of jobs and characters for each producer.

    quota/<day>.log = line*
    line            = <job_id> <characters> <producer, percent-encoded> newline

Workers append to the log by compare-and-swap, as to a lease: one that finds that it has grown reads
it again, so any number of workers together stay within the limit. A job is counted
once, even if it is started several times. Its day (UTC) is the one on which its manifest was
stored, by the store's clock, and does not change later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

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
        self, control: Store, job_id: str, manifest: str, stored: float, characters: int
    ) -> None:
        """Count a job, once. `stored`: when its manifest was stored, in Unix seconds.

        Raises Refused QUOTA_EXCEEDED; Unavailable STORAGE_UNAVAILABLE if other workers counted jobs
        before this one in every try.
        """
        if not (self.jobs or self.characters):
            return
        day = datetime.fromtimestamp(stored, UTC).date().isoformat()
        key, producer = quota_key(day), _producer_name(self.producer(manifest))
        line = f"{job_id} {characters} {producer}\n".encode()
        for _ in range(MAX_TRIES):
            log = read_log(control, key, limit=LOG_LIMIT)
            if _contains_job(log, job_id):
                return
            self._check(list(_characters_of_jobs(log, producer)), characters, producer, day)
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


def _contains_job(log: bytes, job_id: str) -> bool:
    return log.startswith(f"{job_id} ".encode()) or f"\n{job_id} ".encode() in log


def _characters_of_jobs(log: bytes, producer: str) -> Iterator[int]:
    """Yield the characters of each of the producer's jobs."""
    for line in log.decode("ascii").splitlines():
        _, characters, name = line.split(" ")
        if name == producer:
            yield int(characters)
