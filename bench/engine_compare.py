"""Our engine and genie-tts in turn, on the same weights and for the same numbers of tokens.

    python bench/engine_compare.py BUNDLE... --genie PYTHON MODEL [--tokens 150] [--rounds 3]

PYTHON and MODEL as `bench/engine_genie.py` sets them up; a bundle of each precision, converted from
the same checkpoints. Every round starts a process of each, one after the other, so that what a busy
or slow machine does to one it does to the other. The table holds medians: of CPU time on one
thread, of the clock on several. genie-tts has no batches and speaks no sooner than a sentence is
finished, so its figures for those lines are those of one sentence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import engine
from core.audio.waveform import Audio
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import Sampling
from core.voice.gpt_sovits.speech_run import Line, Pools, Prompt, SpeechRun
from core.voice.gpt_sovits.t2s import Decoder, Sentence

HERE = Path(__file__).parent
LINES = (
    ("step", "T2S, ms a token, one row", 1e3),
    ("step8", "T2S, ms a token, eight rows", 1e3),
    ("sentence", "one sentence, s", 1),
    ("text", "many sentences, s each", 1),
    ("first", "first sound, s", 1),
    ("load", "load, s", 1),
    ("peak", "peak memory, MB", 1),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--genie", type=Path, nargs=2, help="its Python and its converted model")
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=8, help="of the long text")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not args.genie:
        for folder in args.bundles:
            print(json.dumps(once(folder, args.threads, args.tokens, args.sentences)))
        return 0
    how = ["--threads", args.threads, "--tokens", args.tokens]
    python, model = args.genie
    commands = {"genie-tts": [python, HERE / "engine_genie.py", "run", model, *how]}
    for one in args.bundles:
        command = [sys.executable, __file__, one, "--sentences", args.sentences, *how]
        commands[one.name] = command
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for number in range(args.rounds):
        for name, command in commands.items():
            found[name].append(told(command))
            print(f"round {number + 1}, {name}: {found[name][-1]}", file=sys.stderr)
    print(table({name: medians(runs) for name, runs in found.items()}))
    return 0


class Deaf(Guard):
    """Random weights say nonsense, and forced rows do not end."""

    def tokens(self, tokens: Sequence[int], phones: int, *, ended: bool) -> str:
        return ""

    def sound(self, audio: Audio) -> str:
        return ""


class Forced(SpeechRun):
    def sentence(self, line: Line, seed: tuple[int, ...]) -> Sentence:
        drawn = engine.sentence(self.bundle.spec, seed[0], self.how.limit)
        return replace(drawn, phones=line.read)


def once(folder: Path, threads: int, tokens: int, sentences: int) -> dict[str, float]:
    """Everything that is measured of one bundle, in this process."""
    clock = time.process_time if threads == 1 else time.perf_counter
    found: dict[str, float] = {}

    @contextmanager
    def timing(name: str, share: int = 1, clock: Callable[[], float] = clock) -> Iterator[None]:
        start = clock()
        yield
        found[name] = (clock() - start) / share

    bundle = Bundle(folder, threads=threads, cpu_only=True)
    with timing("load", clock=time.perf_counter):
        for graph in ("prefill", bundle.step, "encode", "flow", "vocoder"):
            bundle.session(graph)
    speech_run, line = forced(bundle, threads, tokens)
    with timing("sentence"):
        list(speech_run.utter([line], rows=8, speed=1, seed=0))
    found["peak"] = engine.peak()
    with timing("first"):
        next(speech_run.stream(line, speed=1, seed=(0,)))
    for name, rows in (("step", 1), ("step8", 8)):
        decoder = Decoder(bundle, rows=rows)
        waiting = deque((i, speech_run.sentence(line, (i,))) for i in range(rows))
        steps = decoder.steps(waiting)
        next(steps)
        with timing(name, rows * (tokens - 1)):
            list(steps)
    with timing("text", sentences):
        list(speech_run.utter([line] * sentences, rows=8, speed=1, seed=0))
    return found


def forced(bundle: Bundle, threads: int, tokens: int) -> tuple[Forced, Line]:
    said = engine.sentence(bundle.spec, 0, tokens)
    own = said.phones[engine.PROMPT_PHONES :]
    # Drawn, in the official width: what encoders of a reference take is counted on neither side.
    width = 1024 if "speaker.onnx" in bundle.spec.parts else 512
    timbre = 0.1 * np.random.default_rng(0).standard_normal((1, width, 1), np.float32)
    prompt = Prompt(timbre, said.prompt, said.phones[: engine.PROMPT_PHONES], said.bert)
    how = Sampling(limit=tokens)
    speech_run = Forced(bundle, Pools(threads), how, Deaf(), prompt)
    return speech_run, Line(own, said.phones, said.bert, "", "en")


def told(command: list[object]) -> dict[str, float]:
    """The last line that a run prints, JSON."""
    words = [str(word) for word in command]
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown: a line a figure, and how many times better than genie-tts."""
    base = found["genie-tts"]
    rows = [["", *found], ["---"] * (len(found) + 1)]
    for key, title, unit in LINES:
        cells = [f"{base[key] * unit:.4g}"]
        for name in list(found)[1:]:
            value = found[name][key]
            cells.append(f"{value * unit:.4g} ({base[key] / value:.2f}x)")
        rows.append([title, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
