"""Measure whether the mark changes what a recogniser transcribes or the speaker similarity.

    python -m bench.watermark_identity [--clips 8] [--audio ../shared/speech/test-other]

Per treatment: the words that a recogniser transcribes differently from the untouched clip, and the
similarity to another utterance of the same speaker by both speaker encoders. An MP3 of 64 kbit/s is
included for comparison.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

import watermark
from bench.attacks import ATTACKS, Attack
from core.audio.waveform import Audio
from core.speech import encoders as speaker
from core.speech import recognise

KEY = bytes(range(32))
SECONDS = 8


def read_pairs(folder: Path, count: int) -> list[tuple[Audio, Audio]]:
    """Return pairs of a clip and another utterance of its speaker, one per speaker in turn."""
    speakers = [sorted(path.glob("*.flac")) for path in sorted(folder.iterdir()) if path.is_dir()]
    if not speakers:
        sys.exit(f"no speech in {folder}: pass a folder with one folder per speaker with --audio")
    pairs = [(files[2 * n], files[2 * n + 1]) for n in range(4) for files in speakers]
    return [(_read(first), _read(second)) for first, second in pairs[:count]]


def _read(path: Path) -> Audio:
    samples, rate = soundfile.read(path, dtype="float32")
    return Audio(samples[: SECONDS * rate], rate)


def _marker(strength: float) -> Attack:
    return lambda samples, rate: watermark.embed(samples, rate, 1, KEY, strength=strength)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", type=Path, default=Path("../shared/speech/test-other"))
    parser.add_argument("--clips", type=int, default=8)
    options = parser.parse_args()
    recogniser = recognise.Recogniser.load()
    encoders: list[speaker.Encoder] = [speaker.Ge2e.load(), speaker.CamPlus.load()]
    pairs = read_pairs(options.audio, options.clips)
    reference_texts = [recogniser.transcribe(clip, "en") for clip, _ in pairs]
    others = [[encoder.embed(other) for _, other in pairs] for encoder in encoders]
    treatments = {"untouched": ATTACKS["none"], "mp3 64k": ATTACKS["mp3 64k"]}
    treatments |= {f"mark {strength} dB": _marker(strength) for strength in (1.6, 2.2, 2.8)}
    print("| treatment | words changed, % | similarity GE2E | CAM++ |\n|---|---|---|---|")
    for name, treat in treatments.items():
        clips = [Audio(treat(clip.samples, clip.rate), clip.rate) for clip, _ in pairs]
        texts = [recogniser.transcribe(clip, "en") for clip in clips]
        changed = 100 * recognise.error_rate(" ".join(reference_texts), " ".join(texts), "en")
        similarities = [
            np.mean(
                [speaker.cosine_similarity(e.embed(c), o) for c, o in zip(clips, row, strict=True)]
            )
            for e, row in zip(encoders, others, strict=True)
        ]
        ge2e, cam = similarities
        print(f"| {name} | {changed:.1f} | {ge2e:.3f} | {cam:.3f} |", flush=True)


if __name__ == "__main__":
    main()
