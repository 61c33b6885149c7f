"""Measures genie-tts 2.0.2 on the same checkpoints, for comparison with bench/engine.py.

    python -m venv /tmp/genie && /tmp/genie/bin/pip install genie-tts==2.0.2 torch
    /tmp/genie/bin/python bench/engine_genie.py convert DIR v2 OUT    (DIR as for engine.py --full)
    /tmp/genie/bin/python bench/engine_genie.py run OUT [--threads 1]

DIR contains s1_full.ckpt and s2_<version>_full.pth, of version v2 or v2ProPlus. Use an environment
of its own, because genie-tts installs `onnxruntime`. Its graphs are loaded and run as it does, but
for a fixed number of tokens. With `--threads 0` the number of threads is its default.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.resources
import importlib.util
import json
import resource
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PHONES, PROMPT_PHONES, PROMPT_FRAMES, REFERENCE = 60, 40, 250, 160000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["convert", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("version", nargs="?", default="v2")
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, nargs="*", default=[150])
    args = parser.parse_args()
    if args.what == "convert":
        convert(args.folder, args.version, args.out)
    else:
        run(args.folder, args.threads, args.tokens)


def register_package() -> None:
    """Make its modules importable without its start-up code, which asks to download voices."""
    spec = importlib.util.find_spec("genie_tts")
    if spec is None or spec.origin is None:
        sys.exit("genie-tts is not installed in this environment")
    home = Path(spec.origin).parent
    bare = types.ModuleType("genie_tts")
    bare.__path__ = [str(home)]
    sys.modules["genie_tts"] = bare
    importlib.resources.files = lambda _: home  # type: ignore[assignment]
    importlib.resources.as_file = contextlib.nullcontext  # type: ignore[assignment]


def convert(folder: Path, version: str, out: Path) -> None:
    register_package()
    module = importlib.import_module(f"genie_tts.Converter.{version}.Converter")
    module.convert(str(folder / "s1_full.ckpt"), str(folder / f"s2_{version}_full.pth"), str(out))


def run(folder: Path, threads: int, lengths: list[int]) -> None:
    started = time.perf_counter()
    sessions = {name: open_session(folder, name, threads) for name in SESSIONS}
    load = time.perf_counter() - started
    clock = time.process_time if threads == 1 else time.perf_counter
    for tokens in lengths:
        step, sentence = speak(sessions, tokens, clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # It has neither batches nor streaming, so those figures are those of one sentence.
    same = {"step": step, "step8": step, "sentence": sentence, "text": sentence, "first": sentence}
    print(json.dumps({**same, "load": load, "peak": peak}))


SESSIONS = {
    "t2s_encoder_fp32": "",
    "t2s_first_stage_decoder_fp32": "t2s_shared_fp16.bin",
    "t2s_stage_decoder_fp32": "t2s_shared_fp16.bin",
    "vits_fp32": "vits_fp16.bin",
}


def open_session(folder: Path, name: str, threads: int) -> Any:
    """Open a graph like its ModelManager, which converts fp16 weights to fp32 in memory."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model: Any = str(folder / f"{name}.onnx")
    if SESSIONS[name]:
        proto = onnx.load(model, load_external_data=False)
        whole = np.fromfile(folder / SESSIONS[name], np.float16).astype(np.float32).tobytes()
        for tensor in proto.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}
                first = int(place.get("offset", 0))
                tensor.raw_data = whole[first : first + int(place["length"])]
                del tensor.external_data[:]
                tensor.data_location = onnx.TensorProto.DEFAULT
        model = proto.SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def speak(sessions: dict[str, Any], tokens: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds per token and per sentence."""
    random = np.random.default_rng(0)
    inputs = {
        "ref_seq": random.integers(0, 700, (1, PROMPT_PHONES)),
        "text_seq": random.integers(0, 700, (1, PHONES)),
        "ref_bert": np.zeros((PROMPT_PHONES, 1024), np.float32),
        "text_bert": np.zeros((PHONES, 1024), np.float32),
        "ssl_content": random.standard_normal((1, 768, PROMPT_FRAMES), np.float32),
    }
    marks = [clock()]
    x, prompts = sessions["t2s_encoder_fp32"].run(None, inputs)
    state = sessions["t2s_first_stage_decoder_fp32"].run(None, {"x": x, "prompts": prompts})
    marks.append(clock())
    decoder = sessions["t2s_stage_decoder_fp32"]
    names = [entry.name for entry in decoder.get_inputs()]
    for _ in range(tokens):
        y, embedded, _stop, *caches = decoder.run(None, dict(zip(names, state, strict=True)))
        state = [y, embedded, *caches]
    marks.append(clock())
    semantic = np.clip(state[0][:, -tokens:], 0, 1023)[None]
    vits = {"text_seq": inputs["text_seq"], "pred_semantic": semantic}
    sessions["vits_fp32"].run(None, {**vits, **reference_inputs(sessions["vits_fp32"], random)})
    marks.append(clock())
    prefill, steps, sound = (float(part) for part in np.diff(marks))
    print(f"genie tokens {tokens}: prefill {prefill * 1e3:.0f} ms, ", end="")
    print(f"step {steps / tokens * 1e3:.2f} ms, vits {sound * 1e3:.0f} ms, ", end="")
    print(f"{(prefill + steps + sound) * 25 / tokens:.3f} of real time")
    return steps / tokens, prefill + steps + sound


def reference_inputs(vits: Any, random: np.random.Generator) -> dict[str, Any]:
    """Return random inputs in place of the reference.

    v2 reads the waveform for every sentence. v2ProPlus reads the output of its prompt encoder,
    which runs once per reference and is not measured on either side.
    """
    shapes = {entry.name: entry.shape for entry in vits.get_inputs()}
    sizes = {"ref_audio": (1, REFERENCE)}
    vectors = {name: tuple(shapes[name]) for name in ("ge", "ge_advanced") if name in shapes}
    return {
        name: 0.1 * random.standard_normal(size, np.float32)
        for name, size in (vectors or sizes).items()
    }


if __name__ == "__main__":
    main()
