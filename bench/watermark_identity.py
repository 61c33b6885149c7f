"""Does the mark change what is said or who speaks?

    python -m bench.watermark_identity [--clips 8] [--audio ../shared/speech/test-other]

Per treatment: words that a recogniser hears differently from the untouched clip, and how much the
similarity to another utterance of the same speaker moves, by both speaker encoders. An MP3 of
64 kbit/s stands beside the mark as a change that people accept.
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


def utterances(folder: Path, count: int) -> list[tuple[Audio, Audio]]:
    """A clip and another utterance of its speaker; speakers take turns."""
    speakers = [sorted(path.glob("*.flac")) for path in sorted(folder.iterdir()) if path.is_dir()]
    if not speakers:
        sys.exit(f"no speech under {folder}: name a folder of folders of FLAC files with --audio")
    pairs = [(files[2 * n], files[2 * n + 1]) for n in range(4) for files in speakers]
    return [(_read(first), _read(second)) for first, second in pairs[:count]]


def _read(path: Path) -> Audio:
    samples, rate = soundfile.read(path, dtype="float32")
    return Audio(samples[: SECONDS * rate], rate)


def marked(strength: float) -> Attack:
    return lambda samples, rate: watermark.embed(samples, rate, 1, KEY, strength=strength)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", type=Path, default=Path("../shared/speech/test-other"))
    parser.add_argument("--clips", type=int, default=8)
    options = parser.parse_args()
    recogniser = recognise.Recogniser.load()
    encoders: list[speaker.Encoder] = [speaker.Ge2e.load(), speaker.CamPlus.load()]
    pairs = utterances(options.audio, options.clips)
    heard = [recogniser.transcribe(clip, "en") for clip, _ in pairs]
    others = [[encoder.embed(other) for _, other in pairs] for encoder in encoders]
    treatments = {"untouched": ATTACKS["none"], "mp3 64k": ATTACKS["mp3 64k"]}
    treatments |= {f"mark {strength} dB": marked(strength) for strength in (1.6, 2.2, 2.8)}
    print("| treatment | words heard differently, % | similarity GE2E | CAM++ |\n|---|---|---|---|")
    for name, treat in treatments.items():
        clips = [Audio(treat(clip.samples, clip.rate), clip.rate) for clip, _ in pairs]
        now = [recogniser.transcribe(clip, "en") for clip in clips]
        changed = 100 * recognise.error_rate(" ".join(heard), " ".join(now), "en")
        likeness = [
            np.mean(
                [speaker.cosine_similarity(e.embed(c), o) for c, o in zip(clips, row, strict=True)]
            )
            for e, row in zip(encoders, others, strict=True)
        ]
        print(f"| {name} | {changed:.1f} | {likeness[0]:.3f} | {likeness[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
