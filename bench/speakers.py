"""How often is a recording of two people noticed, and one of one person taken for it?

    OMP_NUM_THREADS=1 python -m bench.speakers [--speech DIR] [--draws 300] [--seed 7]

DIR holds recordings named `<speaker>-...flac` (LibriSpeech), by default ../shared/speech. Three
kinds in turn: an utterance of one person; two utterances of one person spliced; two of two people.
Spliced ones are 6, 8 or 10 s long with a pause of 0.2 s; a fifth, a third or half is the second.
Prints one JSON document: of each kind the share that falls under each similarity, and the processor
time of each.
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
from core.speech.reference import prepare

AT = (0.70, 0.72, 0.74, 0.76)


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
        sys.exit(f"No recordings of two speakers under {options.speech}: name others by --speech.")
    draw = random.Random(options.seed)
    found: dict[str, list[float]] = defaultdict(list)
    begun = time.process_time()
    for number in range(options.draws):
        kind = ("one utterance", "one person", "two people")[number % 3]
        found[kind].append(speaker_change.lowest_similarity(recording(kind, by_speaker, draw)))
    spent = time.process_time() - begun
    table = {
        kind: {"count": len(figures)}
        | {f"below {limit}": round(float(np.mean(np.array(figures) < limit)), 3) for limit in AT}
        for kind, figures in found.items()
    }
    print(json.dumps(table | {"ms_each": round(1000 * spent / options.draws)}, indent=2))
    return 0


def recording(kind: str, by_speaker: dict[str, list[Audio]], draw: random.Random) -> Audio:
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
