"""Compares our engine with genie-tts, on the same weights and for the same numbers of tokens.

    python bench/engine_compare.py BUNDLE... --genie PYTHON MODEL [--tokens 150] [--rounds 3]

PYTHON and MODEL are set up as `bench/engine_genie.py` says; the bundles are converted from the same
checkpoints, one per precision. Every round starts a process of each in turn, so that a busy machine
slows all of them. The table shows medians: CPU time with one thread, wall time with several.
genie-tts has neither batches nor streaming, so those rows show its figures for one sentence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import engine
from core.audio.waveform import Audio
from core.voice.gpt_sovits.batch import T2SInput
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import Sampling
from core.voice.gpt_sovits.speech_run import Prompt, Sentence, SpeechRun, ThreadPools
from core.voice.gpt_sovits.t2s import Decoder

HERE = Path(__file__).parent
ROWS = (
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
    parser.add_argument(
        "--genie", type=Path, nargs=2, help="Python of its environment, and its converted model"
    )
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=8, help="sentences of the long text")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not args.genie:
        for folder in args.bundles:
            print(json.dumps(measure(folder, args.threads, args.tokens, args.sentences)))
        return 0
    options = ["--threads", args.threads, "--tokens", args.tokens]
    python, model = args.genie
    commands = {"genie-tts": [python, HERE / "engine_genie.py", "run", model, *options]}
    for folder in args.bundles:
        command = [sys.executable, __file__, folder, "--sentences", args.sentences, *options]
        commands[folder.name] = command
    results: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for number in range(args.rounds):
        for name, command in commands.items():
            results[name].append(run(command))
            print(f"round {number + 1}, {name}: {results[name][-1]}", file=sys.stderr)
    print(format_table({name: medians(runs) for name, runs in results.items()}))
    return 0


class NoGuard(Guard):
    """Accepts everything: random weights speak nonsense, and forced rows do not end."""

    def check_tokens(self, tokens: Sequence[int], phones: int, *, ended: bool) -> str:
        return ""

    def check_audio(self, audio: Audio) -> str:
        return ""


class ForcedRun(SpeechRun):
    """Generates a fixed number of tokens for every sentence."""

    def t2s_input(self, sentence: Sentence, seed: tuple[int, ...]) -> T2SInput:
        forced = engine.forced_input(self.bundle.spec, seed[0], self.sampling.limit)
        return replace(forced, phones=sentence.prompted_phones)


def measure(folder: Path, threads: int, tokens: int, sentences: int) -> dict[str, float]:
    """Measure one bundle in this process; seconds, and megabytes of peak memory."""
    clock = time.process_time if threads == 1 else time.perf_counter
    figures: dict[str, float] = {}

    @contextmanager
    def timing(name: str, share: int = 1, clock: Callable[[], float] = clock) -> Iterator[None]:
        start = clock()
        yield
        figures[name] = (clock() - start) / share

    bundle = Bundle(folder, threads=threads, cpu_only=True)
    with timing("load", clock=time.perf_counter):
        for graph in ("prefill", bundle.step_graph, "encode", "flow", "vocoder"):
            bundle.session(graph)
    speech_run, sentence = forced_run(bundle, threads, tokens)
    with timing("sentence"):
        list(speech_run.speak([sentence], speed=1, seed=0))
    figures["peak"] = engine.peak_memory()
    with timing("first"):
        next(speech_run.stream(sentence, speed=1, seed=(0,)))
    for name, rows in (("step", 1), ("step8", 8)):
        inputs = [speech_run.t2s_input(sentence, (i,)) for i in range(rows)]
        figures[name] = engine.measure_t2s(bundle, inputs, clock)[1] / rows
    with timing("text", sentences):
        list(speech_run.speak([sentence] * sentences, speed=1, seed=0))
    return figures


def forced_run(bundle: Bundle, threads: int, tokens: int) -> tuple[ForcedRun, Sentence]:
    forced = engine.forced_input(bundle.spec, 0, tokens)
    own = forced.phones[engine.PROMPT_PHONES :]
    # A random timbre of the official width: the analysis of a reference is not measured.
    width = 1024 if "speaker.onnx" in bundle.spec.parts else 512
    timbre = 0.1 * np.random.default_rng(0).standard_normal((1, width, 1), np.float32)
    prompt = Prompt(timbre, forced.prompt, forced.phones[: engine.PROMPT_PHONES], forced.bert)
    sampling = Sampling(limit=tokens)
    pools = ThreadPools(threads)
    speech_run = ForcedRun(bundle, Decoder(bundle), pools, sampling, NoGuard(), prompt)
    return speech_run, Sentence(own, forced.phones, forced.bert, "", "en")


def run(command: list[object]) -> dict[str, float]:
    """Run a benchmark and parse the JSON of its last line."""
    words = [str(word) for word in command]
    result = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def format_table(results: dict[str, dict[str, float]]) -> str:
    """Format a Markdown table with the ratios to genie-tts."""
    base = results["genie-tts"]
    rows = [["", *results], ["---"] * (len(results) + 1)]
    for key, title, unit in ROWS:
        cells = [f"{base[key] * unit:.4g}"]
        for name in list(results)[1:]:
            value = results[name][key]
            cells.append(f"{value * unit:.4g} ({base[key] / value:.2f}x)")
        rows.append([title, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
