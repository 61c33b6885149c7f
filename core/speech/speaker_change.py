"""Speaker change detection: does one person speak in a recording, or two in turn?

Speech is split where the embeddings of the two sides differ most. Their features are computed when
the recording is prepared (`core.speech.preparation`). Error rates: docs/reference.md.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.speech.encoders import Ge2e, cosine_similarity, to_unit_length

_STEP_S: Final = 0.4
_MIN_WINDOWS: Final = 2
"""Minimum number of windows of 1.6 s on each side of a split; one is too unreliable."""
_SAME_SPEAKER: Final = 0.74
"""Similarity of the two sides from which they count as one person."""


def has_several_speakers(mel: NDArray[np.float32]) -> bool:
    """Return whether more than one person speaks in a prepared recording. People who speak at the
    same time, or for less than two seconds, are not detected. mel: `Reference.mel`."""
    return lowest_similarity(mel) < _SAME_SPEAKER


def lowest_similarity(mel: NDArray[np.float32]) -> float:
    """Return the lowest similarity (-1..1) of the speech before and after any split; 1 if there is
    too little speech to split."""
    if len(mel) < 100:
        return 1.0
    parts = _encoder().embed_mel(mel, _STEP_S)
    splits = (np.split(parts, [i]) for i in range(_MIN_WINDOWS, len(parts) - _MIN_WINDOWS + 1))
    means = ([to_unit_length(side.mean(axis=0)) for side in sides] for sides in splits)
    return min((cosine_similarity(*pair) for pair in means), default=1.0)


@cache
def _encoder() -> Ge2e:
    return Ge2e.load()
