"""The tamper-evident log of results: RFC 6962 tree, C2SP tiles and checkpoints.

    control  log/leaves/<name>               the queue of results, tombstones and withdrawals
             log/refused/                    what was in the queue and must not be logged
    results  log/batches/<start>             one batch taken from the queue; from it are derived:
             log/tile/entries/<N>[.p/<W>]    entry bundles
             log/tile/<L>/<N>[.p/<W>]        hashes
             log/checkpoints/<size>          signed checkpoints; the last one is current
             out/<job_id>/result.tlog-proof  proof of inclusion, beside the result
             out/<job_id>/tombstones/<n>.tlog-proof, withdrawn/<recording>/<record>.tlog-proof

This module reads and verifies; core/tlog/sequencer.py writes. A log can only be compared with what
somebody has seen of it before: keep checkpoints elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.errors import Refused
from core.storage.object_keys import (
    LOG_BATCHES,
    LOG_CHECKPOINTS,
    LOG_QUEUE,
    batch_key,
    checkpoint_key,
    proof_key_of,
)
from core.storage.port import Store
from core.tlog import merkle, signed_note, tiles
from core.tlog.leaf import AnyLeaf, LeafIndex, document_key_of
from core.tlog.merkle import HASH, Tree
from core.tlog.signed_note import Checkpoint

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
DOCUMENT_LIMIT = 512 << 20
"""Largest logged document, in bytes."""
LIMIT = 64 << 20
"""Largest object of the log, in bytes."""
_CHANGED = "It was changed after it was logged."
_NUMBERED = re.compile(r"log/(batches|checkpoints)/\d{20}")


def list_queued(control: Store) -> Iterator[str]:
    """Return the names of the documents that are queued and not logged yet."""
    return (info.key.removeprefix(LOG_QUEUE) for info in control.list(LOG_QUEUE))


def read_batches(results: Store, *, since: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the index of each batch's first entry, and its entries; from entry `since` on, which
    must be the first of a batch."""
    for key in _numbered_keys(results, LOG_BATCHES, batch_key(since - 1) if since else ""):
        yield int(key.removeprefix(LOG_BATCHES)), tiles.unbundle(get(results, key))


def last_checkpoint_key(results: Store) -> str | None:
    """Return the key of the newest checkpoint, or None if there is no log."""
    return max(_numbered_keys(results, LOG_CHECKPOINTS), default=None)


def read_latest_checkpoint(results: Store) -> str | None:
    """Return the newest signed checkpoint, or None if there is no log."""
    key = last_checkpoint_key(results)
    return get(results, key).decode("utf-8", "replace") if key else None


def read_entries(results: Store, size: int) -> Iterator[bytes]:
    """Yield all entries in order. Raises Refused OBJECT_MISSING or LOG_INVALID."""
    for number, width in tiles.tile_widths(size):
        bundle = tiles.unbundle(get(results, tiles.key("entries", number, width)))
        if len(bundle) != width:
            raise Refused("LOG_INVALID", f"Bundle {number} holds {len(bundle)} entries of {width}.")
        yield from bundle


def verify(
    results: Store, keys: Iterable[Ed25519PublicKey], origin: str, *, earlier: str | None = None
) -> tuple[Checkpoint, LeafIndex]:
    """Verify the whole log with public keys alone: signature, entries, tiles, root, that every
    document has one leaf, and that the log continues `earlier`, a checkpoint that was kept
    elsewhere.

    Returns the current checkpoint and all leaves. Raises Refused LOG_MISSING, LOG_INVALID.
    """
    keys = list(keys)
    key = last_checkpoint_key(results)
    if key is None:
        kept = "A checkpoint of a log was kept, but this bucket has no log: it was deleted."
        raise Refused("LOG_MISSING", kept if earlier is not None else "")
    note = get(results, key).decode("utf-8", "replace")
    checkpoint = signed_note.verify_checkpoint(note, origin, keys)
    if key != checkpoint_key(checkpoint.size):
        raise Refused("LOG_INVALID", f"{key} is the checkpoint of another size.")
    try:
        entries = list(read_entries(results, checkpoint.size))
        tree = Tree(merkle.leaf_hash(entry) for entry in entries)
        _check_tiles(results, tree)
    except Refused as exc:
        why = f"{exc.pointer} is missing." if exc.code == "OBJECT_MISSING" else exc.message
        raise Refused("LOG_INVALID", f"The log is damaged: {why}") from exc
    if merkle.root(checkpoint.size, tree.node) != checkpoint.root:
        raise Refused("LOG_INVALID", "The entries do not match the root in the checkpoint.")
    if earlier is not None:
        _check_continues(signed_note.verify_checkpoint(earlier, origin, keys), tree)
    index = LeafIndex(entries)
    index.refuse_conflicts()
    return checkpoint, index


def find_changed_documents(
    results: Store, index: LeafIndex, *, threads: int = 8
) -> Iterator[tuple[str, str]]:
    """Yield the key of every logged document that is not stored as it was logged, and what is wrong
    with it. The documents are read in `threads` threads. Raises Unavailable, Misconfigured."""

    def check(logged: tuple[str, str]) -> tuple[str, str]:
        key, digest = logged
        try:
            data = results.get(key, limit=DOCUMENT_LIMIT).data
        except Refused as exc:
            return key, exc.message
        return key, "" if hashlib.sha256(data).hexdigest() == digest else _CHANGED

    logged = iter([(document_key_of(name), digest) for name, (_, digest) in index.items()])
    with ThreadPoolExecutor(threads) as pool:
        while group := list(islice(logged, 32 * threads)):
            yield from ((key, problem) for key, problem in pool.map(check, group) if problem)


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
    is_valid = header == PROOF_HEADER and merkle.verify_inclusion(
        merkle.leaf_hash(leaf), index, checkpoint.size, hashes, checkpoint.root
    )
    if not is_valid:
        raise Refused("LOG_INVALID", "The proof is not for this entry.")
    return index, checkpoint


def has_proof(results: Store, leaf: AnyLeaf, keys: Iterable[Ed25519PublicKey]) -> bool:
    """Return whether a valid proof that the log contains the leaf is stored beside its document.

    The log's name is that in the proof, so that this works in a copy of the bucket.
    """
    try:
        proof = get(results, proof_key_of(leaf.document_key)).decode()
        check_proof(
            proof, leaf.dump(), keys, signed_note.claimed_origin(proof.partition("\n\n")[2])
        )
    except (Refused, UnicodeDecodeError):
        return False
    return True


def _check_tiles(results: Store, tree: Tree) -> None:
    for level, number, data in tree.tiles():
        key = tiles.key(str(level), number, len(data) // HASH)
        if get(results, key) != data:
            raise Refused("LOG_INVALID", f"{key} does not match the entries.")


def _check_continues(earlier: Checkpoint, tree: Tree) -> None:
    if tree.size < earlier.size or merkle.root(earlier.size, tree.node) != earlier.root:
        message = f"The log no longer contains its first {earlier.size} entries."
        raise Refused("LOG_INVALID", message)


def _numbered_keys(results: Store, prefix: str, after: str = "") -> Iterator[str]:
    """Yield the keys under a prefix in order, without foreign ones."""
    infos = results.list(prefix, after=after)
    return (info.key for info in infos if _NUMBERED.fullmatch(info.key))


def get(results: Store, key: str) -> bytes:
    """Read an object of the log."""
    return results.get(key, limit=LIMIT).data
