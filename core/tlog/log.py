"""A log of results that nobody can change unseen: RFC 6962 tree, C2SP tiles and checkpoints.

    control  log/leaves/<job_id>             a queue: what workers have finished
    results  log/batches/<start>             what was taken from the queue, fixed once, and from it:
             log/tile/entries/<N>[.p/<W>]    entry bundles
             log/tile/<L>/<N>[.p/<W>]        hashes
             log/checkpoints/<size>          signed checkpoints; the last one is current
             out/<job_id>/result.tlog-proof  proof of inclusion, beside the result

Workers only queue. A sequencer fixes the next batch by a put-once and then writes what follows from
it. All of that is determined by the batch, so a sequencer that was killed is completed by the next,
and two at once write the same bytes. Nothing in the results bucket is overwritten or deleted.

A log proves that it was not changed since somebody else saw it: keep checkpoints elsewhere.
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
"""Leaves that a batch takes unless told otherwise."""
_MAX_BYTES = 64 << 20
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"

Job = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Leaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finished job. Its result names everything else by digest."""

    schema: Literal["voicedrop/leaf/1"] = "voicedrop/leaf/1"
    job: Job
    result_sha256: Digest
    """Of the bytes of result.json."""

    def dump(self) -> bytes:
        return canonical.dump(self)


def enqueue(control: Store, leaf: Leaf) -> None:
    """Ask the sequencer to log a job. Safe to repeat."""
    control.put(queue_key(leaf.job), leaf.dump())


def integrate(
    control: Store,
    results: Store,
    key: Ed25519PrivateKey,
    origin: str,
    *,
    earlier: Iterable[Ed25519PublicKey] = (),
    most: int = MAX_BATCH,
) -> Checkpoint | None:
    """Log what is queued, at most `most` leaves a checkpoint, finishing first what another
    sequencer left. None: an empty log. `earlier`: keys that signed before `key` did."""
    known = [key.public_key(), *earlier]
    last = _complete_last_batch(control, results, key, origin, known)
    while batch := _read_queue(control, results, most):
        size = last.size if last else 0
        # Whoever comes second reads the first one's batch back in _finish_last.
        results.put_once(batch_key(size), tiles.bundle(batch))
        last = _complete_last_batch(control, results, key, origin, known)
    return last


def list_queued(control: Store) -> Iterator[str]:
    """Jobs that are queued and not logged yet."""
    return (info.key.removeprefix(LOG_QUEUE) for info in control.list(LOG_QUEUE))


def read_batches(results: Store) -> Iterator[tuple[int, list[bytes]]]:
    """Where each batch starts, and its entries."""
    for info in results.list(LOG_BATCHES):
        yield int(info.key.removeprefix(LOG_BATCHES)), tiles.unbundle(_get(results, info.key))


def read_latest_checkpoint(results: Store) -> str | None:
    """The newest checkpoint, as it is signed."""
    info = _last_key(results, LOG_CHECKPOINTS)
    return results.get(info, limit=_MAX_BYTES).data.decode() if info else None


def read_entries(results: Store, size: int) -> Iterator[bytes]:
    """Every logged entry, from the first. Refused OBJECT_MISSING, LOG_INVALID."""
    for number, width in tiles.tile_widths(size):
        data = results.get(tiles.key("entries", number, width), limit=_MAX_BYTES).data
        bundle = tiles.unbundle(data)
        if len(bundle) != width:
            raise Refused("LOG_INVALID", f"Bundle {number} holds {len(bundle)} entries of {width}.")
        yield from bundle


def verify(
    results: Store, keys: Iterable[Ed25519PublicKey], origin: str, *, earlier: str | None = None
) -> tuple[Checkpoint, list[Leaf]]:
    """Check the whole log with nothing but public keys: signature, entries, tiles, root, and that
    it continues `earlier`, a checkpoint that was kept elsewhere. Returns the leaves.

    Raises Refused LOG_INVALID.
    """
    keys = list(keys)
    signed = read_latest_checkpoint(results)
    if signed is None:
        raise Refused("LOG_INVALID", "There is no checkpoint.")
    found = signed_note.verify_checkpoint(signed, origin, keys)
    try:
        logged = list(read_entries(results, found.size))
        hashes = [merkle.leaf_hash(entry) for entry in logged]
        _check_tiles(results, hashes)
        leaves = [msgspec.json.decode(entry, type=Leaf) for entry in logged]
    except Refused as exc:
        raise Refused("LOG_INVALID", f"The log is damaged: {exc}") from exc
    except msgspec.DecodeError as exc:
        raise Refused("LOG_INVALID", "The log is damaged: an entry is no leaf of ours.") from exc
    if merkle.root(found.size, merkle.nodes_in_memory(hashes)) != found.root:
        raise Refused("LOG_INVALID", "The entries are not those that the checkpoint was made for.")
    if earlier is not None:
        _check_continues(signed_note.verify_checkpoint(earlier, origin, keys), hashes)
    return found, leaves


def check_proof(
    proof: str, leaf: bytes, keys: Iterable[Ed25519PublicKey], origin: str
) -> tuple[int, Checkpoint]:
    """Where `leaf` stands in the log, offline. Raises Refused LOG_INVALID."""
    head, _, signed = proof.partition("\n\n")
    found = signed_note.verify_checkpoint(signed, origin, keys)
    try:
        first, number, *path = head.split("\n")
        index = int(number.removeprefix("index "))
        hashes = [base64.b64decode(line, validate=True) for line in path]
    except ValueError as exc:
        raise Refused("LOG_INVALID", "Not a proof of inclusion.") from exc
    whole = first == _PROOF_HEADER and merkle.verify_inclusion(
        merkle.leaf_hash(leaf), index, found.size, hashes, found.root
    )
    if not whole:
        raise Refused("LOG_INVALID", "The proof is not of this entry.")
    return index, found


def _read_queue(control: Store, results: Store, most: int) -> list[bytes]:
    batch = []
    for info in itertools.islice(control.list(LOG_QUEUE), most):
        leaf = control.get(info.key, limit=_MAX_BYTES).data
        # A worker that repeats a job queues it again; logged once is enough.
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
    known: Iterable[Ed25519PublicKey],
) -> Checkpoint | None:
    """Write everything that follows from the last batch, as far as it is missing."""
    name = _last_key(results, LOG_BATCHES)
    if name is None:
        return None
    start = int(name.removeprefix(LOG_BATCHES))
    batch = tiles.unbundle(results.get(name, limit=_MAX_BYTES).data)
    tree = _Tiles(results, start + len(batch))
    checkpoint = checkpoint_key(tree.size)
    if results.head(checkpoint):
        return signed_note.verify_checkpoint(_get(results, checkpoint).decode(), origin, known)
    _write_tiles(results, start, batch)
    made = Checkpoint(origin, tree.size, merkle.root(tree.size, tree.node))
    signed = signed_note.sign(made.text(), origin, key)
    # The checkpoint comes last: it says that nothing of this batch is missing.
    for index, entry in enumerate(batch, start):
        job = msgspec.json.decode(entry, type=Leaf).job
        path = merkle.inclusion_proof(index, tree.size, tree.node)
        results.put_once(proof_key(job), _format_proof(index, path, signed))
        control.delete(queue_key(job))
    results.put_once(checkpoint, signed.encode())
    return made


def _write_tiles(results: Store, start: int, batch: Sequence[bytes]) -> None:
    whole, width = divmod(start, WIDTH)
    held = tiles.unbundle(_get(results, tiles.key("entries", whole, width))) if width else []
    for i, piece in enumerate(tiles.split_into_bundles([*held, *batch]), whole):
        results.put_once(tiles.key("entries", i, len(piece)), tiles.bundle(piece))
    old = _Tiles(results, start)
    hashes = [merkle.leaf_hash(entry) for entry in batch]
    for level, number, data in merkle.added_tiles(start, hashes, old.read):
        results.put_once(tiles.key(str(level), number, len(data) // HASH), data)


def _check_tiles(results: Store, hashes: Sequence[bytes]) -> None:
    for level, number, data in merkle.added_tiles(0, hashes, lambda *_: b""):
        key = tiles.key(str(level), number, len(data) // HASH)
        if _get(results, key) != data:
            raise Refused("LOG_INVALID", f"{key} is not made from the entries.")


def _check_continues(earlier: Checkpoint, hashes: Sequence[bytes]) -> None:
    fits = earlier.size <= len(hashes)
    if not fits or merkle.root(earlier.size, merkle.nodes_in_memory(hashes)) != earlier.root:
        raise Refused("LOG_INVALID", f"The log no longer contains what it was at {earlier.size}.")


@dataclass(frozen=True, slots=True)
class _Tiles:
    """The hashes of a tree of `size` leaves, read from its tiles."""

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
