"""What the edits of the embedded voice's graph bring, each step and all, in turn in one run.

    OMP_NUM_THREADS=1 python -m bench.kokoro_graph [--rounds 5]

CPU seconds on one thread per second of speech, its silent ends trimmed. The first row is the graph
as it is published.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import onnx as format_
from onnx import ModelProto

from core import onnx
from core.voice.kokoro import enrol, graph, model, operators, render, styles

SENTENCE = "It is easy to tell the depth of a well when the water is clear."
STEPS: dict[str, tuple[Callable[[ModelProto], None], ...]] = {
    "as published": (),
    "silence cut": (graph.cut_silence,),
    "norms at once": (operators.normalise_at_once,),
    "norms and activations": (operators.normalise_at_once, operators.activate_by_cosine),
    "convolutions as products": (operators.convolve_by_matmul,),
    "all": (
        graph.cut_silence,
        operators.normalise_at_once,
        operators.activate_by_cosine,
        operators.convolve_by_matmul,
    ),
}


def opened(steps: tuple[Callable[[ModelProto], None], ...]) -> model.Model:
    edited = format_.load_from_string(model._read(None))
    for step in (graph.open_pitch, *steps, graph.own_zero_points):
        step(edited)
    return model.Model(onnx.session(edited.SerializeToString(), threads=1, cpu_only=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    models = {name: opened(steps) for name, steps in STEPS.items()}
    tokens = enrol.tokens(SENTENCE)
    style = styles.load().style(styles.load().only(enrol.DEFAULT_VOICE), len(tokens))
    spent: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, engine in models.items():
            start = time.process_time()
            samples, _ = engine.run(tokens, style)
            spoken = len(render.trim(samples)) / model.RATE
            spent[name].append((time.process_time() - start) / spoken)
    first = statistics.median(spent["as published"][1:])
    for name, factors in spent.items():
        factor = statistics.median(factors[1:])  # the first run sizes the arena
        print(f"{name:26s} {factor:5.2f}  {first / factor:4.2f}x as fast")


if __name__ == "__main__":
    main()
