"""The keyed layout of the mark: what each time-frequency cell carries.

The mark is a direct-sequence spread-spectrum signal over the log-energies of cells. A cell is one
slot of 32 ms in one of 45 bands: 25 bands of 125 Hz cover 250-3375 Hz, which telephone speech
keeps, and 20 bands of 200 Hz cover 3375-7375 Hz, the range that wide-band codecs keep.

About one cell in six is a synchronisation (sync) cell; each of the others carries one coded bit.
This assignment repeats every TILE slots (1.024 s), so each second of speech holds every coded bit
four or five times. Each cell also has a keyed chip, +1 or -1; the chip sequence repeats every
PERIOD slots (65.5 s). The mark raises or lowers a sync cell by its chip and any other cell by its
chip times its coded bit.

Each clip, and each SEGMENT slots (32.8 s) within it, starts at a secret position of the chip
sequence, derived by HMAC from payload and host. Embedding is therefore deterministic, yet two
marked clips do not line up, and averaging many of them reveals no chips.

Everything derives from one 32-byte key: SHAKE-256 over HMAC-SHA256(key, label), read as
little-endian 64-bit words.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark import coding

Floats = NDArray[np.float32]

SLOT_S = 0.032
"""Length of a slot in seconds."""
LOW_EDGES = 250 + 125.0 * np.arange(26)
HIGH_EDGES = 3375 + 200.0 * np.arange(21)
LOW_BANDS = len(LOW_EDGES) - 1
BANDS = LOW_BANDS + len(HIGH_EDGES) - 1
CENTRES = np.concatenate([LOW_EDGES[1:] + LOW_EDGES[:-1], HIGH_EDGES[1:] + HIGH_EDGES[:-1]]) / 2
"""Centre frequency of each band in Hz."""
TILE = 32
PERIOD = 64 * TILE
SEGMENT = PERIOD // 2
KEY_BYTES = 32
DOMAIN = b"voicedrop/watermark/1/"

CODE_SHARE = 0.825
"""Share of the cells that carry coded bits: about 4.5 cells per bit and tile. The rest is sync."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The layout of one key. Arrays are read-only; rows are bands, columns are slots."""

    key: bytes = field(repr=False)
    chips: Floats
    """+1 or -1: (BANDS, PERIOD)."""
    bit_index: NDArray[np.intp]
    """Index of the coded bit that each cell carries, or -1 for sync: (BANDS, TILE)."""

    @property
    def sync_mask(self) -> Floats:
        """1 where a cell is sync, else 0: (BANDS, TILE)."""
        return (self.bit_index < 0).astype(np.float32)

    @property
    def sync(self) -> Floats:
        """The chips of the sync cells, 0 elsewhere: (BANDS, PERIOD)."""
        return self.chips * np.tile(self.sync_mask, (1, PERIOD // TILE))

    def spread(self, payload: int) -> Floats:
        """Return the sign of every cell for one payload, chip times coded bit: (BANDS, PERIOD)."""
        codeword = np.append(coding.encode(payload), np.float32(1))
        return self.chips * np.tile(codeword[self.bit_index], (1, PERIOD // TILE))

    def derive_start(self, payload: int, segment: int, host: bytes) -> int:
        """Return the slot of the chip sequence at which a segment of a marked clip starts."""
        message = b"start" + payload.to_bytes(4, "big") + segment.to_bytes(8, "big")
        digest = hmac.digest(self.key, DOMAIN + message + hashlib.sha256(host).digest(), "sha256")
        return int.from_bytes(digest[:8], "little") % PERIOD


@lru_cache(maxsize=64)
def derive_layout(key: bytes) -> Layout:
    """Derive the layout of a key. Raises ValueError for a key that is not 32 bytes long."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a watermark key has {KEY_BYTES} bytes, not {len(key)}")
    top_bits = _keyed_words(key, b"signs", BANDS * PERIOD) >> np.uint64(63)
    chips = np.where(top_bits, np.float32(-1), np.float32(1)).reshape(BANDS, PERIOD)
    low = _assign_bits(key, b"low", LOW_BANDS)
    high = _assign_bits(key, b"high", BANDS - LOW_BANDS)
    bit_index = np.concatenate([low, high])
    for array in (chips, bit_index):
        array.setflags(write=False)
    return Layout(key, chips, bit_index)


def _keyed_words(key: bytes, label: bytes, count: int) -> NDArray[np.uint64]:
    seed = hmac.digest(key, DOMAIN + label, "sha256")
    return np.frombuffer(hashlib.shake_256(seed).digest(8 * count), "<u8").astype(np.uint64)


def _assign_bits(key: bytes, group: bytes, bands: int) -> NDArray[np.intp]:
    """Assign coded bits to the cells of a group of bands by a keyed shuffle: (bands, TILE)."""
    order = np.argsort(_keyed_words(key, b"parts/" + group, bands * TILE), kind="stable")
    bit_index = np.full(bands * TILE, -1, np.intp)
    coded = order[: round(CODE_SHARE * len(order))]
    # The stride of 5 distributes the bits that get an extra cell evenly over the trellis.
    bit_index[coded] = np.arange(len(coded)) * 5 % coding.CODED_BITS
    return bit_index.reshape(bands, TILE)
