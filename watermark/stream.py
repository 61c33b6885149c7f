"""Embed the mark in a stream that is heard while it is made, with a delay of DELAY_S.

The mark is that of `embed.py`, and one detector reads both. Two things differ, because the future
of a stream is unknown. The secret start comes from a nonce instead of the host. And each frame is
marked by the statistics of the 4 s before it and of the AHEAD groups after it, instead of those of
a block of 4 s.

Audio is processed in groups of slots whose place depends on the length of what came before alone,
so the result is the same, to the bit, whatever the sizes of the pieces in which it is pushed.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from watermark import cells
from watermark.embed import DEFAULT, FrameGrid, check_samples, check_strength, find_changes
from watermark.layout import BANDS, PERIOD, SEGMENT, SLOT_S, derive_layout

Floats = NDArray[np.float32]

GROUP = 4
"""Slots that are marked at once."""
AHEAD = 2
"""Groups after them that are analysed first."""
PAST = 32
"""Groups before them whose statistics count."""
DELAY_S = (AHEAD + 1) * GROUP * SLOT_S + 7 * cells.HOP_S
"""Most seconds of sound that an embedder has taken and not yet returned: the groups, the halves of
two frames and the hop by which the limiter looks ahead."""
NONCE_BYTES = 16
_LEAD = 3
"""Hops of silence before the stream: the first frame is centred one hop before it."""


class StreamEmbedder:
    """Mark a stream: `push` audio and take the marked audio, then call `finish` once."""

    def __init__(
        self, rate: int, payload: int, key: bytes, nonce: bytes, *, strength: float = DEFAULT
    ) -> None:
        """`nonce`: 16 random bytes, new for each stream. The other arguments are those of `embed`,
        and so are the errors."""
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
        self._layout = derive_layout(key)
        self._signs = self._layout.spread(payload)
        self._payload, self._nonce = payload, nonce
        self._strength = check_strength(strength)
        self._grid = FrameGrid.of(rate)
        hop = self._grid.hop
        self._starts: list[int] = []
        self._taken = self._returned = 0
        # Samples from the first frame on that is not analysed.
        self._input = np.zeros(_LEAD * hop, np.float32)
        self._analysed = self._marked = 0
        """Groups."""
        self._bands = np.zeros((0, BANDS), np.float32)
        self._tonality = np.zeros(0, np.float32)
        self._spectra: deque[NDArray[np.complex64]] = deque()
        """Of the groups that are analysed and not marked."""
        self._overlap = np.zeros(_LEAD * hop, np.float32)
        """What the frames so far add to the hops that are not complete."""
        self._limiter = _Limiter(hop)
        self._host = np.zeros(_LEAD * hop, np.float32)
        """Samples from the first incomplete hop on."""

    def push(self, samples: Floats) -> Floats:
        """Add samples, (n,), and return those that are ready."""
        samples = check_samples(samples)
        self._taken += len(samples)
        return self._drain(samples)

    def finish(self) -> Floats:
        """Return the remaining samples. The embedder cannot be used afterwards."""
        hops = self._grid.edge((AHEAD + 2) * GROUP) + 2 * self._grid.width // self._grid.hop
        missing = self._taken - self._returned
        return self._drain(np.zeros(hops * self._grid.hop, np.float32))[:missing]

    def _drain(self, samples: Floats) -> Floats:
        self._input = np.concatenate([self._input, samples])
        self._host = np.concatenate([self._host, samples])
        done = [np.zeros(0, np.float32)]
        while self._analyse_next():
            if self._analysed - self._marked > AHEAD:
                done.append(self._mark_next())
        ready = np.concatenate(done)
        self._returned += len(ready)
        return ready

    def _edge(self, group: int) -> int:
        """Return the first frame of a group. The first group begins one hop early: that frame
        overlaps the stream."""
        return self._grid.edge(group * GROUP) if group else -1

    def _analyse_next(self) -> bool:
        """Analyse the next group; return False if its samples have not all arrived."""
        hop, width = self._grid.hop, self._grid.width
        count = self._edge(self._analysed + 1) - self._edge(self._analysed)
        if len(self._input) < (count - 1) * hop + width:
            return False
        used = self._input[: (count - 1) * hop + width]
        frames = np.lib.stride_tricks.sliding_window_view(used, width)[::hop]
        bins = cells.rfft(frames * cells.hann(width), width)
        bands, tonality = self._grid.analyse(bins)
        first = self._edge(max(self._marked - PAST, 0))
        past = max(0, self._edge(self._analysed) - first)
        self._bands = np.concatenate([self._bands[len(self._bands) - past :], bands])
        self._tonality = np.concatenate([self._tonality[len(self._tonality) - past :], tonality])
        self._spectra.append(bins)
        self._input = self._input[count * hop :]
        self._analysed += 1
        return True

    def _mark_next(self) -> Floats:
        """Mark the next group; return the hops that are then complete."""
        hop, group = self._grid.hop, self._marked
        bins = self._spectra.popleft()
        oldest = self._edge(self._analysed) - len(self._bands)
        changes, slot = find_changes(
            self._grid, self._bands, self._tonality, oldest, self._signs_from
        )
        # The frames of the group lie in its slots, one before and one after them.
        begin, end = max(slot, group * GROUP - 2), (group + 1) * GROUP + 1
        decibels = self._strength * changes[:, begin - slot : end - slot]
        self._grid.apply_changes(bins, decibels, begin, self._edge(group))
        # Squared Hann windows at four frames per width sum to 3/2.
        window = cells.hann(self._grid.width) / np.float32(1.5)
        frames = cells.irfft(bins, self._grid.width) * window
        joined = np.zeros((len(frames) + 3) * hop, np.float32)
        joined[: len(self._overlap)] = self._overlap
        for quarter in range(4):
            piece = frames[:, quarter * hop : (quarter + 1) * hop]
            joined[quarter * hop : quarter * hop + piece.size] += piece.reshape(-1)
        complete = len(frames) * hop
        self._overlap = joined[complete:]
        host, self._host = self._host[:complete], self._host[complete:]
        self._marked += 1
        limited = self._limiter.push(host, joined[:complete])
        # The first hops are the silence before the stream; the limiter keeps the last one.
        return limited[_LEAD * hop :] if group == 0 else limited

    def _signs_from(self, first_slot: int, count: int) -> Floats:
        """Return the cell signs of `count` slots from first_slot on: (BANDS, count)."""
        slots = np.arange(first_slot, first_slot + count)
        while len(self._starts) <= slots[-1] // SEGMENT:
            segment = len(self._starts)
            self._starts.append(self._layout.derive_start(self._payload, segment, self._nonce))
        starts = np.array(self._starts)[slots // SEGMENT]
        return self._signs[:, (starts + slots) % PERIOD]


class _Limiter:
    """Fade the mark out smoothly, hop by hop, where it would exceed -1..1. One hop is kept, because
    the fade begins in the hop before."""

    def __init__(self, hop: int) -> None:
        self._hop = hop
        self._host = self._marked = np.zeros(0, np.float32)
        self._share = np.ones(1, np.float32)
        """How much of the mark each hop bears: the last one returned, and the one that is kept."""

    def push(self, host: Floats, marked: Floats) -> Floats:
        limit = np.maximum(1, np.abs(host))
        excess = np.abs(marked) > limit
        shares = np.ones(len(host), np.float32)
        shares[excess] = (limit - np.abs(host))[excess] / np.abs(marked - host)[excess]
        share = np.append(self._share, shares.reshape(-1, self._hop).min(axis=1))
        host = np.concatenate([self._host, host])
        marked = np.concatenate([self._marked, marked])
        ready = len(host) - self._hop
        self._host, self._marked, self._share = host[ready:], marked[ready:], share[-2:]
        host, marked = host[:ready], marked[:ready]
        if share.min() == 1:
            return marked
        knots = np.minimum(share[:-1], share[1:])
        fade = np.interp(np.arange(ready) / self._hop, np.arange(len(knots)), knots)
        limit = np.maximum(1, np.abs(host))
        faded: Floats = np.clip(host + fade.astype(np.float32) * (marked - host), -limit, limit)
        return faded
