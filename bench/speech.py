"""Measure the missed speech and the false positives of the voice activity detector.

    python -m bench.speech [--speech DIR]

DIR contains FLAC recordings of speech at 16 kHz at any depth; by default ../shared/speech. The
other sounds are synthesised here; there are no recordings of music or singing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from bench.reference import noisy, pink, quiet, telephone
from core.audio.waveform import Audio, Samples
from core.speech import activity
from core.speech.preparation import find_speech

RATE = activity.RATE
T = np.arange(8 * RATE) / RATE
SCALE = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)


def white(decibels: float) -> Callable[[Samples, np.random.Generator], Samples]:
    def change(x: Samples, rng: np.random.Generator) -> Samples:
        noise = rng.standard_normal(len(x)) * np.sqrt(np.mean(x**2))
        return np.asarray(x + noise * 10 ** (-decibels / 20), np.float32)

    return change


def reverberant(x: Samples, rng: np.random.Generator) -> Samples:
    tail = 0.1 * rng.standard_normal(8_000) * np.exp(-np.arange(8_000) / 2_000)
    tail[0] = 1
    return np.convolve(x, tail)[: len(x)].astype(np.float32)


CONDITIONS = {
    "clean": lambda x, rng: x,
    "telephone (8 kHz)": telephone,
    "clipped (18 dB over)": lambda x, rng: np.clip(8 * x, -0.9, 0.9),
    "quiet (-40 dB, 16 bit)": quiet,
    "pink noise, 10 dB": noisy,
    "white noise, 10 dB": white(10),
    "white noise, 5 dB": white(5),
    "white noise, 0 dB": white(0),
    "reverberant (0.9 s)": reverberant,
}


def harmonics(hertz: NDArray[np.float64] | float, count: int, roll: float = 1.0) -> Samples:
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, T.shape)) / RATE
    partials = (np.sin(h * phase) / h**roll for h in range(1, count + 1))
    return sum(partials, np.zeros_like(phase)).astype(np.float32)


def notes(voices: int, seconds: float, decay: float, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    shape = np.minimum(1, t * 100) * np.exp(-t / decay)
    played = []
    for _ in range(int(8 / seconds)):
        chord = rng.choice(SCALE, voices, replace=False)
        partials = (np.sin(2 * np.pi * f * h * t) / h for f in chord for h in range(1, 7))
        played.append(sum(partials) * shape)
    return np.concatenate(played).astype(np.float32)


def drums() -> Samples:
    rng = np.random.default_rng(2)
    t = np.arange(3_500) / RATE
    stroke = np.sin(2 * np.pi * 320 * t * np.exp(-6 * t)) * np.exp(-20 * t)
    beats = [stroke + 0.5 * rng.standard_normal(3_500) * np.exp(-60 * t) for _ in range(36)]
    return np.resize(np.concatenate(beats), len(T)).astype(np.float32)


def sounds() -> dict[str, Samples]:
    rng = np.random.default_rng(1)
    white_noise = rng.standard_normal(len(T)).astype(np.float32)
    melody = SCALE[rng.integers(0, 8, 16)].repeat(len(T) // 16)
    piano = notes(3, 0.25, 0.6, seed=3)
    return {
        "white noise": white_noise,
        "pink noise": pink(len(T), rng),
        **{
            f"white noise pulsing at {f} Hz": white_noise * (1 + np.sin(2 * np.pi * f * T))
            for f in (1, 2, 4, 6)
        },
        "pink noise pulsing at 4 Hz": pink(len(T), rng) * (1 + np.sin(2 * np.pi * 4 * T)),
        **{f"hum of {f} Hz": harmonics(f, 11) + 0.01 * white_noise for f in (50, 60, 100, 120)},
        **{f"tone of {f} Hz": harmonics(f, 1) for f in (150, 440, 1_000)},
        "beeps": harmonics(200, 1) * (T % 0.3 < 0.15),
        "sweep": harmonics(100 + 375 * T, 1),
        "siren": harmonics(300 + 150 * np.sin(np.pi * T), 1),
        "fast siren with harmonics": harmonics(200 + 80 * np.sin(6 * np.pi * T), 9),
        "engine": np.tanh(harmonics(45 + 5 * np.sin(0.6 * np.pi * T), 15, 0.0)) + white_noise / 50,
        "clicks": (np.arange(len(T)) % 4_000 == 0).astype(np.float32),
        "struck notes": notes(1, 0.2, 0.4, seed=4),
        "struck chords": piano,
        "violin with vibrato": harmonics(melody * (1 + 0.01 * np.sin(11 * np.pi * T)), 15),
        "drums": drums(),
        "struck chords and drums": piano + drums(),
    }


def detected_seconds(samples: Samples) -> float:
    return find_speech(Audio(samples.astype(np.float32), RATE)).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech"))
    paths = sorted(parser.parse_args().speech.rglob("*.flac"))
    if not paths:
        sys.exit("No recordings found: set --speech DIR.")
    takes = [soundfile.read(path, dtype="float32")[0] for path in paths]
    takes = [take for take in takes if len(take) >= 3 * RATE]
    print("| speech | recordings | missed |\n|---|---|---|")
    start, total = time.process_time(), sum(map(len, takes)) / RATE
    for name, change in CONDITIONS.items():
        changed = (change(x, np.random.default_rng(i)) for i, x in enumerate(takes))
        missed = sum(detected_seconds(samples) == 0 for samples in changed)
        print(f"| {name} | {len(takes)} | {missed} |", flush=True)
    spent = 1e3 * (time.process_time() - start) / len(CONDITIONS) / total
    others = sounds()
    wrong = [name for name, samples in others.items() if detected_seconds(samples)]
    print(f"\nFalse positives among {len(others)} other sounds: {wrong or 'none'}")
    print(f"{spent:.1f} ms of CPU time per second of audio, including the changes")


if __name__ == "__main__":
    main()
