"""Measures how items of one sentence share the rows of the GPT-SoVITS decoder.

    python -m bench.rows BUNDLE... [--items 64] [--callers 8] [--threads 2] [--rounds 1]

Each round makes the items one after another and with several callers, in turn, and prints seconds
and processor seconds per item, the mean number of rows, and the ratios. The bundles are of full
size, see `bench/engine.py`; the weights are random, so the number of tokens of each sentence is
fixed: 100 to 200, 4 to 8 s of speech.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench import engine
from bench.engine_compare import ForcedRun, forced_run
from core.voice.gpt_sovits.batch import T2SInput
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.speech_run import Sentence
from core.voice.gpt_sovits.t2s import Decoder

SHORTEST, LONGEST = 100, 200


class VariedRun(ForcedRun):
    """Generates a number of tokens that depends on the seed."""

    def t2s_input(self, sentence: Sentence, seed: tuple[int, ...]) -> T2SInput:
        tokens = int(np.random.default_rng(seed[0]).integers(SHORTEST, LONGEST + 1))
        forced = engine.forced_input(self.bundle.spec, seed[0], tokens)
        return replace(forced, phones=sentence.prompted_phones)


@dataclass
class Measured:
    wall: float
    processor: float
    rows: float

    def __str__(self) -> str:
        return (
            f"{self.wall:.2f} s, {self.processor:.2f} processor seconds an item, "
            f"{self.rows:.1f} rows"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    for folder in args.bundles:
        bundle = Bundle(folder, threads=args.threads, cpu_only=True)
        run, sentence = forced_run(bundle, args.threads, LONGEST)
        varied = VariedRun(
            bundle, Decoder(bundle, rows=args.rows), run.pools, run.sampling, run.guard, run.prompt
        )
        measure(varied, sentence, range(2), 1)  # opens the graphs
        for _ in range(args.rounds):
            one, shared = (
                measure(varied, sentence, range(args.items), n) for n in (1, args.callers)
            )
            print(f"{folder.name}, one item after another: {one}")
            print(f"{folder.name}, {args.callers} callers: {shared}")
            print(
                f"{folder.name}: {one.wall / shared.wall:.2f} times as fast, "
                f"{one.processor / shared.processor:.2f} times as many items a processor second",
                flush=True,
            )
    return 0


def measure(run: VariedRun, sentence: Sentence, seeds: Sequence[int], callers: int) -> Measured:
    """Make an item of each seed."""
    decoder = run.decoder
    steps, tokens = decoder.steps, decoder.tokens
    start, before = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda seed: list(run.speak([sentence], speed=1, seed=seed)), seeds))
    wall, processor = time.perf_counter() - start, time.process_time() - before
    rows = (decoder.tokens - tokens) / (decoder.steps - steps)
    return Measured(wall / len(seeds), processor / len(seeds), rows)


if __name__ == "__main__":
    sys.exit(main())
