"""Object keys of tiles and the encoding of entry bundles, as in C2SP tlog-tiles."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from core.storage.object_keys import LOG_TILES
from core.tlog.merkle import WIDTH


def split_into_bundles(batch: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (batch[i : i + WIDTH] for i in range(0, len(batch), WIDTH))


def tile_widths(size: int) -> Iterator[tuple[int, int]]:
    """Return the number and width of each entry bundle of a log of `size` entries."""
    return ((i, min(WIDTH, size - i * WIDTH)) for i in range(-(-size // WIDTH)))


def key(level: str, number: int, width: int) -> str:
    parts = [f"{number % 1000:03}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"{LOG_TILES}{level}/{'/'.join(reversed(parts))}{partial}"


def bundle(batch: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in batch)


def unbundle(data: bytes) -> list[bytes]:
    batch, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        batch.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return batch
