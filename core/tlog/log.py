"""The tamper-evident log of results: RFC 6962 tree, C2SP tiles and checkpoints.

    control  log/leaves/<job_id>             the queue of finished jobs
    results  log/batches/<start>             one batch taken from the queue; from it are derived:
             log/tile/entries/<N>[.p/<W>]    entry bundles
             log/tile/<L>/<N>[.p/<W>]        hashes
             log/checkpoints/<size>          signed checkpoints; the last one is current
             out/<job_id>/result.tlog-proof  proof of inclusion, beside the result

Workers only add to the queue. A sequencer fixes the next batch with a put-once and then writes
everything derived from it. The batch determines every byte of that, so the next run completes the
work of a sequencer that was killed, and two that run at once write the same bytes. Nothing in the
results bucket is overwritten or deleted.

A log can only be compared with what somebody has seen of it before: keep checkpoints elsewhere.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.documents import canonical
from core.errors import Refused
from core.storage.object_keys import (
    LOG_BATCHES,
    LOG_CHECKPOINTS,
    LOG_QUEUE,
    batch_key,
    checkpoint_key,
    proof_key,
    queue_key,
)
from core.storage.port import Store
from core.tlog import merkle, signed_note, tiles
from core.tlog.merkle import HASH, WIDTH
from core.tlog.signed_note import Checkpoint

MAX_BATCH = 4096
"""Default number of leaves in a batch."""
_MAX_BYTES = 64 << 20
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"

Job = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Leaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log entry of one finished job. Its result names everything else by digest."""

    schema: Literal["voicedrop/leaf/1"] = "voicedrop/leaf/1"
    job: Job
    result_sha256: Digest
    """Digest of the bytes of result.json."""

    def dump(self) -> bytes:
        return canonical.dump(self)


def enqueue(control: Store, leaf: Leaf) -> None:
    """Add a job to the sequencer's queue. Safe to repeat."""
    control.put(queue_key(leaf.job), leaf.dump())


def integrate(
    control: Store,
    results: Store,
    key: Ed25519PrivateKey,
    origin: str,
    *,
    earlier_keys: Iterable[Ed25519PublicKey] = (),
    max_batch: int = MAX_BATCH,
) -> Checkpoint | None:
    """Complete the last batch if a sequencer was interrupted, then log all queued jobs, at most
    `max_batch` in each batch. `earlier_keys`: the signing keys used before `key`.

    Returns the current checkpoint, or None if the log is empty.
    """
    known_keys = [key.public_key(), *earlier_keys]
    checkpoint = _complete_last_batch(control, results, key, origin, known_keys)
    while batch := _read_queue(control, results, max_batch):
        size = checkpoint.size if checkpoint else 0
        # If another sequencer was first, _complete_last_batch reads and completes its batch.
        results.put_once(batch_key(size), tiles.bundle(batch))
        checkpoint = _complete_last_batch(control, results, key, origin, known_keys)
    return checkpoint


def list_queued(control: Store) -> Iterator[str]:
    """Return the jobs that are queued and not logged yet."""
    return (info.key.removeprefix(LOG_QUEUE) for info in control.list(LOG_QUEUE))


def read_batches(results: Store) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the index of each batch's first entry, and its entries."""
    for info in results.list(LOG_BATCHES):
        yield int(info.key.removeprefix(LOG_BATCHES)), tiles.unbundle(_get(results, info.key))


def read_latest_checkpoint(results: Store) -> str | None:
    """Return the newest signed checkpoint, or None if there is no log."""
    key = _last_key(results, LOG_CHECKPOINTS)
    return _get(results, key).decode() if key else None


def read_entries(results: Store, size: int) -> Iterator[bytes]:
    """Yield all entries in order. Raises Refused OBJECT_MISSING or LOG_INVALID."""
    for number, width in tiles.tile_widths(size):
        bundle = tiles.unbundle(_get(results, tiles.key("entries", number, width)))
        if len(bundle) != width:
            raise Refused("LOG_INVALID", f"Bundle {number} holds {len(bundle)} entries of {width}.")
        yield from bundle


def verify(
    results: Store, keys: Iterable[Ed25519PublicKey], origin: str, *, earlier: str | None = None
) -> tuple[Checkpoint, list[Leaf]]:
    """Verify the whole log with public keys alone: signature, entries, tiles, root, and that it
    continues `earlier`, a checkpoint that was kept elsewhere.

    Returns the current checkpoint and all leaves. Raises Refused LOG_INVALID.
    """
    keys = list(keys)
    signed = read_latest_checkpoint(results)
    if signed is None:
        raise Refused("LOG_INVALID", "There is no checkpoint.")
    checkpoint = signed_note.verify_checkpoint(signed, origin, keys)
    try:
        entries = list(read_entries(results, checkpoint.size))
        hashes = [merkle.leaf_hash(entry) for entry in entries]
        _check_tiles(results, hashes)
        leaves = [msgspec.json.decode(entry, type=Leaf) for entry in entries]
    except Refused as exc:
        raise Refused("LOG_INVALID", f"The log is damaged: {exc}") from exc
    except msgspec.DecodeError as exc:
        raise Refused("LOG_INVALID", "The log is damaged: an entry is not a valid leaf.") from exc
    if merkle.root(checkpoint.size, merkle.nodes_in_memory(hashes)) != checkpoint.root:
        raise Refused("LOG_INVALID", "The entries do not match the root in the checkpoint.")
    if earlier is not None:
        _check_continues(signed_note.verify_checkpoint(earlier, origin, keys), hashes)
    return checkpoint, leaves


def check_proof(
    proof: str, leaf: bytes, keys: Iterable[Ed25519PublicKey], origin: str
) -> tuple[int, Checkpoint]:
    """Verify a proof of inclusion offline; return the index of `leaf` in the log and the checkpoint
    of the proof. Raises Refused LOG_INVALID."""
    head, _, signed = proof.partition("\n\n")
    checkpoint = signed_note.verify_checkpoint(signed, origin, keys)
    try:
        header, index_line, *path = head.split("\n")
        index = int(index_line.removeprefix("index "))
        hashes = [base64.b64decode(line, validate=True) for line in path]
    except ValueError as exc:
        raise Refused("LOG_INVALID", "Not a proof of inclusion.") from exc
    is_valid = header == _PROOF_HEADER and merkle.verify_inclusion(
        merkle.leaf_hash(leaf), index, checkpoint.size, hashes, checkpoint.root
    )
    if not is_valid:
        raise Refused("LOG_INVALID", "The proof is not for this entry.")
    return index, checkpoint


def _read_queue(control: Store, results: Store, max_batch: int) -> list[bytes]:
    batch = []
    for info in itertools.islice(control.list(LOG_QUEUE), max_batch):
        leaf = control.get(info.key, limit=_MAX_BYTES).data
        # A worker that repeats a job queues it again, but it must be logged only once.
        if results.head(proof_key(info.key.removeprefix(LOG_QUEUE))):
            control.delete(info.key)
        else:
            batch.append(leaf)
    return batch


def _complete_last_batch(
    control: Store,
    results: Store,
    key: Ed25519PrivateKey,
    origin: str,
    known_keys: Iterable[Ed25519PublicKey],
) -> Checkpoint | None:
    """Write everything derived from the last batch that does not exist yet."""
    last = _last_key(results, LOG_BATCHES)
    if last is None:
        return None
    start = int(last.removeprefix(LOG_BATCHES))
    batch = tiles.unbundle(_get(results, last))
    tree = _Tiles(results, start + len(batch))
    target = checkpoint_key(tree.size)
    if results.head(target):
        signed = _get(results, target).decode()
        return signed_note.verify_checkpoint(signed, origin, known_keys)
    _write_tiles(results, start, batch)
    checkpoint = Checkpoint(origin, tree.size, merkle.root(tree.size, tree.node))
    signed = signed_note.sign(checkpoint.text(), origin, key)
    # The checkpoint is written last: if it exists, everything else of its batch does too.
    for index, entry in enumerate(batch, start):
        job = msgspec.json.decode(entry, type=Leaf).job
        path = merkle.inclusion_proof(index, tree.size, tree.node)
        results.put_once(proof_key(job), _format_proof(index, path, signed))
        control.delete(queue_key(job))
    results.put_once(target, signed.encode())
    return checkpoint


def _write_tiles(results: Store, start: int, batch: Sequence[bytes]) -> None:
    first, width = divmod(start, WIDTH)
    partial = tiles.unbundle(_get(results, tiles.key("entries", first, width))) if width else []
    for number, part in enumerate(tiles.split_into_bundles([*partial, *batch]), first):
        results.put_once(tiles.key("entries", number, len(part)), tiles.bundle(part))
    old = _Tiles(results, start)
    hashes = [merkle.leaf_hash(entry) for entry in batch]
    for level, number, data in merkle.added_tiles(start, hashes, old.read):
        results.put_once(tiles.key(str(level), number, len(data) // HASH), data)


def _check_tiles(results: Store, hashes: Sequence[bytes]) -> None:
    for level, number, data in merkle.added_tiles(0, hashes, lambda *_: b""):
        key = tiles.key(str(level), number, len(data) // HASH)
        if _get(results, key) != data:
            raise Refused("LOG_INVALID", f"{key} does not match the entries.")


def _check_continues(earlier: Checkpoint, hashes: Sequence[bytes]) -> None:
    is_shorter = len(hashes) < earlier.size
    if is_shorter or merkle.root(earlier.size, merkle.nodes_in_memory(hashes)) != earlier.root:
        message = f"The log no longer contains its first {earlier.size} entries."
        raise Refused("LOG_INVALID", message)


@dataclass(frozen=True, slots=True)
class _Tiles:
    """The nodes of a tree of `size` leaves, read from its tiles."""

    results: Store
    size: int
    cache: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def read(self, level: int, number: int, width: int) -> bytes:
        if (level, number) not in self.cache:
            data = _get(self.results, tiles.key(str(level), number, width))
            self.cache[level, number] = data
        return self.cache[level, number]

    def node(self, level: int, index: int) -> bytes:
        tile, height = divmod(level, 8)
        number, first = divmod(index << height, WIDTH)
        width = min(WIDTH, (self.size >> 8 * tile) - number * WIDTH)
        data = self.read(tile, number, width)
        return merkle.subtree_root(data[first * HASH : (first + (1 << height)) * HASH])


def _format_proof(index: int, path: Sequence[bytes], signed: str) -> bytes:
    lines = [_PROOF_HEADER, f"index {index}", *(base64.b64encode(part).decode() for part in path)]
    return ("\n".join(lines) + "\n\n" + signed).encode()


def _last_key(results: Store, prefix: str) -> str | None:
    key = None
    for info in results.list(prefix):
        key = info.key
    return key


def _get(results: Store, key: str) -> bytes:
    return results.get(key, limit=_MAX_BYTES).data
