"""Is this the person who speaks in that recording? By two speaker encoders together.

The embedding of a voice depends on the channel as much as on the speaker (GE2E more than CAM++), so
a known recording is described three times: as it is, as over a telephone, and with noise. Each
description has a threshold of its own, because recordings of one channel are similar whoever
speaks. `python -m bench.protected` chooses them and measures the errors (docs/consent.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.audio.waveform import Audio, resample
from core.inference import LoadedOnce
from core.speech.encoders import CamPlus, Embedding, Encoder, Ge2e, cosine_similarity

MATCHER: Final = "ge2e+campplus/1"
"""Version of the encoders, of the descriptions and of the threshold."""
THRESHOLDS: Final = (0.697, 0.777, 0.713)
"""Similarity from which on two recordings count as one person's, for each description of the known
one: chosen by `bench.protected` so that 0.1 % of the comparisons of different people reach one."""
MAX_SECONDS: Final = 10.0
_MIN_SECONDS: Final = 1.6
"""The window of GE2E."""
_TELEPHONE: Final = (8000, (300.0, 3400.0))
"""Sample rate and pass band in Hz (ITU-T G.712)."""
_NOISE_DB: Final = -10.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks in a recording: an embedding by each encoder. It describes a person."""

    ge2e: Embedding
    campplus: Embedding


@LoadedOnce
def load_encoders() -> tuple[Encoder, Encoder]:
    """Return GE2E and CAM++, which are loaded once a process."""
    return Ge2e.load(), CamPlus.load()


def describe_speaker(audio: Audio) -> Speaker:
    """Describe the first ten seconds of mono speech without long silences. What is shorter than a
    window of GE2E is repeated, because the encoders need half a second."""
    samples = audio.samples[: round(MAX_SECONDS * audio.rate)]
    least = round(_MIN_SECONDS * audio.rate)
    speech = Audio(np.resize(samples, least) if len(samples) < least else samples, audio.rate)
    ge2e, campplus = (encoder.embed(speech) for encoder in load_encoders())
    return Speaker(ge2e, campplus)


def describe_known(audio: Audio) -> list[Speaker]:
    """Describe a recording that others will be compared with: as it is, as over a telephone, and
    with noise."""
    return [describe_speaker(version) for version in (audio, _telephone(audio), _noisy(audio))]


def similarity(a: Speaker, b: Speaker) -> float:
    """Return the mean of the cosines by both encoders, -1..1."""
    by_encoder = (a.ge2e, b.ge2e), (a.campplus, b.campplus)
    return sum(cosine_similarity(*pair) for pair in by_encoder) / 2


def is_known(known: Sequence[Speaker], other: Speaker) -> bool:
    """Return whether the person of `describe_known` seems to speak in another recording."""
    return any(
        similarity(one, other) >= least for one, least in zip(known, THRESHOLDS, strict=True)
    )


def _telephone(audio: Audio) -> Audio:
    from scipy import signal

    rate, band = _TELEPHONE
    narrow = signal.butter(4, band, "bandpass", fs=rate, output="sos")
    samples = signal.sosfilt(narrow, resample(audio, rate).samples)
    return Audio(np.asarray(samples, np.float32), rate)


def _noisy(audio: Audio) -> Audio:
    """Add pink noise, always the same."""
    count = len(audio.samples)
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(count))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), count)
    level = audio.samples.std() * 10 ** (_NOISE_DB / 20) / noise.std()
    return Audio(np.asarray(audio.samples + level * noise, np.float32), audio.rate)
