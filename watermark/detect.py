"""Detect the mark and read its payload: in a clip, in several clips, in hours of audio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark import cells, coding, search
from watermark.embed import check_rate, check_samples
from watermark.layout import PERIOD, SLOT_S
from watermark.receiver import DETECTION_THRESHOLD, Alignment, Hypothesis, Receiver, make_receiver

Floats = NDArray[np.float32]

DETECTOR = 1
"""Increment when marks may be found that were not found before."""
LONG_CLIP_S = 24.0
"""Longer audio is read in windows, because the mark changes its position every segment."""
WINDOW_S, HOP_S = 16.0, 12.0
SCAN_WINDOW_S, SCAN_HOP_S = 6.0, 3.0


@dataclass(frozen=True, slots=True)
class Detection:
    """The result of a detection."""

    score: float
    """-log10 of a proven bound on the probability that unmarked audio scores as high."""
    payload: int | None
    """The 32 bits, if they could be decoded and score >= DETECTION_THRESHOLD."""
    start: float = 0.0
    """Seconds from the beginning of the audio to the first evidence of the mark ..."""
    end: float = 0.0
    """... and to the last. Both are 0 if nothing was detected."""
    tempo: float = 1.0
    """Factor by which the audio is too fast."""
    pitch: float = 1.0
    """Factor by which its frequencies are too high."""
    pieces: int = 1
    """Number of stretches of the original, more than 1 if it was cut and joined."""
    key_id: str = ""

    @property
    def marked(self) -> bool:
        """True if the mark was detected; false positives are at most one clip in a million."""
        return self.score >= DETECTION_THRESHOLD


def detect(samples: Floats, rate: int, key: bytes, *, thorough: bool = True) -> Detection:
    """Detect the mark of one key and read its payload.

    samples: mono, (n,), float; rate in Hz. `thorough` also searches cut audio and changes of speed,
    tempo or pitch up to 11 %, at ten times the cost if no mark is found. Audio that is too short
    scores 0. Raises ValueError for other input or a malformed key.
    """
    return detect_any(samples, rate, {"": key}, thorough=thorough)


def detect_any(
    samples: Floats, rate: int, keys: Mapping[str, bytes], *, thorough: bool = True
) -> Detection:
    """Detect the mark of any of several keys, as after a key rotation; key_id names the key."""
    receivers = {key_id: make_receiver(key) for key_id, key in keys.items()}
    return _detect(check_samples(samples), rate, receivers, thorough=thorough)


def verify(
    samples: Floats, rate: int, payload: int, key: bytes, *, thorough: bool = True
) -> Detection:
    """Detect one known payload, with a bound of its own. Nothing has to be decoded, so that weaker
    marks are found than by `detect`."""
    receiver = make_receiver(key).with_payload(payload)
    return _detect(check_samples(samples), rate, {"": receiver}, thorough=thorough)


def _detect(
    samples: Floats, rate: int, receivers: Mapping[str, Receiver], *, thorough: bool
) -> Detection:
    """Return the best detection over windows and keys: all fast searches first, then thorough."""
    starts = [0]
    size = len(samples)
    if size > LONG_CLIP_S * check_rate(rate):
        size = int(WINDOW_S * rate)
        starts = list(range(0, len(samples) - size // 2, int(HOP_S * rate)))
    cost = math.log(max(len(receivers) * len(starts), 1))
    best = Detection(0.0, None)
    found: dict[tuple[int, str], Hypothesis] = {}

    @lru_cache(maxsize=1)  # a short clip, of one window, is transformed once
    def spectrogram_at(start: int) -> cells.Spectrogram:
        return cells.compute_spectrogram(samples[start : start + size], rate)

    for _ in range(1 + thorough):
        for start in starts:
            spectrogram = spectrogram_at(start)
            for key_id, receiver in receivers.items():
                unchanged = found.get((start, key_id))
                if unchanged is None:
                    hypothesis = search.find_unchanged(receiver, spectrogram, cost=cost)
                else:
                    hypothesis = search.find_changed(receiver, spectrogram, unchanged, cost=cost)
                found[start, key_id] = hypothesis
                detection = _to_detection(receiver, hypothesis, key_id, start / rate)
                best = max(best, detection, key=_rank)
        if best.payload is not None:
            break
    return best


def _rank(detection: Detection) -> tuple[bool, float]:
    return detection.payload is not None, detection.score


def _to_detection(
    receiver: Receiver, hypothesis: Hypothesis, key_id: str, offset: float
) -> Detection:
    alignment = hypothesis.alignment
    if alignment is None or hypothesis.score < DETECTION_THRESHOLD:
        return Detection(hypothesis.score, None, key_id=key_id)
    start, end = _find_extent(receiver, alignment, hypothesis.payload)
    return Detection(
        score=hypothesis.score,
        payload=hypothesis.payload,
        start=offset + start * SLOT_S / alignment.warp.tempo,
        end=offset + end * SLOT_S / alignment.warp.tempo,
        tempo=alignment.warp.tempo,
        pitch=alignment.warp.pitch,
        pieces=len(alignment.stretches),
        key_id=key_id,
    )


def _find_extent(receiver: Receiver, alignment: Alignment, payload: int | None) -> tuple[int, int]:
    """Return the first slot, and the end of the last, around which one second of audio correlates
    with the mark."""
    codeword = np.zeros(coding.CODED_BITS + 1, np.float32)
    codeword[-1] = 1
    if payload is not None:
        codeword[:-1] = coding.encode(payload)
    inner, energy = [], []
    for soft, start in alignment.stretches:
        at = (start + np.arange(soft.shape[1])) % PERIOD
        weight = codeword[receiver.bit_index[:, at]]
        inner.append((soft * weight * receiver.chips[:, at]).sum(axis=0))
        energy.append((soft * soft * weight * weight).sum(axis=0))
    second = np.ones(round(1 / SLOT_S))
    spread = np.sqrt(np.convolve(np.concatenate(energy), second, "same") + 1e-12)
    z = np.convolve(np.concatenate(inner), second, "same") / spread
    strong = np.flatnonzero(z > max(2.5, 0.3 * float(z.max())))
    return int(strong[0]), int(strong[-1]) + 1


def detect_joint(
    clips: Sequence[tuple[Floats, int]], key: bytes, *, thorough: bool = True
) -> Detection:
    """Read one payload from several clips of one item that may be too weak individually.

    clips: pairs of samples and rate; some of them may be unmarked. `start` and `end` of the result
    are 0.
    """
    receiver = make_receiver(key)
    spectrograms = [
        cells.compute_spectrogram(check_samples(samples), check_rate(rate))
        for samples, rate in clips
    ]
    hypothesis = search.find_joint(receiver, spectrograms, thorough=thorough)
    return replace(_to_detection(receiver, hypothesis, "", 0.0), start=0.0, end=0.0)


def scan(
    blocks: Iterable[Floats], rate: int, keys: Mapping[str, bytes], *, thorough: bool = False
) -> Iterator[tuple[float, float, Detection]]:
    """Yield every marked stretch of a stream in order: (start, end, its strongest detection).

    blocks: successive samples, (n,) each, of any lengths; one window of 6 s is held in memory.
    Successive windows with the same key and payload become one stretch. The bound of a score holds
    per window: at most one in eighty unmarked streams of ten hours yields a detection.
    """
    receivers = {key_id: make_receiver(key) for key_id, key in keys.items()}
    open_runs: dict[tuple[str, int | None], Detection] = {}
    for at, window in _overlapping_windows(blocks, rate):
        detection = _detect(window, rate, receivers, thorough=thorough)
        begin = at / rate
        for label in [label for label, run in open_runs.items() if run.end < begin]:
            run = open_runs.pop(label)
            yield run.start, run.end, run
        if detection.marked:
            end = detection.end + begin
            detection = replace(detection, start=detection.start + begin, end=end)
            label = detection.key_id, detection.payload
            run = open_runs.get(label, detection)
            strongest = max(detection, run, key=lambda either: either.score)
            open_runs[label] = replace(strongest, start=run.start, end=max(run.end, end))
    for run in open_runs.values():
        yield run.start, run.end, run


def _overlapping_windows(blocks: Iterable[Floats], rate: int) -> Iterator[tuple[int, Floats]]:
    """Yield overlapping windows with the index of their first sample; the last may be short."""
    size, hop = int(SCAN_WINDOW_S * rate), int(SCAN_HOP_S * rate)
    buffer = np.zeros(0, np.float32)
    at = 0
    for block in blocks:
        buffer = np.concatenate([buffer, check_samples(block)])
        while len(buffer) >= size:
            yield at, buffer[:size]
            buffer = buffer[hop:]
            at += hop
    if at == 0 or len(buffer) > size - hop:
        yield at, buffer
