"""What hundreds of texts in one process leave behind: memory after the 20th and after the last.

    python -m tests.acceptance.soak [--texts 300]

Needs only this repository: the small network of the test suite, two voices in turn.
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

LAX = Guard(fewest=0, most=99, cycle=999, blank=99)
"""Random weights say nonsense."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=300)
    count = parser.parse_args().texts
    with tempfile.TemporaryDirectory() as scratch:
        golden = tiny_network.unpack(Path(scratch) / "golden")
        sources = replace(tiny_network.checkpoints(golden), bert=None)
        convert(sources, Path(scratch) / "bundle", precision="int8")
        bundle = Bundle(Path(scratch) / "bundle", threads=1, cpu_only=True)
        grown = soak(GptSovits(bundle, Letters(), guard=LAX), golden, count)
    print(f"{grown:+.1f} MB from the 20th to the last of {count} texts")
    return int(grown > 30)


def soak(engine: GptSovits, golden: Path, count: int) -> float:
    """Megabytes more after the last text than after the 20th."""
    samples, rate = soundfile.read(golden / "ref.wav", dtype="float32")
    heard = [Audio(samples, rate), Audio(samples[::-1].copy(), rate)]
    voices = [engine.enrol(one, "what is said", "en") for one in heard]
    early = 0.0
    for i in range(count):
        text = "good day. " + "my friend " * (i % 5)
        for _ in engine.speak(text, voices[i % 2], language="en", seed=i):
            pass
        if i == 19:
            early = resident()
    return resident() - early


def resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
