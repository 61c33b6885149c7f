"""Synthesises the beginning of a sentence while T2S still generates the rest.

The SoVITS encoder computes a frame from its neighbours, so each piece is encoded with more tokens
than it plays. Frames that were encoded for two pieces are blended in the latent; noise depends on
the frame number only. The vocoder therefore decodes one continuous latent, and a short cross-fade
hides the difference at the end of a piece, where it lacked later frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Samples
from core.voice.gpt_sovits import synthesis
from core.voice.gpt_sovits.bundle import Bundle

Float = NDArray[np.float32]
Ids = NDArray[np.int64]

FIRST_PIECE = 25
"""Tokens of the first piece: 1 s. Each piece is twice as long as the one before: all tokens so far
are encoded for each, so few pieces mean little repeated work, and playback never waits."""
LOOKAHEAD = 10
"""Tokens that are encoded beyond the end of a piece."""
_CROSSFADE = 1
"""Frames of the waveform that are decoded twice and cross-faded."""


class SentenceStream:
    """The pieces of one sentence."""

    def __init__(
        self, bundle: Bundle, phones: Ids, timbre: Float, *, speed: float, seed: tuple[int, ...]
    ) -> None:
        self._bundle = bundle
        self._phones = phones
        self._timbre = timbre
        self._speed = speed
        self._seed = seed
        self._played = 0
        """Frames that have been returned, including the cross-fade."""
        self._z = np.empty((1, bundle.spec.inter, 0), np.float32)
        self._tail = np.empty(0, np.float32)
        self._piece = self._next = FIRST_PIECE

    @property
    def needed(self) -> int:
        """Number of tokens that the next piece needs, unless it is the last."""
        return self._next + LOOKAHEAD

    def next_piece(self, tokens: list[int], *, final: bool = False) -> Samples:
        """Return the next piece of the waveform, given all tokens so far.

        With `final`, it is the rest of the sentence.
        """
        z = self._blend(self._latent(np.array(tokens, np.int64)))
        ready = len(tokens) if final else len(tokens) - LOOKAHEAD
        last = z.shape[2] if final else int(ready * synthesis.FRAMES_PER_TOKEN / self._speed)
        self._piece *= 2
        self._next = ready + self._piece
        return self._wave(z, last, final=final)

    def _latent(self, tokens: Ids) -> Float:
        """Compute z (1, inter, frames) of all tokens so far."""
        latent = synthesis.encode(self._bundle, tokens, self._phones, self._timbre)
        if self._speed != 1:
            # `change_speed` would move every frame as the sentence grows; this step is constant.
            count = int(latent.shape[1] / self._speed) + 1
            latent = synthesis.interpolate(latent, np.arange(count), self._speed)
        noise = synthesis.make_noise(self._bundle, latent.shape[1], self._seed)
        return synthesis.flow(self._bundle, latent, noise, self._timbre)

    def _blend(self, z: Float) -> Float:
        """Keep the frames played, fade from old to new over the lookahead, and append the rest."""
        past = self._z.shape[2]
        lookahead = past - self._played
        share = np.concatenate(
            [np.zeros(self._played), (np.arange(lookahead) + 0.5) / (lookahead or 1)]
        )
        mixed = z.copy()
        mixed[:, :, :past] = self._z * (1 - share) + z[:, :, :past] * share
        self._z = mixed.astype(np.float32)
        return self._z

    def _wave(self, z: Float, last: int, *, final: bool) -> Samples:
        hop = self._bundle.spec.hop
        first = max(0, self._played - _CROSSFADE)
        wave = synthesis.vocode_part(self._bundle, z, self._timbre, first, last).copy()
        if len(self._tail):
            rise = (np.arange(len(self._tail), dtype=np.float32) + 0.5) / len(self._tail)
            wave[: len(self._tail)] = self._tail * (1 - rise) + wave[: len(self._tail)] * rise
        self._played = last
        if final:
            return wave
        self._tail = wave[-_CROSSFADE * hop :]
        return wave[: -_CROSSFADE * hop]
