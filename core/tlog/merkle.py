"""Merkle trees of RFC 6962, section 2.1: roots, proofs, and the tiles of C2SP tlog-tiles.

A `Node` function returns the hash of a complete subtree: `node(level, i)` covers the leaves
[i * 2**level, (i + 1) * 2**level). Roots and proofs of any tree are computed from such hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

HASH = 32
WIDTH = 256
"""Number of hashes in a full tile; a tile spans eight levels."""

Node = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """A tree in memory that grows: the hash of every complete subtree, 64 bytes a leaf in all."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        level, value = 0, leaf
        self._levels[0].append(leaf)
        while len(row := self._levels[level]) % 2 == 0:
            value, level = node_hash(row[-2], row[-1]), level + 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(value)

    def node(self, level: int, index: int) -> bytes:
        """The `Node` function of this tree."""
        return self._levels[level][index]

    def tiles(self, old: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Yield (level, number, hashes) of every tile that changed since the tree had `old`
        leaves."""
        for level, row in enumerate(self._levels[::8]):
            before = old >> 8 * level
            if before == len(row):
                break
            for start in range(before - before % WIDTH, len(row), WIDTH):
                yield level, start // WIDTH, b"".join(row[start : start + WIDTH])


def root(size: int, node: Node) -> bytes:
    """Return the root hash of the tree of the first `size` leaves."""
    return _range_hash(0, size, node) if size else hashlib.sha256(b"").digest()


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size` leaves, from the leaf's sibling
    upwards."""
    path, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split_point(high - low)
        if index < middle:
            path.append(_range_hash(middle, high, node))
            high = middle
        else:
            path.append(_range_hash(low, middle, node))
            low = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """Return the proof that the tree of `new` leaves extends the tree of `old` leaves,
    0 < old <= new."""
    path, low, high = [], 0, new
    while high != old:
        middle = low + _split_point(high - low)
        if old <= middle:
            path.append(_range_hash(middle, high, node))
            high = middle
        else:
            path.append(_range_hash(low, middle, node))
            low = middle
    # The verifier knows the root of the old tree, which is this range if it starts at leaf 0.
    return ([_range_hash(low, high, node)] if low else []) + path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root_hash: bytes
) -> bool:
    """Return whether `path` leads from `leaf` to `root_hash` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            value = node_hash(sibling, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and value == root_hash


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Return whether `path` proves that the tree with `new_root` extends the one with `old_root`
    (RFC 9162, 2.1.4.2)."""
    if not 0 < old < new:
        return old == new and old_root == new_root and not path
    path = [old_root, *path] if old & (old - 1) == 0 else list(path)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    if not path:
        return False
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _range_hash(low: int, high: int, node: Node) -> bytes:
    """Return MTH(D[low:high]) of RFC 6962, for the ranges that its recursion produces."""
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split_point(size)
    return node_hash(_range_hash(low, middle, node), _range_hash(middle, high, node))


def _split_point(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
