"""Checks 8 and 9: whether results are in the log, and whether the log is consistent."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from core.audit.model import CONSISTENCY, INCLUSION, Outcome, attempt, failed, passed, skipped
from core.audit.sources import SETTLING_SECONDS, Sources
from core.errors import Refused
from core.storage.object_keys import LOG_CHECKPOINTS, LOG_REFUSED, proof_key_of, queue_key
from core.storage.port import Info
from core.tlog import log, merkle, signed_note, tiles
from core.tlog.leaf import LEAF_LIMIT, AnyLeaf, TombstoneLeaf, parse_leaf

_MAX_BYTES = 64 << 20


@dataclass(slots=True)
class LogSnapshot:
    """The log at the start of the audit."""

    origin: str = ""
    size: int = 0
    root: str = ""
    checkpoint: str = ""
    """The signed checkpoint; empty if there is no log. Keep it where the operator cannot change
    it."""
    outcomes: list[Outcome] = field(default_factory=list)
    entries: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Name of a logged document -> index of its first entry, and the digest in it."""
    tombstones: dict[str, set[int]] = field(default_factory=dict)
    """Job -> numbers of its logged tombstones."""


def read_log(sources: Sources, earlier: str = "") -> LogSnapshot:
    """Read the current log and run check 9. `earlier`: a checkpoint that was kept elsewhere."""
    snapshot = LogSnapshot(checkpoint=log.read_latest_checkpoint(sources.results) or "")
    if not snapshot.checkpoint:
        snapshot.outcomes.append(_check_absent(sources, earlier))
        return snapshot
    snapshot.origin = signed_note.claimed_origin(snapshot.checkpoint)
    with attempt(CONSISTENCY, LOG_CHECKPOINTS) as checking:
        checkpoint = signed_note.verify_checkpoint(
            snapshot.checkpoint, snapshot.origin, sources.keys.verifying.values()
        )
        snapshot.size, snapshot.root = checkpoint.size, checkpoint.root.hex()
    if checking.outcome.verdict == "fail":
        snapshot.outcomes.append(checking.outcome)
        return snapshot
    for index, leaf in _read_readable_entries(sources, snapshot):
        snapshot.entries.setdefault(leaf.name, (index, leaf.digest))
        if isinstance(leaf, TombstoneLeaf):
            snapshot.tombstones.setdefault(leaf.job, set()).add(leaf.number)
    with attempt(CONSISTENCY, LOG_CHECKPOINTS) as checking:
        if earlier:
            _check_earlier(sources, snapshot, earlier)
        log.verify(
            sources.results,
            sources.keys.verifying.values(),
            snapshot.origin,
            earlier=earlier or None,
        )
        _check_batches(sources, snapshot.size)
        message = f"{snapshot.size} entries."
        if earlier:
            message = f"It continues the checkpoint of size {signed_note.claimed_size(earlier)}."
        checking.outcome = passed(CONSISTENCY, message)
    snapshot.outcomes.append(checking.outcome)
    return snapshot


def check_inclusion(
    sources: Sources, snapshot: LogSnapshot, leaf: AnyLeaf, proof: Info | None, age: float
) -> Outcome:
    """Run check 8 on a document. `leaf`: its leaf, as it is stored. `age`: seconds since it was
    stored."""
    key = proof_key_of(leaf.document_key)
    logged_index, logged_sha256 = snapshot.entries.get(leaf.name, (-1, ""))
    if logged_sha256 and logged_sha256 != leaf.digest:
        return failed(INCLUSION, "LOG_MISMATCH", key=key)
    if not logged_sha256:
        return _check_unlogged(sources, snapshot, leaf, proof, age)
    if proof is None:
        return failed(INCLUSION, "PROOF_MISSING", key=key)
    with attempt(INCLUSION, proof.key) as checking:
        index, _ = _check_proof(sources, snapshot.origin, leaf, proof)
        if logged_index not in (index, -1):
            message = f"The proof is for entry {index}, but the log has it as entry {logged_index}."
            raise Refused("LOG_INVALID", message)
    return checking.outcome


def find_refused_leaves(sources: Sources, snapshot: LogSnapshot) -> list[Outcome]:
    """Run the part of check 9 that needs the control bucket: what the sequencer refused to log, and
    has not logged since."""
    failures: list[Outcome] = []
    control = sources.control
    if control is None:
        return failures
    for info in control.list(LOG_REFUSED):
        refused = control.head(info.key)
        leaf = None
        with suppress(Refused):
            leaf = parse_leaf(control.get(info.key, limit=LEAF_LIMIT).data)
        if leaf is None or snapshot.entries.get(leaf.name, (0, ""))[1] != leaf.digest:
            message = refused.metadata.get("vc-reason", "") if refused else ""
            failures.append(failed(CONSISTENCY, "LEAF_REFUSED", message, info.key))
    return failures


def _check_absent(sources: Sources, earlier: str) -> Outcome:
    if earlier:
        message = "This bucket has no log, but a checkpoint of one was kept: the log was deleted."
        return failed(CONSISTENCY, "LOG_INVALID", message)
    if next(log.read_batches(sources.results), None):
        return failed(CONSISTENCY, "LOG_INVALID", "The log's checkpoints were deleted.")
    return skipped(CONSISTENCY, "NO_LOG")


def _check_earlier(sources: Sources, snapshot: LogSnapshot, earlier: str) -> None:
    try:
        signed_note.verify_checkpoint(earlier, snapshot.origin, sources.keys.verifying.values())
    except Refused as exc:
        message = f"The earlier checkpoint does not belong to this log. {exc.message}"
        raise Refused("LOG_INVALID", message) from exc


def _check_unlogged(
    sources: Sources, snapshot: LogSnapshot, leaf: AnyLeaf, proof: Info | None, age: float
) -> Outcome:
    control = sources.control
    if proof is None:
        queued = control is not None and control.head(queue_key(leaf.name)) is not None
        # A result is stored shortly before its job is queued.
        if queued or age < SETTLING_SECONDS:
            return skipped(INCLUSION, "NOT_LOGGED_YET")
        if control is None and not snapshot.checkpoint:
            return skipped(INCLUSION, "NO_LOG")
        return failed(INCLUSION, "NOT_LOGGED")
    with attempt(INCLUSION, proof.key) as checking:
        _, checkpoint = _check_proof(sources, snapshot.origin, leaf, proof)
        if checkpoint.size <= snapshot.size:
            raise Refused("LOG_INVALID", "The log has lost the entry that the proof is for.")
        if sources.results.now() - proof.modified > SETTLING_SECONDS:
            raise Refused(
                "LOG_INVALID",
                f"The proof is from a log of {checkpoint.size} entries, but the log has "
                f"{snapshot.size}: entries were removed, or a sequencer was interrupted. Run "
                "`voicedrop log integrate`, then audit again.",
            )
        checking.outcome = skipped(INCLUSION, "NOT_LOGGED_YET", "It was logged during the audit.")
    return checking.outcome


def _check_proof(
    sources: Sources, origin: str, leaf: AnyLeaf, proof: Info
) -> tuple[int, signed_note.Checkpoint]:
    text = sources.results.get(proof.key, limit=_MAX_BYTES).data.decode("utf-8", "replace")
    name = origin or signed_note.claimed_origin(text.partition("\n\n")[2])
    return log.check_proof(text, leaf.dump(), sources.keys.verifying.values(), name)


def _read_readable_entries(sources: Sources, snapshot: LogSnapshot) -> list[tuple[int, AnyLeaf]]:
    """Return the entries that can be read, even if the log does not verify, so that the report can
    name the missing ones. The index is -1 where a bundle has lost entries."""
    entries = []
    for number, width in tiles.tile_widths(snapshot.size):
        with suppress(Refused):
            key = tiles.key("entries", number, width)
            bundle = tiles.unbundle(sources.results.get(key, limit=_MAX_BYTES).data)
            for index, entry in enumerate(bundle, number * merkle.WIDTH):
                leaf = parse_leaf(entry)
                if leaf is not None:
                    entries.append((index if len(bundle) == width else -1, leaf))
    return entries


def _check_batches(sources: Sources, size: int) -> None:
    """Refuse a log whose entries are not exactly those of its batches."""
    entries = log.read_entries(sources.results, size)
    for start, batch in log.read_batches(sources.results):
        for index, entry in enumerate(batch, start):
            if index < size and next(entries, None) != entry:
                raise Refused("LOG_INVALID", f"Batch {start} differs from the log's entries.")
    if next(entries, None) is not None:
        raise Refused("LOG_INVALID", "A batch is missing.")
