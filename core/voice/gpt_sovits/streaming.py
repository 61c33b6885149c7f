"""Speaking the beginning of a sentence while its end is still being thought of.

What SoVITS makes of a frame depends on its neighbours, so a piece is decoded with more tokens than
are spoken yet, and where the next piece makes the same frames differently the two are blended in
the latent. Noise belongs to frames, not to pieces. The vocoder then sees one continuous latent, and
what little its reach beyond the seam leaves over is cross-faded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Samples
from core.voice.gpt_sovits import synthesis
from core.voice.gpt_sovits.bundle import Bundle

Float = NDArray[np.float32]
Ids = NDArray[np.int64]

FIRST = 25
"""Tokens (1 s) of the first piece. Each further piece is twice as long, so that the work of
decoding the past again stays small while playback never waits."""
AHEAD = 10
"""Tokens known beyond what is spoken."""
_FADE = 1
"""Frames of the wave that are made twice and cross-faded."""


class Stream:
    """One sentence. Feed it all tokens so far whenever `wants` says so."""

    def __init__(
        self, bundle: Bundle, phones: Ids, timbre: Float, *, speed: float, seed: tuple[int, ...]
    ) -> None:
        self._bundle = bundle
        self._phones = phones
        self._timbre = timbre
        self._speed = speed
        self._seed = seed
        self._spoken = 0
        """Frames whose wave has left, but for the fade."""
        self._z = np.empty((1, bundle.spec.inter, 0), np.float32)
        self._tail = np.empty(0, np.float32)
        self._piece = self._next = FIRST

    def wants(self, tokens: int) -> bool:
        """Whether so many tokens make another piece."""
        return tokens >= self._next + AHEAD

    def feed(self, tokens: list[int], *, final: bool = False) -> Samples:
        """The next piece of the wave; with `final`, all that is left."""
        z = self._blended(self._latent(np.array(tokens, np.int64)))
        ready = len(tokens) if final else len(tokens) - AHEAD
        last = z.shape[2] if final else int(ready * synthesis.FRAMES_PER_TOKEN / self._speed)
        self._piece *= 2
        self._next = ready + self._piece
        return self._wave(z, last, final=final)

    def _latent(self, tokens: Ids) -> Float:
        """z of all frames so far. At other speeds frames are read at a fixed step, so that a frame
        keeps its place however long the sentence becomes."""
        latent = synthesis.encode(self._bundle, tokens, self._phones, self._timbre)
        if self._speed != 1:
            count = int(latent.shape[1] / self._speed) + 1
            latent = synthesis.between(latent, np.arange(count), self._speed)
        noise = synthesis.noise(self._bundle, latent.shape[1], self._seed)
        return synthesis.flow(self._bundle, latent, noise, self._timbre)

    def _blended(self, z: Float) -> Float:
        """What was spoken stays as it was; what was only foreseen turns into what is known now."""
        past = self._z.shape[2]
        foreseen = past - self._spoken
        share = np.concatenate(
            [np.zeros(self._spoken), (np.arange(foreseen) + 0.5) / (foreseen or 1)]
        )
        mixed = z.copy()
        mixed[:, :, :past] = self._z * (1 - share) + z[:, :, :past] * share
        self._z = mixed.astype(np.float32)
        return self._z

    def _wave(self, z: Float, last: int, *, final: bool) -> Samples:
        hop = self._bundle.spec.hop
        first = max(0, self._spoken - _FADE)
        wave = synthesis.vocode_part(self._bundle, z, self._timbre, first, last).copy()
        if len(self._tail):
            rise = (np.arange(len(self._tail), dtype=np.float32) + 0.5) / len(self._tail)
            wave[: len(self._tail)] = self._tail * (1 - rise) + wave[: len(self._tail)] * rise
        self._spoken = last
        if final:
            return wave
        self._tail = wave[-_FADE * hop :]
        return wave[: -_FADE * hop]
