"""The writer of the log: takes leaves from the queue, checks them and adds them to the tree.

Workers only add to the queue. The sequencer fixes the next batch with a put-once and then writes
everything derived from it. The batch determines every byte of that, so the next run completes the
work of a sequencer that was killed, and two that run at once write the same bytes. Nothing in the
log is overwritten or deleted.

The queue is not believed. A leaf enters the log only if the document that it names is stored, is
signed by one of our keys and is the document of this job. Everything else is moved out of the queue
to `log/refused/`, and the log goes on.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.consent.withdrawal import WithdrawalNote
from core.documents import base64url, signed
from core.errors import Refused
from core.result import document, tombstone
from core.storage.object_keys import (
    LOG_QUEUE,
    LOG_REFUSED,
    batch_key,
    checkpoint_key,
    proof_key_of,
    queue_key,
)
from core.storage.port import Object, Store, put_once_or_read
from core.tlog import log, merkle, signed_note, tiles
from core.tlog.leaf import (
    LEAF_LIMIT,
    AnyLeaf,
    Leaf,
    LeafIndex,
    TombstoneLeaf,
    WithdrawalLeaf,
    parse_leaf,
)
from core.tlog.merkle import HASH, WIDTH, Tree
from core.tlog.signed_note import Checkpoint

MAX_BATCH = 4096
"""Default number of leaves in a batch."""
BATCH_RECORD = "vc-batch"
"""Name of the metadata of a batch that holds its signature."""
_REFUSED_LIMIT = 5 << 30
"""Largest object that is moved out of the queue, in bytes: the largest that OSS stores at once."""


@dataclass(frozen=True, slots=True)
class RefusedLeaf:
    """An object that was moved out of the queue because it is not a leaf to be logged."""

    key: str
    """In the control bucket, where it is kept."""
    reason: str


@dataclass(frozen=True, slots=True)
class Integrated:
    """What a run of the sequencer did."""

    checkpoint: Checkpoint | None
    """The current checkpoint; None if the log is empty."""
    refused: list[RefusedLeaf]


def enqueue(control: Store, leaf: AnyLeaf) -> None:
    """Add a leaf to the sequencer's queue. Safe to repeat."""
    control.put(queue_key(leaf.name), leaf.dump())


def enqueue_withdrawal(
    note: WithdrawalNote, results: Store, control: Store, keys: Iterable[Ed25519PublicKey]
) -> None:
    """Add a stored note of withdrawal to the queue, unless it is logged. Safe to repeat."""
    leaf = WithdrawalLeaf.of(note, results.get(note.key, limit=log.LIMIT).data)
    if not log.has_proof(results, leaf, keys):
        enqueue(control, leaf)


def integrate(
    control: Store,
    results: Store,
    key: Ed25519PrivateKey,
    origin: str,
    *,
    earlier_keys: Iterable[Ed25519PublicKey] = (),
    max_batch: int = MAX_BATCH,
) -> Integrated:
    """Complete the last batch if a sequencer was interrupted, then log everything in the queue, at
    most `max_batch` leaves in each batch. `earlier_keys`: the signing keys used before `key`.

    Raises Refused LOG_INVALID if the log itself is damaged.
    """
    known = {signed.key_id(k): k for k in (key.public_key(), *earlier_keys)}
    return _Sequencer(control, results, key, origin, known).run(max_batch)


@dataclass(slots=True)
class _Sequencer:
    control: Store
    results: Store
    key: Ed25519PrivateKey
    origin: str
    known_keys: Mapping[str, Ed25519PublicKey]
    checkpoint: Checkpoint | None = None
    tree: Tree = field(default_factory=Tree)
    index: LeafIndex = field(default_factory=LeafIndex)
    """The leaves of `tree`, which are those of the batches up to the checkpoint."""
    tail: list[bytes] = field(default_factory=list)
    """The entries of the last bundle, if it is not full."""
    refused: list[RefusedLeaf] = field(default_factory=list)

    def run(self, max_batch: int) -> Integrated:
        self._read_checkpoint()
        while self._complete_batch() or self._add_batch(max_batch):
            pass
        return Integrated(self.checkpoint, self.refused)

    @property
    def _size(self) -> int:
        return self.checkpoint.size if self.checkpoint else 0

    def _read_checkpoint(self) -> None:
        last = log.last_checkpoint_key(self.results)
        if last:
            self.checkpoint = self._verify_checkpoint(log.get(self.results, last).decode())

    def _verify_checkpoint(self, note: str) -> Checkpoint:
        return signed_note.verify_checkpoint(note, self.origin, self.known_keys.values())

    def _read_tree(self) -> None:
        """Read the batches up to the checkpoint. What they contain is believed because it has the
        root that we signed. Raises Refused LOG_INVALID if it has not."""
        if self.tree.size < self._size:
            for start, entries in log.read_batches(self.results, since=self.tree.size):
                if start != self.tree.size or start >= self._size:
                    break
                for entry in entries:
                    self._append(entry)
        expected = self.checkpoint.root if self.checkpoint else merkle.root(0, self.tree.node)
        if self.tree.size != self._size or merkle.root(self._size, self.tree.node) != expected:
            message = "The batches are not those of the last checkpoint: restore log/batches/."
            raise Refused("LOG_INVALID", message)

    def _append(self, entry: bytes) -> None:
        self.index.add(entry)
        self.tree.append(merkle.leaf_hash(entry))
        self.tail = [*self.tail, entry] if self.tree.size % WIDTH else []

    def _add_batch(self, max_batch: int) -> bool:
        """Fix the next batch; return False if there is nothing to log."""
        batch = self._take_batch(max_batch)
        if batch:
            data = tiles.bundle(batch)
            about = signed.sign(self._describe_batch(data), self.key)
            metadata = {BATCH_RECORD: base64url.encode(about)}
            # If another sequencer was first, its batch is completed, and the queue is read again.
            self.results.put_once(batch_key(self._size), data, metadata=metadata)
        return bool(batch)

    def _describe_batch(self, data: bytes) -> dict[str, object]:
        return {
            "schema": "voicedrop/batch/1",
            "log": self.origin,
            "start": self._size,
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    def _take_batch(self, max_batch: int) -> list[bytes]:
        """Return the leaves to log next, and remove from the queue what must not be logged."""
        batch: list[bytes] = []
        for count, info in enumerate(self.control.list(LOG_QUEUE)):
            if count == 0:
                self._read_tree()
            leaf = self._accept(info.key)
            if leaf is not None:
                batch.append(leaf.dump())
            if len(batch) == max_batch:
                break
        return batch

    def _accept(self, key: str) -> AnyLeaf | None:
        """Return the leaf for a queued object, or None if there is nothing to log.

        The leaf is made from the stored document, so that an object with a false digest under the
        name of a job does not keep the job out of the log.
        """
        try:
            queued = self._read_queued(key)
            leaf = self._find_leaf(queued)
        except Refused as exc:
            if exc.code != "OBJECT_MISSING":  # another sequencer took it from the queue
                self._set_aside(self.control, key, exc.message)
            return None
        if queued.digest != leaf.digest:
            self._set_aside(self.control, key, f"It differs from {leaf.document_key}.")
        if leaf.name not in self.index:
            return leaf
        # A worker that repeats a job queues it again, also if only the proof was lost.
        self._restore_proof(leaf)
        self.control.delete(key)
        return None

    def _read_queued(self, key: str) -> AnyLeaf:
        """Raises Refused if the object is not the leaf of its name."""
        leaf = parse_leaf(self.control.get(key, limit=LEAF_LIMIT).data)
        if leaf is None or queue_key(leaf.name) != key:
            raise Refused("LOG_INVALID", "It is not a leaf of its name.")
        return leaf

    def _find_leaf(self, queued: AnyLeaf) -> AnyLeaf:
        """Return the leaf of the document that a queued leaf names. Raises Refused if that must not
        be logged."""
        leaf = _check_document(queued, self.results, self.known_keys)
        if self.index.get(leaf.name, (0, leaf.digest))[1] != leaf.digest:
            message = f"{leaf.document_key} was logged with another digest: a second is not logged."
            raise Refused("LOG_INVALID", message)
        return leaf

    def _set_aside(self, store: Store, key: str, reason: str) -> None:
        """Move an object to `log/refused/`. Safe to repeat and to interrupt."""
        if self._copy_aside(store, key, reason):
            store.delete(key)

    def _copy_aside(self, store: Store, key: str, reason: str) -> bool:
        """Copy an object to `log/refused/`; return whether there is a copy now."""
        with tempfile.TemporaryFile() as copy:
            body = cast(BinaryIO, copy)
            try:
                store.fetch(key, body, limit=_REFUSED_LIMIT)
            except Refused as exc:
                message = f"{_printable(key)}: {reason} It cannot be moved: {exc.message}"
                if (refused := RefusedLeaf(key, message)) not in self.refused:  # or for each batch
                    self.refused.append(refused)
                return False
            body.seek(0)
            digest = hashlib.file_digest(copy, "sha256")
            digest.update(key.encode())
            place = f"{LOG_REFUSED}{digest.hexdigest()[:32]}"
            said = {"vc-key": _printable(key), "vc-reason": _printable(reason)}
            self.control.put_once(place, body, metadata=said)
        self.refused.append(RefusedLeaf(place, f"{_printable(key)}: {reason}"))
        return True

    def _complete_batch(self) -> bool:
        """Write everything derived from the batch after the checkpoint that does not exist yet;
        return False if there is no such batch."""
        start, key = self._size, batch_key(self._size)
        if self.results.head(key) is None:
            return False
        self._read_tree()
        stored = self.results.get(key, limit=log.LIMIT)
        batch = tiles.unbundle(stored.data)
        # One without entries would be completed for ever.
        if not batch or not self._is_ours(stored, batch):
            self._set_aside(self.results, key, "It is not a batch that we signed.")
            return True
        bundles = tiles.split_into_bundles([*self.tail, *batch])
        for entry in batch:
            self._append(entry)
        self._write_tiles(start, bundles)
        checkpoint = Checkpoint(
            self.origin, self.tree.size, merkle.root(self.tree.size, self.tree.node)
        )
        note = signed_note.sign(checkpoint.text(), self.origin, self.key)
        # The checkpoint is written last: if it exists, everything else of its batch does too.
        for position, entry in enumerate(batch, start):
            leaf = parse_leaf(entry)
            if leaf is not None:
                self._write_proof(leaf, position, note)
                self.control.delete(queue_key(leaf.name))
        self._put(checkpoint_key(self.tree.size), note.encode(), self._has_our_root)
        self.checkpoint = checkpoint
        return True

    def _is_ours(self, stored: Object, batch: Sequence[bytes]) -> bool:
        """Return whether a sequencer of ours fixed this batch.

        Version 0.1.0 did not sign its batches. One that it left unfinished is completed if all its
        leaves are true, or if it has already signed a proof from it.
        """
        with suppress(Refused, ValueError):
            record = base64url.decode(stored.info.metadata.get(BATCH_RECORD, ""))
            return signed.verify(record, self.known_keys) == self._describe_batch(stored.data)
        leaves = [parse_leaf(entry) for entry in batch]
        return all(map(self._is_true, leaves)) or any(map(self._has_proof, leaves))

    def _is_true(self, leaf: AnyLeaf | None) -> bool:
        with suppress(Refused):
            return leaf is not None and self._find_leaf(leaf) == leaf
        return False

    def _has_proof(self, leaf: AnyLeaf | None) -> bool:
        if leaf is None or leaf.name in self.index:
            return False
        return log.has_proof(self.results, leaf, self.known_keys.values())

    def _write_tiles(self, start: int, bundles: Iterable[Sequence[bytes]]) -> None:
        for number, bundle in enumerate(bundles, start // WIDTH):
            self._put(tiles.key("entries", number, len(bundle)), tiles.bundle(bundle))
        for level, number, data in self.tree.tiles(start):
            self._put(tiles.key(str(level), number, len(data) // HASH), data)

    def _restore_proof(self, leaf: AnyLeaf) -> None:
        if self.results.head(proof_key_of(leaf.document_key)) is None:
            note = log.get(self.results, checkpoint_key(self._size)).decode()
            self._write_proof(leaf, self.index[leaf.name][0], note)

    def _write_proof(self, leaf: AnyLeaf, position: int, note: str) -> None:
        """Write the proof that the log of the checkpoint `note` contains a leaf."""

        def is_valid(stored: str) -> bool:
            keys = self.known_keys.values()
            return log.check_proof(stored, leaf.dump(), keys, self.origin)[0] == position

        path = merkle.inclusion_proof(position, self.tree.size, self.tree.node)
        proof = _format_proof(position, path, note)
        self._put(proof_key_of(leaf.document_key), proof, is_valid)

    def _has_our_root(self, note: str) -> bool:
        return self._verify_checkpoint(note).root == merkle.root(self.tree.size, self.tree.node)

    def _put(
        self, key: str, data: bytes, is_equivalent: Callable[[str], bool] = lambda stored: False
    ) -> None:
        """Write what follows from the batches. Something else that was planted under the key is
        replaced, or every entry after it would be lost; nothing that verifies ever is."""
        stored = put_once_or_read(self.results, key, data, limit=log.LIMIT)
        if stored == data:
            return
        with suppress(Refused, UnicodeDecodeError):
            if is_equivalent(stored.decode()):
                return
        self._copy_aside(self.results, key, "It does not follow from the batches of the log.")
        self.results.put(key, data)


class _ResultIdentity(msgspec.Struct):
    """Which result a document says that it is."""

    job_id: str
    schema: str = document.SCHEMA


class _TombstoneIdentity(msgspec.Struct):
    """Which tombstone a document says that it is."""

    job_id: str
    number: int
    schema: str = tombstone.SCHEMA


def _check_document(
    queued: AnyLeaf, results: Store, keys: Mapping[str, Ed25519PublicKey]
) -> AnyLeaf:
    """Return the leaf of the document that a queued leaf names. Raises Refused if that is not
    stored, not signed by one of `keys`, or the document of another job or recording."""
    key = queued.document_key
    try:
        data = results.get(key, limit=log.DOCUMENT_LIMIT).data
        digest = hashlib.sha256(data).hexdigest()
        leaf: AnyLeaf
        if isinstance(queued, Leaf):
            result = signed.read(data, _ResultIdentity, keys)
            leaf = Leaf(job=result.job_id, result_sha256=digest)
        elif isinstance(queued, TombstoneLeaf):
            stated = signed.read(data, _TombstoneIdentity, keys)
            leaf = TombstoneLeaf(job=stated.job_id, number=stated.number, sha256=digest)
        else:
            leaf = WithdrawalLeaf.of(signed.read(data, WithdrawalNote, keys), data)
    except Refused as exc:
        raise Refused("LOG_INVALID", f"{key}: {exc.message}") from exc
    if leaf.name != queued.name:
        raise Refused("LOG_INVALID", f"{key} is the document of another place.")
    return leaf


def _printable(text: str) -> str:
    """Return text that metadata can hold."""
    return ascii(text)[1:-1][:300].strip()


def _format_proof(position: int, path: Sequence[bytes], note: str) -> bytes:
    parts = (base64.b64encode(part).decode() for part in path)
    lines = [log.PROOF_HEADER, f"index {position}", *parts]
    return ("\n".join(lines) + "\n\n" + note).encode()
