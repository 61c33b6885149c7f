"""Measures the speed of the GPT-SoVITS engine and compares its results with upstream's.

    python bench/engine.py --tiny [--device cuda] [--precision fp16]
        converts, verifies and measures the small test network of this repository
    python bench/engine.py --full DIR --version v2ProPlus [--precision int8] [--threads 1]
        measures checkpoints of full size with random weights, as `make_full.py` of the golden set
        writes them to DIR (s1_full.ckpt, s2_<version>_full.pth, chinese-hubert-base/, ...)

Times are CPU time of this process on a CPU, which depends little on other processes, and wall time
on CUDA. Sentences of random weights do not end, so the number of tokens is fixed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from core.audio.waveform import Audio
from core.voice.gpt_sovits import reference, synthesis
from core.voice.gpt_sovits.batch import T2SInput
from core.voice.gpt_sovits.bundle import Bundle, Spec
from core.voice.gpt_sovits.convert.bundle import Sources, convert
from core.voice.gpt_sovits.convert.checks import format_table
from core.voice.gpt_sovits.convert.verify import verify
from core.voice.gpt_sovits.sampling import Sampler, Sampling
from core.voice.gpt_sovits.streaming import FIRST_PIECE, LOOKAHEAD
from core.voice.gpt_sovits.t2s import Decoder

TINY = Path(__file__).parents[1] / "tests" / "data" / "gpt_sovits" / "v2ProPlus_tiny.tar.xz"
PHONES, PROMPT, PROMPT_PHONES = 100, 125, 40


def main() -> int:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        golden = unpack_tiny(folder / "golden") if args.tiny else None
        sources = tiny_sources(golden) if golden else full_sources(args.full, args.version)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took = time_of(lambda: convert(sources, folder / "bundle", precision=args.precision))
        print(f"convert {took:.1f} s, {peak_memory() - before / 1024:.0f} MB more at the peak")
        bundle = Bundle(folder / "bundle", threads=args.threads, cpu_only=args.device == "cpu")
        print(f"device {bundle.device}")
        if args.device == "cuda" and not bundle.uses_cuda:
            return 2
        failed = False
        if golden:
            checks = list(verify(bundle, golden))
            print(format_table(checks))
            failed = not all(check.passed for check in checks)
        measure(bundle)
        print(f"peak memory {peak_memory():.0f} MB")
        return int(failed)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--tiny", action="store_true")
    which.add_argument("--full", type=Path)
    parser.add_argument("--version", default="v2ProPlus", choices=["v2", "v2Pro", "v2ProPlus"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "int8", "fast", "fp16"])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def unpack_tiny(folder: Path) -> Path:
    with tarfile.open(TINY) as archive:
        archive.extractall(folder, filter="data")
    return folder


def tiny_sources(golden: Path) -> Sources:
    return Sources(
        golden / "s1_v2ProPlus_tiny.ckpt",
        golden / "s2_v2ProPlus_tiny.pth",
        golden / "chinese-hubert-base",
        golden / "pretrained_eres2netv2_tiny.ckpt",
    )


def full_sources(folder: Path, version: str) -> Sources:
    if not (folder / "s1_full.ckpt").is_file():
        sys.exit(f"{folder} has no s1_full.ckpt: write it with make_full.py of the golden set")
    speaker = folder / "pretrained_eres2netv2w24s4ep4.ckpt"
    return Sources(
        folder / "s1_full.ckpt",
        folder / f"s2_{version}_full.pth",
        folder / "chinese-hubert-base",
        speaker if version != "v2" else None,
    )


def measure(bundle: Bundle) -> None:
    clock = time.perf_counter if bundle.uses_cuda else time.process_time
    graphs = ("prefill", bundle.step_graph, "encode", "flow")
    took = time_of(lambda: [bundle.session(name) for name in graphs])
    took += time_of(lambda: bundle.session("vocoder"))
    print(f"load {took:.2f} s")
    for rows, tokens in ((1, 150), (1, 500), (2, 150), (8, 150)):
        inputs = [forced_input(bundle.spec, i, tokens) for i in range(rows)]
        prefill, step = measure_t2s(bundle, inputs, clock)
        print(f"t2s rows {rows} tokens {tokens}: prefill {prefill * 1e3:.0f} ms, ", end="")
        print(f"step {step * 1e3:.2f} ms, {rows / step:.0f} tokens/s")
    measure_synthesis(bundle, clock)


def measure_t2s(
    bundle: Bundle, inputs: Sequence[T2SInput], clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the time of a prefill and of a step of all inputs, in seconds."""
    with Decoder(bundle, rows=len(inputs)).caller() as caller:
        marks = [clock()]
        rows = [caller.submit(each) for each in inputs]
        for row in rows:
            row.wait(1)
        marks.append(clock())
        for row in rows:
            row.ended.result()
        marks.append(clock())
    steps = inputs[0].sampler.sampling.limit - 1
    return (marks[1] - marks[0]) / len(rows), (marks[2] - marks[1]) / steps


def measure_synthesis(bundle: Bundle, clock: Callable[[], float]) -> None:
    random = np.random.default_rng(0)
    timbre = noise_timbre(bundle)
    phones = random.integers(0, 700, PHONES - PROMPT_PHONES)
    for tokens in (150, FIRST_PIECE + LOOKAHEAD, 150):  # the first warms up
        ids = random.integers(0, 1024, tokens)
        marks = [clock()]
        latent = synthesis.encode(bundle, ids, phones, timbre)
        noise = synthesis.make_noise(bundle, latent.shape[1], (1,))
        z = synthesis.flow(bundle, latent, noise, timbre)
        marks.append(clock())
        wave = synthesis.vocode_part(bundle, z, timbre, 0, z.shape[2])
        marks.append(clock())
        seconds = len(wave) / bundle.spec.rate
        flow, vocoder = marks[1] - marks[0], marks[2] - marks[1]
        print(f"sovits {tokens} tokens: encode and flow {flow * 1e3:.0f} ms, ", end="")
        print(f"vocoder {vocoder * 1e3:.0f} ms, {(flow + vocoder) / seconds:.3f} of real time")


def noise_timbre(bundle: Bundle) -> np.ndarray:
    noise = 0.1 * np.random.default_rng(0).standard_normal(bundle.spec.rate, np.float32)
    return reference.mean_timbre(bundle, [Audio(noise, bundle.spec.rate)])


def forced_input(spec: Spec, seed: int, tokens: int) -> T2SInput:
    random = np.random.default_rng(seed)
    prompt = random.integers(0, 1024, PROMPT)
    bert = np.zeros((PHONES, spec.t2s.bert), np.float32)
    forced = Sampling(limit=tokens, least=tokens)
    sampler = Sampler.create(forced, prompt, spec.t2s.vocabulary, [seed])
    return T2SInput(random.integers(0, 700, PHONES), bert, prompt, sampler)


def time_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
