"""Whether a recording holds one person's voice or, one after the other, two.

The speech is cut where the voices of the two sides differ most. Rates: docs/reference.md.
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
"""Windows of 1.6 s on each side of a cut, at least: from one alone nobody can tell."""
_SAME_SPEAKER: Final = 0.74
"""Similarity of the two sides below which they are two people."""


def has_several_speakers(audio: Audio) -> bool:
    """Whether more than one person speaks in a prepared recording. People who speak at the same
    time, or for less than two seconds, are not noticed."""
    return lowest_similarity(audio) < _SAME_SPEAKER


def lowest_similarity(audio: Audio) -> float:
    """Similarity of the speech before and after a cut, -1..1, where it is least; 1 where there is
    too little speech to cut."""
    heard = resample(audio, activity.RATE)
    mask = np.repeat(activity.detect_speech(normalise_peak(heard).samples).mask, activity.HOP)[
        : len(heard.samples)
    ]
    said = heard.samples[: len(mask)][mask]
    if len(said) < activity.RATE:
        return 1.0
    parts = _encoder().embed_windows(Audio(said, activity.RATE), _STEP_S)
    cuts = range(_MIN_WINDOWS, len(parts) - _MIN_WINDOWS + 1)
    sides = (
        (to_unit_length(parts[:cut].mean(axis=0)), to_unit_length(parts[cut:].mean(axis=0)))
        for cut in cuts
    )
    return min((cosine_similarity(*pair) for pair in sides), default=1.0)


@cache
def _encoder() -> Ge2e:
    return Ge2e.load()
