"""Measure the error rates of the speaker change detector.

    OMP_NUM_THREADS=1 python -m bench.speakers [--speech DIR] [--draws 300] [--seed 7]

DIR contains recordings named `<speaker>-...flac` (LibriSpeech), by default ../shared/speech. Three
kinds of recording take turns: one utterance, two spliced utterances of one person, and two of two
people. Spliced recordings last 6, 8 or 10 s with a pause of 0.2 s; the second utterance is a fifth,
a third or half of them. Prints a JSON document with the share of each kind below each threshold and
the CPU time per recording.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np

from core.audio.waveform import Audio, join
from core.errors import Refused
from core.speech import speaker_change
from core.speech.preparation import mel_of_speech
from core.speech.reference import prepare

THRESHOLDS = (0.70, 0.72, 0.74, 0.76)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speakers", description=__doc__)
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech"))
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    by_speaker: dict[str, list[Audio]] = defaultdict(list)
    for path in sorted(options.speech.rglob("*.flac")):
        with suppress(Refused):  # too short
            audio = prepare(path.read_bytes(), path.name).audio
            by_speaker[path.name.partition("-")[0]].append(audio)
    if len(by_speaker) < 2:
        sys.exit(f"No recordings of two speakers in {options.speech}: set --speech DIR.")
    draw = random.Random(options.seed)
    similarities: dict[str, list[float]] = defaultdict(list)
    start = time.process_time()
    for number in range(options.draws):
        kind = ("one utterance", "one person", "two people")[number % 3]
        audio = draw_recording(kind, by_speaker, draw)
        similarities[kind].append(speaker_change.lowest_similarity(mel_of_speech(audio)))
    spent = time.process_time() - start
    table = {
        kind: {"count": len(figures)}
        | {f"below {t}": round(float(np.mean(np.array(figures) < t)), 3) for t in THRESHOLDS}
        for kind, figures in similarities.items()
    }
    print(json.dumps(table | {"ms_each": round(1000 * spent / options.draws)}, indent=2))
    return 0


def draw_recording(kind: str, by_speaker: dict[str, list[Audio]], draw: random.Random) -> Audio:
    if kind == "one utterance":
        return draw.choice([one for all_ in by_speaker.values() for one in all_])
    if kind == "one person":
        one, other = draw.sample(draw.choice([a for a in by_speaker.values() if len(a) > 1]), 2)
    else:
        one, other = (draw.choice(by_speaker[who]) for who in draw.sample([*by_speaker], 2))
    seconds, share = draw.choice((6, 8, 10)), draw.choice((1 / 5, 1 / 3, 1 / 2))
    return join([cut(one, seconds * (1 - share)), cut(other, seconds * share)], 0.2)


def cut(audio: Audio, seconds: float) -> Audio:
    return Audio(audio.samples[: round(seconds * audio.rate)], audio.rate)


if __name__ == "__main__":
    sys.exit(main())
