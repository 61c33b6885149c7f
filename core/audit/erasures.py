"""Tombstones: whether they are genuine, logged and carried out, and what they excuse.

A file that a genuine tombstone names with the digest in the result need not exist any more, and
must not. A tombstone that fails its checks excuses nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.audit import log_snapshot
from core.audit.log_snapshot import LogSnapshot
from core.audit.model import COMPLETENESS, SIGNATURE, Outcome, attempt, failed
from core.audit.sources import SETTLING_SECONDS, Sources
from core.errors import Refused
from core.result import tombstone
from core.result.item_result import Chapter, ItemResult
from core.result.tombstone import Tombstone
from core.storage.object_keys import job_prefix, proof_key_of, result_key, tombstone_key
from core.storage.port import Info
from core.tlog.leaf import TombstoneLeaf
from core.tlog.log import DOCUMENT_LIMIT

_NUMBER = re.compile(r"/tombstones/(\d{5})\.json")


@dataclass(slots=True)
class Erasures:
    """The tombstones of one job."""

    genuine: list[Tombstone] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    """Keys of the tombstones that we signed for this result, and of their proofs."""
    outcomes: list[Outcome] = field(default_factory=list)

    def cover(self, made: ItemResult | Chapter) -> bool:
        """Return whether every file of an item or joined file was erased."""
        erased = {file for one in self.genuine for file in one.files}
        return erased.issuperset(tombstone.files_of(made))


def check(
    job: str,
    result_sha256: str,
    listing: Sequence[Info],
    sources: Sources,
    snapshot: LogSnapshot,
) -> Erasures:
    """Check the tombstones of a job. `listing`: all objects under `out/<job>/`."""
    stored = {info.key: info for info in listing}
    numbers = {int(match[1]) for key in stored if (match := _NUMBER.search(key))}
    found = Erasures()
    for number in sorted(numbers | snapshot.tombstones.get(job, set())):
        key = tombstone_key(job, number)
        if key not in stored:
            found.outcomes.append(failed(COMPLETENESS, "TOMBSTONE_MISSING", key=key))
            continue
        with attempt(SIGNATURE, key) as reading:
            data = sources.results.get(key, limit=tombstone.LIMIT).data
            one = tombstone.parse_tombstone(data, job, number, sources.keys.verifying)
            if one.result_sha256 != result_sha256:
                raise Refused("SIGNATURE_INVALID", "It is about another result of this job.")
        found.outcomes.append(reading.outcome)
        if reading.outcome.verdict != "fail":
            found.claimed |= {key, proof_key_of(key)}
            _check_logged(found, one, data, stored, sources, snapshot)
    return found


def check_owner(job: str, sources: Sources, snapshot: LogSnapshot) -> Erasures:
    """Read the tombstones of another job, whose outputs a job kept."""
    try:
        document = sources.results.get(result_key(job), limit=DOCUMENT_LIMIT).data
    except Refused:
        return Erasures()
    listing = list(sources.results.list(job_prefix(job)))
    return check(job, hashlib.sha256(document).hexdigest(), listing, sources, snapshot)


def _check_logged(
    found: Erasures,
    one: Tombstone,
    data: bytes,
    stored: Mapping[str, Info],
    sources: Sources,
    snapshot: LogSnapshot,
) -> None:
    """Run check 8 on a tombstone, and look for the files that it says were erased."""
    key = tombstone_key(one.job_id, one.number)
    digest = hashlib.sha256(data).hexdigest()
    leaf = TombstoneLeaf(job=one.job_id, number=one.number, sha256=digest)
    age = sources.results.now() - stored[key].modified
    proof = stored.get(proof_key_of(key))
    inclusion = log_snapshot.check_inclusion(sources, snapshot, leaf, proof, age)
    found.outcomes.append(inclusion)
    if inclusion.verdict == "fail":
        return
    found.genuine.append(one)
    if age > SETTLING_SECONDS:
        left = [file.key for file in one.files if file.key in stored]
        found.outcomes += [failed(COMPLETENESS, "NOT_ERASED", key=key) for key in left]
