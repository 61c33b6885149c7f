"""Speaker change detection: does one person speak in a recording, or two in turn?

Speech is split where the embeddings of the two sides differ most. Error rates: docs/reference.md.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from core.audio.waveform import Audio, normalise_peak, resample
from core.speech import activity
from core.speech.encoders import Ge2e, cosine_similarity, to_unit_length

_STEP_S: Final = 0.4
_MIN_WINDOWS: Final = 2
"""Minimum number of windows of 1.6 s on each side of a split; one is too unreliable."""
_SAME_SPEAKER: Final = 0.74
"""Similarity of the two sides from which they count as one person."""


def has_several_speakers(audio: Audio) -> bool:
    """Return whether more than one person speaks in a prepared recording. People who speak at the
    same time, or for less than two seconds, are not detected."""
    return lowest_similarity(audio) < _SAME_SPEAKER


def lowest_similarity(audio: Audio) -> float:
    """Return the lowest similarity (-1..1) of the speech before and after any split; 1 if there is
    too little speech to split."""
    resampled = resample(audio, activity.RATE)
    frames = activity.detect_speech(normalise_peak(resampled).samples).mask
    mask = np.repeat(frames, activity.HOP)[: len(resampled.samples)]
    speech = resampled.samples[: len(mask)][mask]
    if len(speech) < activity.RATE:
        return 1.0
    parts = _encoder().embed_windows(Audio(speech, activity.RATE), _STEP_S)
    splits = (np.split(parts, [i]) for i in range(_MIN_WINDOWS, len(parts) - _MIN_WINDOWS + 1))
    means = ([to_unit_length(side.mean(axis=0)) for side in sides] for sides in splits)
    return min((cosine_similarity(*pair) for pair in means), default=1.0)


@cache
def _encoder() -> Ge2e:
    return Ge2e.load()
