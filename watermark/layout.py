"""Where the mark stands: the keyed plan of time-frequency cells.

A cell is 32 ms long; 25 bands of 125 Hz cover 250-3375 Hz and 20 bands of 200 Hz 3375-7375 Hz.
Telephone speech keeps the first group; nothing lies where wide-band codecs give up.

Each cell plays a part: about one in six is a sync cell, the others carry one coded bit each. The
plan of parts repeats every TILE slots (1.024 s), so any second of speech holds every coded bit four
or five times. Each cell also has a keyed sign, and signs repeat only after PERIOD slots (65.5 s).
The mark raises a cell by its sign (sync) or by its sign times its coded bit.

Every SEGMENT slots (32.8 s), and in each new clip, the mark goes on at another secret point of the
sign stream, chosen by HMAC from payload and host. So two marked clips do not line up, and averaging
many of them shows nothing, while the same input always gives the same output.

All of it derives from one 32-byte key: SHAKE-256 over HMAC-SHA256(key, label), read as
little-endian 64-bit words.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark import payload as code

Floats = NDArray[np.float32]

SLOT = 0.032
"""Length of a cell in seconds."""
LOW_EDGES = 250 + 125.0 * np.arange(26)
HIGH_EDGES = 3375 + 200.0 * np.arange(21)
LOW_BANDS = len(LOW_EDGES) - 1
BANDS = LOW_BANDS + len(HIGH_EDGES) - 1
CENTRES = np.concatenate([LOW_EDGES[1:] + LOW_EDGES[:-1], HIGH_EDGES[1:] + HIGH_EDGES[:-1]]) / 2
"""Hz."""
TILE = 32
PERIOD = 64 * TILE
SEGMENT = PERIOD // 2
KEY_BYTES = 32
DOMAIN = b"voicedrop/watermark/1/"

CODE_SHARE = 0.825
"""Share of the cells that carry coded bits: 4.5 cells a bit and tile. The rest is sync."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One key's plan. Arrays are read-only; bands run upward, slots onward."""

    key: bytes = field(repr=False)
    signs: Floats
    """+1 or -1: (BANDS, PERIOD)."""
    parts: NDArray[np.intp]
    """The coded bit of each cell, or -1 for sync: (BANDS, TILE)."""

    @property
    def sync_mask(self) -> Floats:
        """1 where a cell is sync: (BANDS, TILE)."""
        return (self.parts < 0).astype(np.float32)

    @property
    def sync(self) -> Floats:
        """The signs of the sync cells, 0 elsewhere: (BANDS, PERIOD)."""
        return self.signs * np.tile(self.sync_mask, (1, PERIOD // TILE))

    def pattern(self, payload: int) -> Floats:
        """The sign of every cell for one payload: (BANDS, PERIOD)."""
        word = np.append(code.encode(payload), np.float32(1))
        return self.signs * np.tile(word[self.parts], (1, PERIOD // TILE))

    def start(self, payload: int, segment: int, host: bytes) -> int:
        """The slot of the sign stream at which a segment of a marked clip begins."""
        message = b"start" + payload.to_bytes(4, "big") + segment.to_bytes(8, "big")
        digest = hmac.digest(self.key, DOMAIN + message + hashlib.sha256(host).digest(), "sha256")
        return int.from_bytes(digest[:8], "little") % PERIOD


@lru_cache(maxsize=64)
def layout(key: bytes) -> Layout:
    """The plan of a key. Raises ValueError for a key that is not 32 bytes long."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a watermark key has {KEY_BYTES} bytes, not {len(key)}")
    top_bits = _words(key, b"signs", BANDS * PERIOD) >> np.uint64(63)
    signs = np.where(top_bits, np.float32(-1), np.float32(1)).reshape(BANDS, PERIOD)
    low = _parts(key, b"low", LOW_BANDS)
    high = _parts(key, b"high", BANDS - LOW_BANDS)
    parts = np.concatenate([low, high])
    for array in (signs, parts):
        array.setflags(write=False)
    return Layout(key, signs, parts)


def _words(key: bytes, label: bytes, count: int) -> NDArray[np.uint64]:
    seed = hmac.digest(key, DOMAIN + label, "sha256")
    return np.frombuffer(hashlib.shake_256(seed).digest(8 * count), "<u8").astype(np.uint64)


def _parts(key: bytes, group: bytes, bands: int) -> NDArray[np.intp]:
    """A keyed shuffle of one group's cells over the coded bits."""
    order = np.argsort(_words(key, b"parts/" + group, bands * TILE), kind="stable")
    parts = np.full(bands * TILE, -1, np.intp)
    used = order[: round(CODE_SHARE * len(order))]
    # The stride spreads the bits that get one cell more evenly over the trellis.
    parts[used] = np.arange(len(used)) * 5 % code.CODED_BITS
    return parts.reshape(bands, TILE)
