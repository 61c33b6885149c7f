"""Analyses a reference recording: semantic tokens for T2S, timbre for SoVITS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples
from core.errors import Refused
from core.speech.filter_bank import kaldi_bands
from core.voice.gpt_sovits import features
from core.voice.gpt_sovits.bundle import Bundle

Float = NDArray[np.float32]
Ids = NDArray[np.int64]

MIN_SECONDS, MAX_SECONDS = 3.0, 10.0


def semantic_tokens(bundle: Bundle, reference: Audio) -> Ids:
    """Return the semantic tokens (n,) of the recording, 25 a second.

    Raises Refused AUDIO_TOO_SHORT or AUDIO_TOO_LONG outside 3 to 10 s, the lengths that T2S was
    trained with.
    """
    if reference.seconds < MIN_SECONDS:
        raise Refused(
            "AUDIO_TOO_SHORT", f"The reference has {reference.seconds:.1f} s: send 3 to 10 s."
        )
    if reference.seconds > MAX_SECONDS:
        raise Refused(
            "AUDIO_TOO_LONG", f"The reference has {reference.seconds:.1f} s: cut it to 10 s."
        )
    wave = features.hubert_input(reference.samples, reference.rate)
    return np.asarray(bundle.run("ssl", ["codes"], {"wave": wave})[0])


def mean_timbre(bundle: Bundle, references: Sequence[Audio]) -> Float:
    """Return the mean timbre (1, gin, 1) of recordings of any length."""
    each = [_timbre_of(bundle, audio) for audio in references]
    return np.asarray(np.mean(each, axis=0, dtype=np.float32))


def _timbre_of(bundle: Bundle, audio: Audio) -> Float:
    spec = bundle.spec
    samples = prepare(bundle, audio)
    if len(samples) < spec.window:
        raise Refused("AUDIO_TOO_SHORT", "An auxiliary recording is too short: send 0.1 s or more.")
    spectrogram = features.spectrogram(samples, spec.window, spec.hop)
    inputs = {"spectrogram": np.ascontiguousarray(spectrogram[:, : spec.bins])}
    if spec.speaker:
        inputs["speaker"] = speaker_embedding(bundle, samples)
    return np.asarray(bundle.run("timbre", ["timbre"], inputs)[0])


def prepare(bundle: Bundle, audio: Audio) -> Samples:
    """Resample to the bundle's rate and limit the peak."""
    return features.limit_peak(features.resample_sinc(audio.samples, audio.rate, bundle.spec.rate))


def speaker_embedding(bundle: Bundle, samples: Float) -> Float:
    """Return the speaker embedding (1, size) of samples at the bundle's rate."""
    wave = features.resample_sinc(samples, bundle.spec.rate, features.HUBERT_RATE)
    return np.asarray(bundle.run("speaker", ["speaker"], {"fbank": kaldi_bands(wave)[None]})[0])
