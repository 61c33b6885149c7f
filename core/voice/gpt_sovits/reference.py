"""A reference recording -> what T2S and SoVITS need of it, computed once a voice."""

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


def codes(bundle: Bundle, reference: Audio) -> Ids:
    """Semantic tokens of the recording, 25 a second.

    Refused AUDIO_TOO_SHORT or AUDIO_TOO_LONG outside the 3 to 10 s that T2S was trained with.
    """
    if reference.seconds < MIN_SECONDS:
        raise Refused("AUDIO_TOO_SHORT", f"{reference.seconds:.1f} s: send 3 to 10 s of speech")
    if reference.seconds > MAX_SECONDS:
        raise Refused("AUDIO_TOO_LONG", f"{reference.seconds:.1f} s: cut it to 3 to 10 s")
    wave = features.hubert_wave(reference.samples, reference.rate)
    return np.asarray(bundle.run("ssl", ["codes"], {"wave": wave})[0])


def timbre(bundle: Bundle, references: Sequence[Audio]) -> Float:
    """The mean timbre (1, gin, 1) of one or several recordings of any length."""
    each = [_timbre(bundle, audio) for audio in references]
    return np.asarray(np.mean(each, axis=0, dtype=np.float32))


def _timbre(bundle: Bundle, audio: Audio) -> Float:
    spec = bundle.spec
    samples = prepared(bundle, audio)
    if len(samples) < spec.window:
        raise Refused("AUDIO_TOO_SHORT", "an auxiliary reference of less than a tenth of a second")
    heard = features.spectrogram(samples, spec.window, spec.hop)
    inputs = {"spectrogram": np.ascontiguousarray(heard[:, : spec.bins])}
    if spec.speaker:
        inputs["speaker"] = speaker(bundle, samples)
    return np.asarray(bundle.run("timbre", ["timbre"], inputs)[0])


def prepared(bundle: Bundle, audio: Audio) -> Samples:
    """At the bundle's rate, and not too loud."""
    return features.levelled(features.resampled(audio.samples, audio.rate, bundle.spec.rate))


def speaker(bundle: Bundle, samples: Float) -> Float:
    """Speaker vector (1, size) of samples at the bundle's own rate."""
    wave = features.resampled(samples, bundle.spec.rate, features.HUBERT_RATE)
    return np.asarray(bundle.run("speaker", ["speaker"], {"fbank": kaldi_bands(wave)[None]})[0])
