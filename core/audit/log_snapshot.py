"""Checks 8 and 9: what the log says about results, and whether it agrees with itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from core.audit.model import (
    CONSISTENCY,
    INCLUSION,
    Outcome,
    attempt,
    failed,
    passed,
    skipped,
)
from core.audit.sources import SETTLING_SECONDS, Sources
from core.errors import Refused
from core.storage.object_keys import LOG_CHECKPOINTS, proof_key, queue_key
from core.storage.port import Info
from core.tlog import log, merkle, signed_note, tiles
from core.tlog.log import Leaf

_MAX_BYTES = 64 << 20


@dataclass(slots=True)
class LogSnapshot:
    """The log as it was when the audit began."""

    origin: str = ""
    size: int = 0
    root: str = ""
    checkpoint: str = ""
    """As it is signed; empty where there is no log. Keep it where the operator cannot reach it."""
    outcomes: list[Outcome] = field(default_factory=list)
    leaves: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Job -> place and digest of its result."""


def read_log(sources: Sources, earlier: str = "") -> LogSnapshot:
    """The newest log that can be read, and check 9. `earlier`: a checkpoint kept elsewhere."""
    book = LogSnapshot(checkpoint=log.read_latest_checkpoint(sources.results) or "")
    if not book.checkpoint:
        book.outcomes.append(_check_absent(sources, earlier))
        return book
    book.origin = signed_note.claimed_origin(book.checkpoint)
    with attempt(CONSISTENCY, LOG_CHECKPOINTS) as signed:
        found = signed_note.verify_checkpoint(
            book.checkpoint, book.origin, sources.keys.verifying.values()
        )
        book.size, book.root = found.size, found.root.hex()
    if signed.outcome.verdict == "fail":
        book.outcomes.append(signed.outcome)
        return book
    book.leaves = {
        leaf.job: (place, leaf.result_sha256) for place, leaf in _read_what_is_left(sources, book)
    }
    with attempt(CONSISTENCY, LOG_CHECKPOINTS) as whole:
        known = sources.keys.verifying.values()
        if earlier:
            _check_earlier(sources, book, earlier)
        log.verify(sources.results, known, book.origin, earlier=earlier or None)
        _check_batches(sources, book.size)
        whole.outcome = passed(CONSISTENCY, _describe(earlier, book.size))
    book.outcomes.append(whole.outcome)
    return book


def check_inclusion(
    sources: Sources,
    book: LogSnapshot,
    job: str,
    result_sha256: str,
    proof: Info | None,
    age: float,
) -> Outcome:
    """Check 8. `age`: seconds since the result was stored."""
    place, logged = book.leaves.get(job, (-1, ""))
    leaf = Leaf(job=job, result_sha256=result_sha256)
    if logged and logged != result_sha256:
        return failed(INCLUSION, "LOG_MISMATCH", key=proof_key(job))
    if not logged:
        return _check_unlogged(sources, book, leaf, proof, age)
    if proof is None:
        return failed(INCLUSION, "PROOF_MISSING", key=proof_key(job))
    with attempt(INCLUSION, proof.key) as made:
        index, _ = _check_proof(sources, book.origin, leaf, proof)
        if place not in (index, -1):
            raise Refused("LOG_INVALID", f"The proof is of entry {index}, the log has it {place}.")
    return made.outcome


def _check_absent(sources: Sources, earlier: str) -> Outcome:
    if earlier or next(log.read_batches(sources.results), None):
        return failed(CONSISTENCY, "LOG_INVALID", "There was a log; its checkpoints are gone.")
    return skipped(CONSISTENCY, "NO_LOG")


def _check_earlier(sources: Sources, book: LogSnapshot, earlier: str) -> None:
    try:
        signed_note.verify_checkpoint(earlier, book.origin, sources.keys.verifying.values())
    except Refused as exc:
        said = f"The earlier checkpoint is none of this log. {exc.message}"
        raise Refused("LOG_INVALID", said) from exc


def _describe(earlier: str, size: int) -> str:
    return (
        f"It continues the checkpoint of {_claimed_size(earlier)}."
        if earlier
        else f"{size} entries."
    )


def _claimed_size(signed: str) -> str:
    return signed.split("\n")[1]


def _check_unlogged(
    sources: Sources, book: LogSnapshot, leaf: Leaf, proof: Info | None, age: float
) -> Outcome:
    queue = sources.control
    if proof is None:
        waiting = queue is not None and queue.head(queue_key(leaf.job)) is not None
        # Results are stored a moment before they are queued.
        if waiting or age < SETTLING_SECONDS:
            return skipped(INCLUSION, "NOT_LOGGED_YET")
        if queue is None and not book.checkpoint:
            return skipped(INCLUSION, "NO_LOG")
        return failed(INCLUSION, "NOT_LOGGED")
    with attempt(INCLUSION, proof.key) as made:
        _, found = _check_proof(sources, book.origin, leaf, proof)
        if found.size <= book.size:
            raise Refused("LOG_INVALID", "The log no longer holds the entry that the proof is of.")
        if sources.results.now() - proof.modified > SETTLING_SECONDS:
            raise Refused(
                "LOG_INVALID",
                f"The proof is of a log of {found.size} entries, the log has {book.size}: it lost "
                "its end, or a sequencer broke off. Run `voicedrop log integrate`, then audit.",
            )
        made.outcome = skipped(INCLUSION, "NOT_LOGGED_YET", "It was logged during the audit.")
    return made.outcome


def _check_proof(
    sources: Sources, origin: str, leaf: Leaf, proof: Info
) -> tuple[int, signed_note.Checkpoint]:
    text = sources.results.get(proof.key, limit=_MAX_BYTES).data.decode("utf-8", "replace")
    name = origin or signed_note.claimed_origin(text.partition("\n\n")[2])
    return log.check_proof(text, leaf.dump(), sources.keys.verifying.values(), name)


def _read_what_is_left(sources: Sources, book: LogSnapshot) -> list[tuple[int, Leaf]]:
    """The entries that can be read even if the log does not verify: to tell which one is missing.
    Those of a bundle that has lost some have no certain place: -1."""
    found = []
    for number, width in tiles.tile_widths(book.size):
        with suppress(Refused):
            data = sources.results.get(tiles.key("entries", number, width), limit=_MAX_BYTES).data
            bundle = tiles.unbundle(data)
            for place, entry in enumerate(bundle, number * merkle.WIDTH):
                with suppress(msgspec.DecodeError):
                    leaf = msgspec.json.decode(entry, type=Leaf)
                    found.append((place if len(bundle) == width else -1, leaf))
    return found


def _check_batches(sources: Sources, size: int) -> None:
    """What sequencers fixed is what was logged, without a gap."""
    logged = log.read_entries(sources.results, size)
    for start, batch in log.read_batches(sources.results):
        for place, entry in enumerate(batch, start):
            if place < size and next(logged, None) != entry:
                raise Refused("LOG_INVALID", f"Batch {start} is not what was logged.")
    if next(logged, None) is not None:
        raise Refused("LOG_INVALID", "A batch is missing.")
