"""Measure which steps of preparing a reference recording help.

For each step on and off: the speaker similarity of the prepared reference to other utterances of
the same person, and its difference from the similarity to other people (the lead).

    python -m bench.reference [--speech DIR] [--per-speaker 4]

DIR contains a folder for each speaker with recordings of at least three seconds (LibriSpeech); by
default ../shared/speech/test-other.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples, resample
from core.speech.encoders import CamPlus, Ge2e
from core.speech.preparation import normalise_peak
from core.speech.reference import PREPARATIONS, Steps, prepare

NOTHING = Steps(window=True, trim=False, loudness=None)
CHAINS = {
    "nothing": NOTHING,
    "trim": replace(NOTHING, trim=True),
    "resample to 16 kHz": replace(NOTHING, resample=True),
    "level to 0.9": replace(NOTHING, level=0.9),
    "loudness of -26 LUFS": replace(NOTHING, loudness=-26.0),
    "compress": replace(NOTHING, compress=True),
    "0.5 s of silence": replace(NOTHING, pad=True),
    "the article's chain": PREPARATIONS["article"],
    "defaults": PREPARATIONS["best"],
}
Change = Callable[[Samples, np.random.Generator], Samples]


class Encoder(Protocol):
    def embed(self, audio: Audio) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class Take:
    speaker: str
    samples: Samples
    rate: int


def pink(count: int, rng: np.random.Generator) -> Samples:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), count)
    return np.asarray(noise / noise.std(), np.float32)


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def quiet(x: Samples, rng: np.random.Generator) -> Samples:
    stepped = np.round(x * 0.01 / np.abs(x).max() * 32_768)
    return np.asarray(stepped / 32_768, np.float32)


def noisy(x: Samples, rng: np.random.Generator) -> Samples:
    y = x + pink(len(x), rng) * rms(x) * 10 ** (-10 / 20)
    return np.asarray(0.5 * y / np.abs(y).max(), np.float32)


def clipped(x: Samples, rng: np.random.Generator) -> Samples:
    limit = np.quantile(np.abs(x), 0.993)
    return np.clip(x, -limit, limit)


def telephone(x: Samples, rng: np.random.Generator) -> Samples:
    return resample(resample(Audio(x, 16_000), 8_000), 16_000).samples[: len(x)]


def late(x: Samples, rng: np.random.Generator) -> Samples:
    """Add two seconds of room noise before and after the speech."""
    room = pink(64_000, rng) * rms(x) * np.float32(10 ** (-35 / 20))
    return np.concatenate([room[:32_000], x, room[32_000:]])


CONDITIONS: dict[str, Change] = {
    "clean": lambda x, rng: x,
    "quiet (-40 dB, 16 bit)": quiet,
    "noisy (10 dB, pink)": noisy,
    "clipped (0.7 %)": clipped,
    "telephone (8 kHz)": telephone,
    "late (2 s of room)": late,
}


def takes(root: Path, least: float) -> Iterator[Take]:
    for path in sorted(root.glob("*/*.flac")):
        samples, rate = soundfile.read(path, dtype="float32")
        if len(samples) >= least * rate:
            yield Take(path.parent.name, samples, rate)


def wav(samples: Samples, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


class Comparison:
    """Compares audio with all clean takes, whose embeddings are computed once."""

    def __init__(self, encoder: Encoder, pool: list[Take]) -> None:
        self.encoder = encoder
        self.pool = pool
        # At random levels, like recordings from different days.
        peaks = 10 ** (-np.random.default_rng(0).uniform(1, 20, len(pool)) / 20)
        known = [
            normalise_peak(Audio(t.samples, t.rate), p) for t, p in zip(pool, peaks, strict=True)
        ]
        self.known = np.stack([encoder.embed(audio) for audio in known])

    def __call__(self, audio: Audio, *included: Take) -> tuple[float, float]:
        """Return the mean similarity to the speaker's takes that are not in the audio, and its lead
        over that to other speakers."""
        similarities = self.known @ self.encoder.embed(audio)
        speaker = included[0].speaker
        pairs = list(zip(similarities, self.pool, strict=True))
        same = [s for s, t in pairs if t.speaker == speaker and t not in included]
        other = [s for s, t in pairs if t.speaker != speaker]
        return float(np.mean(same)), float(np.mean(same) - np.mean(other))


def compare_chains(comparisons: dict[str, Comparison], chosen: list[Take]) -> None:
    print("| recording | steps | " + " | ".join(f"{j} same | {j} lead" for j in comparisons) + " |")
    print("|---|---|" + "---|" * (2 * len(comparisons)))
    for condition, change in CONDITIONS.items():
        for name, steps in CHAINS.items():
            scores: dict[str, list[tuple[float, float]]] = {j: [] for j in comparisons}
            for i, take in enumerate(chosen):
                data = wav(change(take.samples, np.random.default_rng(i)), take.rate)
                audio = prepare(data, "bench.wav", steps).audio
                for j, compare in comparisons.items():
                    scores[j].append(compare(audio, take))
            cells = (f"{v:.3f}" for j in comparisons for v in np.mean(scores[j], axis=0))
            print(f"| {condition} | {name} | " + " | ".join(cells) + " |", flush=True)


def compare_windows(comparisons: dict[str, Comparison], pool: list[Take]) -> None:
    """Compare ways to choose ten seconds of six seconds of hiss, an utterance, two seconds of hiss
    and two more utterances."""
    print("\n| long recording | " + " | ".join(f"{j} same | {j} lead" for j in comparisons) + " |")
    print("|---|" + "---|" * (2 * len(comparisons)))
    rows: dict[str, list[list[tuple[float, float]]]] = {}
    for i, speaker in enumerate(sorted({t.speaker for t in pool})):
        own = [t for t in pool if t.speaker == speaker]
        rng = np.random.default_rng(i)
        hiss = pink(16_000 * 8, rng) * np.float32(0.02)
        parts = [hiss[:96_000], own[0].samples, hiss[96_000:], own[1].samples, own[2].samples]
        whole = np.concatenate(parts).astype(np.float32)
        rate = own[0].rate
        middle = len(whole) // 2
        pieces = {
            "first ten seconds": Audio(whole[: 10 * rate], rate),
            "middle ten seconds": Audio(whole[middle - 5 * rate : middle + 5 * rate], rate),
            "best window (defaults)": prepare(wav(whole, rate), "bench.wav").audio,
        }
        for name, audio in pieces.items():
            rows.setdefault(name, []).append(
                [compare(audio, *own[:3]) for compare in comparisons.values()]
            )
    for name, scores in rows.items():
        cells = (f"{v:.3f}" for v in np.mean(scores, axis=0).ravel())
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech/test-other"))
    parser.add_argument("--per-speaker", type=int, default=4)
    options = parser.parse_args()
    pool = list(takes(options.speech, 3.2))
    if not pool:
        sys.exit(f"No recordings in {options.speech}: set --speech DIR.")
    comparisons = {"GE2E": Comparison(Ge2e.load(), pool), "CAM++": Comparison(CamPlus.load(), pool)}
    short = [t for t in pool if len(t.samples) <= 9.9 * t.rate]
    speakers = sorted({t.speaker for t in short})
    chosen = [
        t for s in speakers for t in [u for u in short if u.speaker == s][: options.per_speaker]
    ]
    print(f"{len(chosen)} recordings of {len(speakers)} speakers against {len(pool)} utterances\n")
    compare_chains(comparisons, chosen)
    compare_windows(comparisons, pool)


if __name__ == "__main__":
    main()
