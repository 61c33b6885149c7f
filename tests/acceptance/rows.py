"""Several threads speak and stream with one decoder; some stop early, and some texts fail.

    python -m tests.acceptance.rows [--sentences 10000] [--threads 8] [--seed 0]

Every utterance must equal that of an engine with one row, sample by sample. In the end no thread of
the decoder, no row and no caller may be left, and the memory must not have grown.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import soundfile

from core.audio.waveform import Audio
from core.voice import Voiceprint
from core.voice.gpt_sovits.batch import Row
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.convert.bundle import convert
from core.voice.gpt_sovits.engine import GptSovits
from core.voice.gpt_sovits.sampling import Sampling
from core.voice.gpt_sovits.t2s import Caller
from core.voice.gpt_sovits.text_features import Span
from tests.acceptance.soak import LAX, resident_memory
from tests.support import tiny_network
from tests.support.letters import Letters

BAD = "!"
"""A sentence with this character fails in T2S."""
SENTENCES = ("good day", "hello there my friend", "what a day", "yes", "one more of them")


class LettersAndErrors(Letters):
    def _span(self, text: str, language: str) -> Span:
        span = super()._span(text, language)
        return replace(span, phones=(*span.phones, 10**6)) if BAD in text else span


def open_engine(bundle: Bundle, *, rows: int) -> GptSovits:
    """Open an engine whose sentences end after about 60 tokens, so that streams have pieces."""
    sampling = Sampling(temperature=3, top_k=50)
    return GptSovits(bundle, LettersAndErrors(), guard=LAX, sampling=sampling, rows=rows)


def enrol(engine: GptSovits, network: Path) -> Voiceprint:
    """Learn the voice of the recording that belongs to the small network."""
    samples, rate = soundfile.read(network / "ref.wav", dtype="float32")
    return engine.enrol(Audio(samples, rate), "what is said", "en")


@dataclass
class Speakers:
    """Speaks random texts with an engine and compares them with those of an engine of one row."""

    alone: GptSovits
    shared: GptSovits
    voiceprint: Voiceprint
    made: int = 0
    cancelled: int = 0
    failed: int = 0
    wrong: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def create(cls, bundle: Bundle, network: Path, *, rows: int) -> Speakers:
        alone, shared = open_engine(bundle, rows=1), open_engine(bundle, rows=rows)
        return cls(alone, shared, enrol(alone, network))

    def run(self, sentences: int, *, threads: int, seed: int) -> None:
        """Speak at least so many sentences, with several threads."""
        with ThreadPoolExecutor(threads) as pool:
            goal = self.made + sentences
            list(
                pool.map(lambda i: self._speak_until(goal, random.Random(seed + i)), range(threads))
            )

    def _speak_until(self, goal: int, chance: random.Random) -> None:
        while self.made < goal:
            self._speak_one(chance)

    def _speak_one(self, chance: random.Random) -> None:
        how, seed = chance.choice(["speak", "speak", "stream"]), chance.randrange(2)
        first = chance.randrange(len(SENTENCES))
        text = ". ".join((SENTENCES * 2)[first : first + chance.choice([1, 1, 2, 5])])
        expected = self._expected(how, text, seed)
        is_bad, stop = chance.random() < 0.2, chance.choice([None, None, None, 0, 1, 2])
        spoken = self._pieces(self.shared, how, f"{text}. {BAD}" if is_bad else text, seed)
        heard: list[str] = []
        try:
            heard.extend(islice(spoken, stop))
        except Exception:
            if not is_bad:
                raise
        finally:
            spoken.close()  # type: ignore[attr-defined]
        is_whole = stop is None and not is_bad
        if heard != (expected if is_whole else expected[: len(heard)]):
            self.wrong.append(f"{how} {text!r}, seed {seed}")
        with self._lock:
            self.made += len(heard)
            self.failed += is_bad and stop is None
            self.cancelled += stop is not None

    def _expected(self, how: str, text: str, seed: int) -> list[str]:
        key = (how, text, seed)
        with self._lock:
            if key not in self._known:
                self._known[key] = list(self._pieces(self.alone, *key))
            return self._known[key]

    def _pieces(self, engine: GptSovits, how: str, text: str, seed: int) -> Iterator[str]:
        """Yield the digests of utterances, or of the pieces of a stream."""
        method = engine.stream if how == "stream" else engine.speak
        for audio in method(text, self.voiceprint, language="en", seed=seed):
            yield hashlib.sha256(audio.samples.tobytes()).hexdigest()


def leftovers() -> list[str]:
    """Describe threads, rows and callers of decoders that still exist."""
    for thread in threading.enumerate():
        if thread.name == "t2s":
            thread.join(10)
    gc.collect()
    found = [repr(one) for one in gc.get_objects() if type(one) in (Row, Caller)]
    return found + [repr(one) for one in threading.enumerate() if one.name == "t2s"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        network = tiny_network.unpack(Path(scratch) / "network")
        sources = replace(tiny_network.checkpoints(network), bert=None)
        convert(sources, Path(scratch) / "bundle", precision="int8")
        bundle = Bundle(Path(scratch) / "bundle", threads=2, cpu_only=True)
        speakers = Speakers.create(bundle, network, rows=8)
        first = args.sentences // 5
        speakers.run(first, threads=args.threads, seed=args.seed)
        memory = resident_memory()
        speakers.run(args.sentences - first, threads=args.threads, seed=args.seed + args.threads)
        left, growth = leftovers(), resident_memory() - memory
    print(
        f"{speakers.made} utterances and pieces, {speakers.cancelled} texts left early, "
        f"{speakers.failed} texts failed; {len(speakers.wrong)} differ from their single run"
    )
    print(f"left over: {left or 'nothing'}; memory {growth:+.1f} MB since the first fifth")
    return int(bool(speakers.wrong or left) or growth > 30)


if __name__ == "__main__":
    sys.exit(main())
