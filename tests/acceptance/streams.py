"""Streams of an engine: first sound, marks, cuts and cancelled ones, of which nothing is left.

    python -m tests.acceptance.streams [--engine buzz] [--streams 50] [--cancelled 1000] [--seed 0]

--engine: `buzz`, the filtered pulses of the tests; `kokoro`, the embedded voice; or the folder of a
GPT-SoVITS bundle, whose weights may be random: each sentence is one of --tokens tokens.

Each stream is timed in itself: how long the engine took for its first piece, and how long the
listener waited for the first sound. Of each, the mark must be read back, and from 3 s at a random
place. Cancelled ones must leave no thread, row, open lease or place, and no memory; of those of 3 s
and more, the mark must be read.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import watermark
from core.audio.loudness import loudness
from core.audio.waveform import Audio, Samples
from core.job import lease, streamed
from core.job.runtime import Runtime
from core.result.document import Result
from core.settings import Settings
from core.voice import SpeaksInPieces, SpeechChunk, Voice
from core.voice.gpt_sovits.batch import Row
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.engine import GptSovits
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import Sampling
from core.voice.gpt_sovits.t2s import Caller
from core.voice.kokoro.voice import KokoroVoice
from tests.acceptance.soak import resident_memory
from tests.support.letters import Letters
from tests.support.listeners import Hearer, put_voice
from tests.support.runtime import BuzzVoice, local_runtime

MOST_WAIT = 0.6
"""Seconds that the first sound may come after the engine's own."""
CUT = 3.0
SENTENCES = (
    "The train leaves at a quarter to nine, and the last one just before midnight. ",
    "Please keep to the left, mind the step, and do not lean against the doors. ",
    "She opened the window and listened, but there was nothing to be heard. ",
    "A stream is spoken while it is heard, and it ends when nobody listens. ",
)


class EndsAtLimit(Guard):
    """Accepts what random weights speak: they end no sentence, the limit of tokens does."""

    def check_tokens(self, tokens: Sequence[int], phones: int, *, ended: bool) -> str:
        return ""


def open_voice(name: str, tokens: int) -> Voice:
    if name == "buzz":
        return BuzzVoice()
    if name == "kokoro":
        return KokoroVoice.load(Settings().cache)
    bundle = Bundle(Path(name), threads=1, cpu_only=True)
    return GptSovits(
        bundle,
        Letters(),
        guard=EndsAtLimit(max_repeated_tokens=999),
        sampling=Sampling(limit=tokens),
    )


class Timed:
    """A voice that notes when it was asked for speech, and when it gave the first."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self.asked = self.gave = 0.0
        name = "stream" if isinstance(voice, SpeaksInPieces) else "speak"
        setattr(self, name, self._timed(getattr(voice, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._voice, name)

    def _timed(self, speak: Callable[..., Iterator[SpeechChunk]]) -> Callable[..., Any]:
        def timed(*args: Any, **how: Any) -> Iterator[SpeechChunk]:
            self.asked, self.gave = time.perf_counter(), 0.0
            for chunk in speak(*args, **how):
                self.gave = self.gave or time.perf_counter()
                yield chunk

        return timed


@dataclass
class TimedHearer(Hearer):
    first: float = 0.0
    """When the first sound was heard."""

    def hear(self, samples: Samples) -> None:
        self.first = self.first or time.perf_counter()
        super().hear(samples)


class Streams:
    """Speaks streams with one engine."""

    def __init__(self, runtime: Runtime, voice: Timed, seed: int, most_sentences: int) -> None:
        self._runtime, self._voice, self._chance = runtime, voice, random.Random(seed)
        self._most_sentences = most_sentences
        self._number = 0
        self.failures: list[str] = []
        self.waits: list[float] = []
        """Seconds from the engine's own first sound to that of the stream, its own work before and
        after the engine's added."""
        self.levels: list[float] = []
        self.cuts = 0

    def speak_one(self, *, leaves_after: float = float("inf")) -> None:
        count = self._chance.randint(1, self._most_sentences)
        text = "".join(self._chance.sample(SENTENCES, count))
        self._number += 1
        hearer = TimedHearer(leaves_after)
        manifest = put_voice(self._runtime, f"{text} {self._number}")
        begun = time.perf_counter()
        key = f"jobs/live/{self._number}.manifest.json"
        result = streamed.speak(key, manifest, hearer, self._runtime)
        self._check(result, hearer)
        if hearer.first:
            engine = self._voice.gave - self._voice.asked
            self.waits.append(hearer.first - begun - engine)

    def _check(self, result: Result, hearer: Hearer) -> None:
        item, heard = result.items[0], hearer.heard or Audio(np.zeros(0, np.float32), 1)
        is_long = heard.seconds >= CUT
        if item.status != "succeeded" and (is_long or hearer.leaves_after == float("inf")):
            self.failures.append(f"{self._number}: {item.error}")
        if item.watermark and is_long:
            payload = int(item.watermark.payload, 16)
            last = len(heard.samples) - round(CUT * heard.rate)
            for start in (0, self._chance.randint(0, last), last):
                cut = heard.samples[start : start + round(CUT * heard.rate)]
                found = watermark.detect_any(cut, heard.rate, self._runtime.keys.watermark)
                self.cuts += 1
                if found.payload != payload:
                    self.failures.append(f"{self._number}: cut at {start / heard.rate:.2f} s")
        if is_long and item.streamed and item.streamed.complete:
            self.levels.append(loudness(heard))
        record = lease.read_last_record(
            self._runtime.control, result.job_id, self._runtime.keys.verifying
        )
        if record is None or record.expires:
            self.failures.append(f"{self._number}: its lease is held")


def leftovers(threads: set[str]) -> list[str]:
    """Describe threads, rows and callers of decoders that still exist. `threads`: that may."""
    for thread in threading.enumerate():
        if thread.name == "t2s":
            thread.join(10)
    gc.collect()
    found = [repr(one) for one in gc.get_objects() if type(one) in (Row, Caller)]
    return found + sorted({one.name for one in threading.enumerate()} - threads)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="buzz", help="buzz, kokoro, or a bundle")
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--cancelled", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sentences", type=int, default=3, help="of a stream, at most 4")
    parser.add_argument("--tokens", type=int, default=100, help="of a sentence of a bundle")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        voice = Timed(open_voice(options.engine, options.tokens))
        runtime = local_runtime(Path(scratch), voice=voice)
        streams = Streams(runtime, voice, options.seed, options.sentences)
        streams.speak_one()  # learns the voice
        streams.waits.clear()
        for number in range(1, options.streams + 1):
            streams.speak_one()
            if number % 10 == 0 or number == options.streams:
                report(streams, number)
        left = cancel(streams, options.cancelled, options.seed) if options.cancelled else []
    for failure in [*streams.failures[:20], *left]:
        print("FAILED:", failure)
    return int(bool(streams.failures or left) or max(streams.waits, default=0) > MOST_WAIT)


def report(streams: Streams, count: int) -> None:
    waits, levels = np.array(streams.waits or [0.0]), np.array(streams.levels or [np.nan])
    print(
        f"{count} streams: first sound {np.median(waits):.2f} s, at most {waits.max():.2f} s"
        f" after the engine's own; {streams.cuts} cuts of {CUT:g} s;"
        f" loudness {np.median(levels):.1f} LUFS, {levels.min():.1f} to {levels.max():.1f};"
        f" {len(streams.failures)} failures",
        flush=True,
    )


def cancel(streams: Streams, count: int, seed: int) -> list[str]:
    """Cancel streams at random places; return what is left of them."""
    chance, memory = random.Random(seed), 0.0
    threads = {one.name for one in threading.enumerate()}
    for number in range(count):
        streams.speak_one(leaves_after=chance.choice([0.0, chance.uniform(0, 8)]))
        if number == count // 5:
            memory = resident_memory()
    left, growth = leftovers(threads), resident_memory() - memory
    print(
        f"{count} cancelled: left over {left or 'nothing'}; memory {growth:+.1f} MB since a fifth"
    )
    return left + ([f"memory {growth:+.1f} MB"] if growth > 30 else [])


if __name__ == "__main__":
    sys.exit(main())
