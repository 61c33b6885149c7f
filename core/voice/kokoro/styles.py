"""Styles: mixtures of the 54 voices that come with Kokoro."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.inference import LoadedOnce

Weights = NDArray[np.float32]
"""Weights of the voices in a mixture, shape (2, 54): row 0 for timbre (the decoder's half of a
style), row 1 for prosody (the predictor's half). All zeros is the mean voice."""

TIMBRE = 128
"""Dimensions 0..127 of a style control the decoder, the rest duration, pitch and energy."""


@dataclass(frozen=True, slots=True)
class Styles:
    """The stored styles of all voices."""

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    """Token counts less one for which a style is stored, shape (45,)."""
    mean: NDArray[np.float32]
    """The mean voice, shape (45, 256)."""
    offsets: NDArray[np.float32]
    """Voices less the mean voice, shape (54, 45, 256)."""

    def weights_of(self, name: str) -> Weights:
        """Return the weights of a single voice."""
        return np.tile(np.array([name == other for other in self.names], np.float32), (2, 1))

    def style(self, weights: Weights, tokens: int) -> NDArray[np.float32]:
        """Return the style vector, shape (256,), for an utterance of `tokens` tokens."""
        at = float(np.interp(tokens - 1, self.rows, np.arange(len(self.rows))))
        low = min(int(at), len(self.rows) - 2)
        part = np.float32(at - low)
        mean = self.mean[low] * (1 - part) + self.mean[low + 1] * part
        offsets = self.offsets[:, low] * (1 - part) + self.offsets[:, low + 1] * part
        timbre = weights[0] @ offsets[:, :TIMBRE]
        prosody = weights[1] @ offsets[:, TIMBRE:]
        return np.asarray(mean + np.concatenate([timbre, prosody]), np.float32)


@LoadedOnce
def load() -> Styles:
    """Load the styles that are part of this package."""
    with np.load(Path(__file__).parent / "data/styles.npz") as stored:
        packs = stored["styles"].astype(np.float32)
        names = tuple(str(name) for name in stored["names"])
        rows = stored["rows"].astype(np.int64)
    mean = packs.mean(axis=0)
    return Styles(names, rows, mean, packs - mean)
