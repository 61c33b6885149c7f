"""Measures GPT-SoVITS and the embedded voice on a GPU, in less than eight minutes.

    python -m bench.gpu [BUNDLE] [--device cpu] [--quick] [--sections steps,text] [--minutes 8]

Without BUNDLE, a network of the official size with random weights is written and converted; the
number of tokens of each sentence is fixed, 100 to 200. `--quick` measures the small network of the
tests, which shows that everything works. Each section has a process of its own, which is ended when
its time is up, so that the others are measured even if one fails. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench import engine, random_network
from bench.engine_compare import ForcedRun, forced_run
from core import inference
from core.audio.waveform import Audio
from core.voice.gpt_sovits import synthesis
from core.voice.gpt_sovits.batch import T2SInput, open_cache
from core.voice.gpt_sovits.bundle import Bundle, Precision
from core.voice.gpt_sovits.convert.bundle import convert
from core.voice.gpt_sovits.convert.verify import verify
from core.voice.gpt_sovits.kv_cache import DTYPES, rows_for
from core.voice.gpt_sovits.sampling import sample_all
from core.voice.gpt_sovits.speech_run import Sentence, SpeechRun
from core.voice.gpt_sovits.t2s import Decoder
from core.voice.kokoro import enrol, model, render, styles

UPSTREAM = (
    "real-time factor of a long text, upstream in PyTorch (v2ProPlus)",
    "0.014 on an RTX 4090, 0.028 on an RTX 4060 Ti",
)
"""As its README states: 1,400 words, 4 minutes of speech, in 3.36 s."""
TOKENS_PER_SECOND = 25
_PREFIX = 300
"""Positions in the cache before the first step: prompt, phonemes and some tokens."""
_SHARE = 0.8
"""A section plans for this share of its time."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and how."""

    folder: Path
    """The bundle."""
    on_cpu: bool
    quick: bool
    seconds: float = 0
    """The time of the section."""

    def bundle(self, *, rewrite: bool | None = None, cuda_graphs: bool = False) -> Bundle:
        return Bundle(self.folder, cpu_only=self.on_cpu, rewrite=rewrite, cuda_graphs=cuda_graphs)

    @property
    def rows(self) -> tuple[int, ...]:
        return (1, 8) if self.quick else (1, 8, 32, 64)

    @property
    def tokens(self) -> tuple[int, int]:
        return (20, 40) if self.quick else (100, 200)


def main() -> int:
    args = parse_arguments()
    deadline = time.monotonic() + 60 * args.minutes - 10
    chosen = args.sections.split(",") if args.sections else list(SECTIONS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.bundle or Path(scratch) / "bundle"
        options = Options(folder, args.device == "cpu", args.quick)
        if run("device", options, say_device, 60) != 0:
            return 2
        print(f"| what | figure |\n|---|---|\n| {' | '.join(UPSTREAM)} |", flush=True)
        failed = 0
        if args.bundle is None:
            failed += run("network", options, prepare, deadline - time.monotonic())
        for name in chosen:
            section, seconds = SECTIONS[name]
            failed += run(name, options, section, min(seconds, deadline - time.monotonic()))
    return int(failed > 0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sections", help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--minutes", type=float, default=8)
    return parser.parse_args()


def run(name: str, options: Options, section: Callable[[Options], None], seconds: float) -> int:
    """Run a section in a process; return 1 if it failed or took longer than its time."""
    if seconds < 5:
        row(name, "no time was left")
        return 1
    process = multiprocessing.get_context("fork").Process(
        target=section, args=(replace(options, seconds=seconds),)
    )
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        row(name, f"stopped after {seconds:.0f} s")
    elif process.exitcode == 0:
        return 0
    elif name != "device":
        row(name, f"failed with exit code {process.exitcode}")
    return 1


def row(what: str, figure: str) -> None:
    print(f"| {what} | {figure} |", flush=True)


def say_device(options: Options) -> None:
    if options.on_cpu:
        print(f"Measured on {inference.usable_cpus()} CPUs, as requested.\n", flush=True)
        return
    found = inference.providers()
    if not found.has_cuda:
        print(f"There is no GPU to measure: {found.reason}. `--device cpu --quick` works anywhere.")
        sys.exit(2)
    print(f"Measured on {_nvidia_smi('name,driver_version,memory.total')}.\n", flush=True)


def _nvidia_smi(query: str) -> str:
    if (program := shutil.which("nvidia-smi")) is None:
        return f"a GPU of {inference.gpu_memory() / 2**30:.0f} GB (there is no nvidia-smi)"
    command = [program, f"--query-gpu={query}", "--format=csv,noheader"]
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return asked.stdout.strip().splitlines()[0] if asked.stdout.strip() else "unknown"


def prepare(options: Options) -> None:
    """Convert the network that is measured: to fp32, which has no rounding to explain."""
    start, scratch = time.monotonic(), options.folder.parent / "network"
    if options.quick:
        sources = engine.tiny_sources(engine.unpack_tiny(scratch))
    else:
        sources = random_network.write(scratch)
    convert(sources, options.folder, precision="fp32")
    shutil.rmtree(scratch)
    size = "small" if options.quick else "official size"
    row(f"network ({size}, random weights)", f"written in {time.monotonic() - start:.0f} s")


def check(options: Options) -> None:
    """Make the checks of `voicedrop models verify` with the network of the tests."""
    with tempfile.TemporaryDirectory() as scratch:
        golden = engine.unpack_tiny(Path(scratch) / "golden")
        precisions: tuple[Precision, ...] = ("fp32",) if options.quick else ("fp32", "fp16")
        for precision in precisions:
            folder = Path(scratch) / precision
            convert(engine.tiny_sources(golden), folder, precision=precision)
            bundle = replace(options, folder=folder).bundle()
            checks = list(verify(bundle, golden))
            bad = [f"{one.stage} {one.value:.3g}" for one in checks if not one.passed]
            passed = f"{len(checks) - len(bad)} of {len(checks)} passed"
            row(f"checks of `models verify`, {precision}", "; ".join([passed, *bad]))
            waves = [one for one in checks if "SNR" in one.stage]
            if waves:
                least = min(waves, key=lambda one: one.value)
                row(f"least SNR of {precision}", f"{least.value:.1f} dB ({least.stage})")


def measure_steps(options: Options) -> None:
    """Time steps of several numbers of rows, and the sampling of their tokens."""
    _time_steps(options, options.bundle(), "")


def measure_graphs(options: Options) -> None:
    """Do the same with steps that are replayed as CUDA graphs."""
    _time_steps(options, options.bundle(cuda_graphs=True), ", as a CUDA graph")


def _time_steps(options: Options, bundle: Bundle, how: str) -> None:
    seconds = _SHARE * options.seconds / len(options.rows) / 2
    for rows in options.rows:
        steps = list(_steps(options, bundle, rows, 10 if options.quick else 200, seconds))
        step, sampling = (statistics.median(each) for each in zip(*steps[3:], strict=True))
        rate = rows / (step + sampling)
        figure = f"{step * 1e3:.2f} ms, sampling {sampling * 1e3:.2f} ms, {rate:,.0f} tokens/s"
        row(f"T2S step of {rows} rows{how}", figure)


def _steps(
    options: Options, bundle: Bundle, rows: int, most: int, seconds: float
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of steps and of their sampling."""
    spec, random = bundle.spec, np.random.default_rng(0)
    cache = open_cache(bundle, "cpu" if options.on_cpu else "cuda")
    shape = (spec.t2s.layers, spec.t2s.heads, _PREFIX, spec.t2s.head_width)
    dtype = DTYPES[bundle.session(bundle.step_graph).get_inputs()[-1].type]
    keys = random.standard_normal(shape, np.float32).astype(dtype)
    for _ in range(rows):
        cache.add_row(keys, keys, _PREFIX + 1)
    samplers = [engine.forced_input(spec, i, most + 1).sampler for i in range(rows)]
    token, start = np.zeros(rows, np.int64), time.monotonic()
    for i in range(most):
        marks = [time.perf_counter()]
        logits = cache.step(
            token, np.full(rows, engine.PROMPT + i), np.full(rows, _PREFIX + i), _PREFIX + i + 1
        )
        marks.append(time.perf_counter())
        sample_all(samplers, logits)
        marks.append(time.perf_counter())
        token = np.array([sampler.tokens[-1] for sampler in samplers])
        yield marks[1] - marks[0], marks[2] - marks[1]
        if time.monotonic() - start > seconds and i >= 8:
            return


def measure_sovits(options: Options) -> None:
    """Time encoder and flow, and the vocoder, with convolutions and with matrix products."""
    longest, times = options.tokens[1], 1 if options.quick else 8
    for rewrite, how in ((False, "convolutions"), (True, "matrix products")):
        bundle, end = (
            options.bundle(rewrite=rewrite),
            time.monotonic() + _SHARE * options.seconds / 2,
        )
        timbre = _timbre(bundle)
        synthesise(bundle, longest, timbre)
        for what, lengths in (
            ("a length for the first time", [longest - 1 - i for i in range(times)]),
            ("the same length again", [longest] * times),
        ):
            measured = []
            for tokens in lengths:
                measured.append(synthesise(bundle, tokens, timbre))
                if time.monotonic() > end:
                    break
            flow, vocoder = (statistics.median(each) for each in zip(*measured, strict=True))
            seconds = statistics.mean(lengths) / TOKENS_PER_SECOND
            figure = f"{flow * 1e3:.0f} + {vocoder * 1e3:.0f} ms, {(flow + vocoder) / seconds:.4f}"
            row(f"encoder and flow + vocoder, {how}, {what}; of real time", figure)


def synthesise(bundle: Bundle, tokens: int, timbre: np.ndarray) -> tuple[float, float]:
    """Return the seconds of encoder and flow, and of the vocoder, for so many tokens."""
    random = np.random.default_rng(tokens)
    marks = [time.perf_counter()]
    phones = random.integers(0, 700, engine.PHONES - engine.PROMPT_PHONES)
    latent = synthesis.encode(bundle, random.integers(0, 1024, tokens), phones, timbre)
    noise = synthesis.make_noise(bundle, latent.shape[1], (1,))
    z = synthesis.flow(bundle, latent, noise, timbre)
    marks.append(time.perf_counter())
    synthesis.vocode(bundle, z, timbre)
    marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1]


def _timbre(bundle: Bundle) -> np.ndarray:
    """Return a random timbre of the width that the model has."""
    weights = 1024 if bundle.spec.speaker else 512
    if bundle.spec.t2s.layers == 24:  # the official size
        return 0.1 * np.random.default_rng(0).standard_normal((1, weights, 1), np.float32)
    return engine.noise_timbre(bundle)


class VariedRun(ForcedRun):
    """Generates a number of tokens that depends on the seed."""

    def t2s_input(self, sentence: Sentence, seed: tuple[int, ...]) -> T2SInput:
        number = seed[0] * 1000 + (seed[1] if len(seed) > 2 else 0)
        forced = engine.forced_input(
            self.bundle.spec, number, tokens_of(number, self.sampling.limit)
        )
        return replace(forced, phones=sentence.prompted_phones)


def tokens_of(number: int, most: int) -> int:
    return int(np.random.default_rng(number).integers(most // 2, most + 1))


def _speech_run(options: Options) -> tuple[SpeechRun, Sentence]:
    bundle = options.bundle()
    forced, sentence = forced_run(bundle, bundle.threads, options.tokens[1])
    rows = 4 if options.quick else rows_for(bundle)
    prompt = replace(forced.prompt, timbre=_timbre(bundle))
    speaker = VariedRun(
        bundle, Decoder(bundle, rows=rows), forced.pools, forced.sampling, forced.guard, prompt
    )
    list(speaker.speak([sentence] * 2, speed=1, seed=0))  # opens the graphs
    return speaker, sentence


def measure_text(options: Options) -> None:
    """Speak a text of 40 sentences, and stream a sentence."""
    speaker, sentence = _speech_run(options)
    number = 3 if options.quick else 40
    start = time.perf_counter()
    next(speaker.stream(sentence, speed=1, seed=(1,)))
    row("first sound of a stream", f"{time.perf_counter() - start:.2f} s")
    start, first, spoken = time.perf_counter(), 0.0, 0.0
    for utterance in speaker.speak([sentence] * number, speed=1, seed=1):
        first = first or time.perf_counter() - start
        spoken += utterance.audio.seconds
        if time.perf_counter() - start > _SHARE * options.seconds:
            break
    took = time.perf_counter() - start
    figure = f"{took / spoken:.4f} ({spoken:.0f} s of speech in {took:.2f} s, first {first:.2f} s)"
    row(f"real-time factor of a text of {number} sentences", figure)


def measure_batch(options: Options) -> None:
    """Speak many items of one sentence, as many at once as the engine can use."""
    speaker, sentence = _speech_run(options)
    decoder, number = speaker.decoder, 6 if options.quick else 200
    callers = decoder.rows + speaker.bundle.threads
    steps, tokens = decoder.steps, decoder.tokens
    start = time.perf_counter()

    def speak(item: int) -> float:
        if time.perf_counter() - start > _SHARE * options.seconds:
            return 0
        return sum(u.audio.seconds for u in speaker.speak([sentence], speed=1, seed=item))

    with ThreadPoolExecutor(callers) as pool:
        spoken = [one for one in pool.map(speak, range(number)) if one]
    took = time.perf_counter() - start
    rows = (decoder.tokens - tokens) / max(1, decoder.steps - steps)
    figure = f"{took / sum(spoken):.4f} ({len(spoken)} made, {len(spoken) / took:.2f} a second, "
    row(
        f"real-time factor of a batch of {number} items",
        f"{figure}{rows:.1f} of {decoder.rows} rows)",
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row("memory of the process after it", f"{peak:.0f} MB")
    if not options.on_cpu:
        row("memory of the GPU in use", _nvidia_smi("memory.used"))


def measure_embedded(options: Options) -> None:
    """Speak with the embedded voice: 8-bit on a CPU, and as it runs on CUDA."""
    with tempfile.TemporaryDirectory() as scratch:
        eight = model.load(Path(scratch), None, threads=1, dequantised=False)
        wide = model.load(Path(scratch), None, threads=1, dequantised=True, cpu_only=options.on_cpu)
    end, times, spoken = time.monotonic() + _SHARE * options.seconds, [], []
    for text in SENTENCES * (1 if options.quick else 4):
        tokens = enrol.tokenise(text)
        style = styles.load().style(styles.load().weights_of(enrol.DEFAULT_VOICE), len(tokens))
        marks = [time.perf_counter()]
        both = []
        for each in (eight, wide):
            both.append(each.run(tokens, style))
            marks.append(time.perf_counter())
        seconds = len(both[0][0]) / model.RATE
        times.append(np.diff(marks) / seconds)
        spoken.append(_differences(*both))
        if time.monotonic() > end:
            break
    for name, factor in zip(
        ("8 bits on one CPU thread", f"dequantised on {'a CPU' if options.on_cpu else 'the GPU'}"),
        np.median(times[1:] or times, axis=0),
        strict=True,
    ):
        row(f"embedded voice, {name}, real-time factor", f"{factor:.4f}")
    length, pitch, level = np.max(spoken, axis=0)
    figure = f"length {length:.1%}, pitch {pitch:.1%}, spectrum {level:.1f} dB"
    row(f"the two embedded voices differ in {len(spoken)} sentences by at most", figure)


Spoken = tuple[np.ndarray, np.ndarray]
"""Samples, and the pitch in Hz."""


def _differences(one: Spoken, other: Spoken) -> tuple[float, float, float]:
    """Return relative differences in length and mean pitch, and the RMS difference in dB of the
    spectra between 120 Hz and 7 kHz. Samples cannot be compared: their phase moves."""
    hertz = [float(np.exp(np.log(pitch[pitch > 50]).mean())) for _, pitch in (one, other)]
    spectra = [
        render.measure_spectrum(Audio(render.trim(samples), model.RATE))
        for samples, _ in (one, other)
    ]
    bins = np.fft.rfftfreq(2 * (len(spectra[0]) - 1), 1 / model.RATE)
    difference = (spectra[0] - spectra[1])[(bins > 120) & (bins < 7000)]
    return (
        abs(len(other[0]) / len(one[0]) - 1),
        abs(hertz[1] / hertz[0] - 1),
        float(np.sqrt(np.square(difference).mean())),
    )


SENTENCES = (
    "It is easy to tell the depth of a well when the water is clear.",
    "The boy was there when we came.",
    "A rod is used to catch pink salmon, and the source of the huge river is the clear spring.",
    "Help the woman get back to her feet.",
)
SECTIONS: dict[str, tuple[Callable[[Options], None], float]] = {
    "checks": (check, 60),
    "steps": (measure_steps, 50),
    "graphs": (measure_graphs, 50),
    "sovits": (measure_sovits, 60),
    "text": (measure_text, 50),
    "batch": (measure_batch, 70),
    "embedded": (measure_embedded, 80),
}
"""Each with its time in seconds; the rest of the eight minutes is for the network."""


if __name__ == "__main__":
    sys.exit(main())
