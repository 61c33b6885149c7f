"""Merkle trees of RFC 6962, section 2.1: roots, proofs, and the tiles of C2SP tlog-tiles. Pure.

A `Node` function gives the hash of a complete subtree: `node(level, i)` covers the leaves
[i * 2**level, (i + 1) * 2**level). Roots and proofs of any tree are made from such hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

HASH = 32
WIDTH = 256
"""Hashes in a full tile; a tile spans eight levels."""

Node = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def nodes_in_memory(leaves: Sequence[bytes]) -> Node:
    """Nodes over leaf hashes held in a list."""

    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    return node


def root(size: int, node: Node) -> bytes:
    """The hash of the tree of the first `size` leaves."""
    return _range_hash(0, size, node) if size else hashlib.sha256(b"").digest()


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Audit path of leaf `index` in the tree of `size` leaves, from the leaf's sibling upwards."""
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
    """Proof that the tree of `new` leaves begins with the tree of `old` leaves, 0 < old <= new."""
    path, low, high = [], 0, new
    while high != old:
        middle = low + _split_point(high - low)
        if old <= middle:
            path.append(_range_hash(middle, high, node))
            high = middle
        else:
            path.append(_range_hash(low, middle, node))
            low = middle
    # The old tree itself is known to the reader, unless the path has left its left edge.
    return ([_range_hash(low, high, node)] if low else []) + path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], top: bytes) -> bool:
    """Whether `path` leads from `leaf` to the root `top` (RFC 9162, 2.1.3.2)."""
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
    return last == 0 and value == top


def verify_consistency(
    old: int, new: int, old_top: bytes, new_top: bytes, path: Sequence[bytes]
) -> bool:
    """Whether `path` proves that the tree `new_top` begins with `old_top` (RFC 9162, 2.1.4.2)."""
    if not 0 < old < new:
        return old == new and old_top == new_top and not path
    path = [old_top, *path] if old & (old - 1) == 0 else list(path)
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
    return last == 0 and first == old_top and second == new_top


def added_tiles(
    old: int, leaves: Sequence[bytes], held: Callable[[int, int, int], bytes]
) -> Iterator[tuple[int, int, bytes]]:
    """(level, number, hashes) of every tile that appending `leaves` to `old` ones makes.

    `held(level, number, width)` gives the hashes of a partial tile of the old tree.
    """
    level, fresh = 0, list(leaves)
    while old or fresh:
        number, width = divmod(old, WIDTH)
        data = (held(level, number, width) if width else b"") + b"".join(fresh)
        pieces = [data[i : i + WIDTH * HASH] for i in range(0, len(data), WIDTH * HASH)]
        for i, piece in enumerate(pieces, number):
            yield level, i, piece
        full = (piece for piece in pieces if len(piece) == WIDTH * HASH)
        level, old, fresh = level + 1, number, [subtree_root(piece) for piece in full]


def subtree_root(hashes: bytes) -> bytes:
    """The root over a power of two of concatenated hashes."""
    row = [hashes[i : i + HASH] for i in range(0, len(hashes), HASH)]
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def _range_hash(low: int, high: int, node: Node) -> bytes:
    """RFC 6962's MTH(D[low:high]), for the ranges that its recursion reaches from a root."""
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split_point(size)
    return node_hash(_range_hash(low, middle, node), _range_hash(middle, high, node))


def _split_point(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
