"""Measure the speed-up by each edit of the Kokoro graph and by all of them.

    OMP_NUM_THREADS=1 python -m bench.kokoro_graph [--rounds 5] [--operators]

Prints CPU seconds on one thread per second of speech without the silence at its ends. The graphs
run in turn. The first row is the published graph.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx as format_
from numpy.typing import NDArray
from onnx import ModelProto

from core import inference
from core.voice.kokoro import enrol, graph, model, operators, render, styles

SENTENCE = "It is easy to tell the depth of a well when the water is clear."
STEPS: dict[str, tuple[Callable[[ModelProto], None], ...]] = {
    "as published": (),
    "silence cut": (graph.cut_silence,),
    "norms at once": (operators.fuse_norms,),
    "norms and activations": (operators.fuse_norms, operators.fuse_snake_activations),
    "convolutions as products": (operators.convert_convolutions,),
    "all": (
        graph.cut_silence,
        operators.fuse_norms,
        operators.fuse_snake_activations,
        operators.convert_convolutions,
    ),
}


def load_model(steps: tuple[Callable[[ModelProto], None], ...]) -> model.Model:
    edited = format_.load_from_string(model._read_model(None))
    for step in (graph.expose_pitch, *steps, graph.separate_zero_points):
        step(edited)
    return model.Model(inference.open_session(edited.SerializeToString(), threads=1, cpu_only=True))


def by_operator(rounds: int) -> None:
    """Print the CPU seconds per second of speech of each kind of operator in the edited graph."""
    runtime = inference._onnxruntime()
    options = inference._session_options(1)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        edited = graph.prepare(model._read_model(None))
        engine = model.Model(runtime.InferenceSession(edited, options, ["CPUExecutionProvider"]))
        for _ in range(rounds):
            samples, _ = engine.run(*sentence())
        events = json.loads(Path(engine.session.end_profiling()).read_bytes())
    spent: Counter[str] = Counter()
    for event in events:
        if event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 1e6
    seconds = rounds * len(render.trim(samples)) / model.RATE
    for kind, time_taken in spent.most_common(12):
        print(f"{kind:26s} {time_taken / seconds:6.3f}  {time_taken / spent.total():4.0%}")


def sentence() -> tuple[list[int], NDArray[np.float32]]:
    tokens = enrol.tokenise(SENTENCE)
    packs = styles.load()
    return tokens, packs.style(packs.weights_of(enrol.DEFAULT_VOICE), len(tokens))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--operators", action="store_true", help="the edited graph, by operator")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    if arguments.operators:
        return by_operator(rounds)
    models = {name: load_model(steps) for name, steps in STEPS.items()}
    spent: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, engine in models.items():
            start = time.process_time()
            samples, _ = engine.run(*sentence())
            spoken = len(render.trim(samples)) / model.RATE
            spent[name].append((time.process_time() - start) / spoken)
    first = statistics.median(spent["as published"][1:])
    for name, factors in spent.items():
        factor = statistics.median(factors[1:])  # the first run sizes the arena
        print(f"{name:26s} {factor:5.2f}  {first / factor:4.2f}x as fast")


if __name__ == "__main__":
    main()
