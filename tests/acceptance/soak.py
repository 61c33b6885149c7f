"""Measures memory growth: the memory of a process after its 20th and its last text.

    python -m tests.acceptance.soak [--texts 300]

It speaks with the small network of the test suite, in two voices alternately.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import soundfile

from core.audio.waveform import Audio
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.convert.bundle import convert
from core.voice.gpt_sovits.engine import GptSovits
from core.voice.gpt_sovits.guard import Guard
from tests.support import tiny_network
from tests.support.letters import Letters

LAX = Guard(
    min_tokens_per_phoneme=0,
    max_tokens_per_phoneme=99,
    max_repeated_tokens=999,
    max_edge_silence=99,
)
"""Accepts the nonsense that random weights speak."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=300)
    count = parser.parse_args().texts
    with tempfile.TemporaryDirectory() as scratch:
        network = tiny_network.unpack(Path(scratch) / "network")
        sources = replace(tiny_network.checkpoints(network), bert=None)
        convert(sources, Path(scratch) / "bundle", precision="int8")
        bundle = Bundle(Path(scratch) / "bundle", threads=1, cpu_only=True)
        growth = soak(GptSovits(bundle, Letters(), guard=LAX), network, count)
    print(f"{growth:+.1f} MB from the 20th to the last of {count} texts")
    return int(growth > 30)


def soak(engine: GptSovits, network: Path, count: int) -> float:
    """Return the memory growth between the 20th and the last text, in MB."""
    samples, rate = soundfile.read(network / "ref.wav", dtype="float32")
    recordings = [Audio(samples, rate), Audio(samples[::-1].copy(), rate)]
    voices = [engine.enrol(recording, "what is said", "en") for recording in recordings]
    memory = 0.0
    for i in range(count):
        text = "good day. " + "my friend " * (i % 5)
        for _ in engine.speak(text, voices[i % 2], language="en", seed=i):
            pass
        if i == 19:
            memory = resident_memory()
    return resident_memory() - memory


def resident_memory() -> float:
    """Return the resident memory of this process in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
