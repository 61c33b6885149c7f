"""Measure an enrolment with the embedded voice on one core and on several.

    OMP_NUM_THREADS=1 python -m bench.enrolment RECORDING [--cores 1 2] [--rounds 3]

The numbers of cores take turns. Prints the wall time, its ratio to that on the first number of
cores, the processor time and the peak memory up to then; ends with an error if a voiceprint
differs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import soundfile
from rich.console import Console

from core import inference
from core.audio.waveform import Audio
from core.voice.kokoro import KokoroVoice

CACHE = Path(__file__).parents[1] / "build/kokoro"
REFERENCE_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, inference.usable_cpus()])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    samples, rate = soundfile.read(options.recording, dtype="float32", always_2d=True)
    reference = Audio(samples[: REFERENCE_SECONDS * rate].mean(axis=1), rate)
    voice = KokoroVoice.load(CACHE)
    cores = sorted(os.sched_getaffinity(0))
    seconds: dict[int, list[tuple[float, float]]] = {count: [] for count in options.cores}
    megabytes: dict[int, float] = {}
    voiceprints = set()
    for _ in range(options.rounds):
        for count, measured in seconds.items():
            os.sched_setaffinity(0, cores[:count])  # threads that are started inherit it
            enroller = replace(voice.enroller, workers=count)
            started = time.perf_counter(), time.process_time()
            voiceprints.add(replace(voice, enroller=enroller).enrol(reference, "", "en").dump())
            measured.append((time.perf_counter() - started[0], time.process_time() - started[1]))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            megabytes.setdefault(count, peak)
    console = Console()
    first = [wall for wall, _ in seconds[options.cores[0]]]
    for count, measured in seconds.items():
        walls, processor = zip(*measured, strict=True)
        ratio = statistics.median(wall / one for wall, one in zip(walls, first, strict=True))
        console.print(
            f"{count} cores: {statistics.median(walls):.1f} s, {ratio:.2f} of the first; "
            f"{statistics.median(processor):.1f} s of processor time; {megabytes[count]:.0f} MB"
        )
    console.print(f"{len(voiceprints)} different voiceprints" if voiceprints else "")
    return int(len(voiceprints) != 1)


if __name__ == "__main__":
    sys.exit(main())
