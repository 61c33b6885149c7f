"""How much each producer may ask for in a day.

    quota/<day>.log = line*
    line            = <job_id> <characters> <producer, percent-encoded> newline

The log is only appended to, and used as compare-and-swap, like a lease: whoever finds that it has
grown reads it again, so that any number of workers together admit no more than the limit. A job is
on it once, however often it is begun. Its day is the one (UTC) on which its manifest was stored, by
the store's clock: nothing that happens to the job later moves it to another day.
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
from core.storage.port import Store

LOG_LIMIT = 64 << 20
TRIES = 200
"""Every lost race means that somebody else was admitted."""
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    jobs: int = 0
    """A day and producer; 0: as many as they like, like `characters`."""
    characters: int = 0
    by: Producers = "prefix"
    principal: str = ""
    """RAM principal of the notification in hand; empty where nobody says, as in a sweep."""

    def producer(self, manifest: str) -> str:
        """`ram:<id>` if that is asked for and known, else `jobs/<first folder>`. Manifests that lie
        in no folder are one producer's."""
        if self.by == "principal" and self.principal:
            # Of a role the session's name follows, which whoever takes on the role may choose.
            return f"ram:{self.principal.partition(':')[0]}"
        folders = manifest.split("/")[1:-1]
        return "/".join(["jobs", *folders[:1]])

    def admit(
        self, control: Store, job_id: str, manifest: str, stored: float, characters: int
    ) -> None:
        """Count the job, once. `stored`: when its manifest was, in Unix seconds by the store.

        Refused QUOTA_EXCEEDED; Unavailable if too many others were counted at this moment.
        """
        if not (self.jobs or self.characters):
            return
        day = datetime.fromtimestamp(stored, UTC).date().isoformat()
        key, producer = quota_key(day), _name(self.producer(manifest))
        line = f"{job_id} {characters} {producer}\n".encode()
        for _ in range(TRIES):
            log = _read(control, key)
            if _holds(log, job_id):
                return
            self._check(list(_counted(log, producer)), characters, producer, day)
            if control.append(key, line, position=len(log)):
                return
        raise Unavailable("STORAGE_UNAVAILABLE", "too many jobs are being counted", pointer=key)

    def _check(self, counted: list[int], characters: int, producer: str, day: str) -> None:
        for limit, used, more, what in (
            (self.jobs, len(counted), 1, "jobs"),
            (self.characters, sum(counted), characters, "characters"),
        ):
            if limit and used + more > limit:
                message = f"{producer} had {used} of {limit} {what} on {day}; this is {more} more."
                raise Refused("QUOTA_EXCEEDED", message)


def _name(producer: str) -> str:
    name = quote(producer, safe="/:")
    digest = hashlib.sha256(producer.encode()).hexdigest()
    return name if len(name) <= LONGEST_NAME else f"sha256:{digest}"


def _holds(log: bytes, job_id: str) -> bool:
    return log.startswith(f"{job_id} ".encode()) or f"\n{job_id} ".encode() in log


def _counted(log: bytes, producer: str) -> Iterator[int]:
    """Characters of each of the producer's jobs."""
    for line in log.decode("ascii").splitlines():
        _, characters, name = line.split(" ")
        if name == producer:
            yield int(characters)


def _read(control: Store, key: str) -> bytes:
    try:
        return control.get(key, limit=LOG_LIMIT).data
    except Refused as exc:
        if exc.code != "OBJECT_MISSING":
            raise
        return b""
