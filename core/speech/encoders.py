"""Speaker embeddings and their similarity.

There are two encoders because they make different errors. Thresholds and means are valid only for
the exact front ends below (no voice activity detector). They were measured on LibriSpeech, read
speech in one session for each speaker: 450 same-speaker pairs of test-other, impostors from
test-other and from 251 speakers of train-clean-100.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from core import inference
from core.audio.waveform import Audio, Samples, resample
from core.speech import filter_bank

if TYPE_CHECKING:
    import onnxruntime as ort

Embedding = NDArray[np.float32]
"""A speaker embedding of unit length."""

RATE = filter_bank.RATE
GE2E_BANDS = 40


class Encoder(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float:
        """Similarity above which two real recordings count as one person; at this threshold the
        false-positive and false-negative rates are equal (equal error rate)."""
        ...

    @property
    def same_person(self) -> float:
        """Mean similarity of two recordings of the same person."""
        ...

    def embed(self, audio: Audio) -> Embedding:
        """Return the embedding of at least half a second of mono speech at any rate, without long
        silences."""
        ...


def cosine_similarity(a: Embedding, b: Embedding) -> float:
    """Return the cosine of two embeddings, -1..1."""
    return float(a @ b)


@dataclass(frozen=True, slots=True)
class Ge2e:
    """Generalised end-to-end d-vectors (Wan et al. 2018), weights of resemble-ai/Resemblyzer."""

    session: ort.InferenceSession = field(repr=False)
    name: str = "ge2e"
    threshold: float = 0.755
    same_person: float = 0.887

    @classmethod
    def load(cls, *, threads: int = 1) -> Ge2e:
        return cls(_session("ge2e.onnx", threads))

    def embed(self, audio: Audio) -> Embedding:
        return to_unit_length(self.embed_windows(audio).mean(axis=0))

    def embed_windows(self, audio: Audio, step_s: float = 0.77) -> NDArray[np.float32]:
        """Return embeddings of windows of 1.6 s, one every `step_s` seconds, shape (n, 256)."""
        samples = raise_level(resample(audio, RATE).samples)
        return self.embed_mel(filter_bank.slaney_bands(np.pad(samples, 200), GE2E_BANDS), step_s)

    def embed_mel(self, mel: NDArray[np.floating], step_s: float = 0.77) -> NDArray[np.float32]:
        """Do the same with features (frames, 40), as `core.speech.preparation` computes them."""
        windows = _windows(np.asarray(mel, np.float32), step=round(step_s * 100))
        (parts,) = self.session.run(None, {"mel": windows})
        return np.asarray(parts)


@dataclass(frozen=True, slots=True)
class CamPlus:
    """CAM++ (Wang et al. 2023), the Chinese and English weights of alibaba-damo 3D-Speaker."""

    session: ort.InferenceSession = field(repr=False)
    name: str = "campplus"
    threshold: float = 0.580
    same_person: float = 0.824

    @classmethod
    def load(cls, *, threads: int = 1) -> CamPlus:
        return cls(_session("campplus.onnx", threads))

    def embed(self, audio: Audio) -> Embedding:
        (out,) = self.session.run(None, {"feat": _fbank80(resample(audio, RATE).samples)[None]})
        return to_unit_length(out[0])


def _session(name: str, threads: int) -> ort.InferenceSession:
    # Inference takes milliseconds; copying to a GPU and back would take longer.
    return inference.open_session(
        Path(__file__).parent / "data" / name, threads=threads, cpu_only=True
    )


def to_unit_length(vector: NDArray[np.float32]) -> Embedding:
    """Scale a vector to unit length."""
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def raise_level(samples: Samples, decibels: float = -30.0) -> Samples:
    """Scale speech up to a mean power in dB, as the training data of GE2E; keep louder speech."""
    level = 10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-20)
    gain = 10 ** (max(0.0, decibels - level) / 20)
    return np.asarray(samples * gain, np.float32)


def _windows(mel: NDArray[np.float32], size: int = 160, step: int = 77) -> NDArray[np.float32]:
    """Return overlapping windows of 1.6 s, shape (n, 160, 40), of a mel spectrogram with a frame
    every 10 ms. A last window less than 3/4 full is dropped unless it is the only one."""
    frames = len(mel)
    starts = list(range(0, max(1, frames - size + step + 1), step))
    if len(starts) > 1 and frames - 1 - starts[-1] < 0.75 * size:
        starts.pop()
    short = starts[-1] + size - frames
    padded = np.pad(mel, ((0, max(0, short)), (0, 0)))
    return np.stack([padded[start : start + size] for start in starts])


def _fbank80(samples: Samples) -> NDArray[np.float32]:
    """Return Kaldi's log-mel filter bank less the mean of each band, shape (frames, 80)."""
    bands = filter_bank.kaldi_bands(samples.astype(np.float64))
    return np.asarray(bands - bands.mean(axis=0), np.float32)
