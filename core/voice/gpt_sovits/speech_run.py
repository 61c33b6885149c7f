"""Saying the sentences of one text: T2S in batches, SoVITS in parallel, in order, guarded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples
from core.errors import Failed
from core.voice.gpt_sovits import synthesis
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import Chooser, Sampling
from core.voice.gpt_sovits.streaming import Stream
from core.voice.gpt_sovits.t2s import Decoder, Sentence

Float = NDArray[np.float32]
Ids = NDArray[np.int64]
_CHOICE, _NOISE = 0, 1
"""Seeds of tokens and of noise must differ, or both draw the same numbers."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a voiceprint says of a voice; codes and phones empty where only its timbre is known."""

    timbre: Float
    codes: Ids
    phones: Ids
    bert: Float


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence to say."""

    phones: Ids
    """Its own, which SoVITS wants."""
    read: Ids
    """The prompt's and its own, which T2S wants; `bert` (read, features) likewise."""
    bert: Float
    text: str
    """As it was written."""
    language: str


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence, said."""

    audio: Audio
    redrawn: tuple[str, ...] = ()
    """What was wrong with earlier draws."""


class Pools:
    """Threads shared by all texts in work: sentences wait for pieces, never for each other."""

    def __init__(self, threads: int) -> None:
        self.sentences = ThreadPoolExecutor(threads, "sentence")
        self.pieces = ThreadPoolExecutor(threads, "vocoder")


@dataclass(frozen=True, slots=True)
class SpeechRun:
    """Everything that speaking takes but the text."""

    bundle: Bundle
    pools: Pools
    how: Sampling
    guard: Guard
    prompt: Prompt

    def utter(
        self, lines: Sequence[Line], *, rows: int, speed: float, seed: int
    ) -> Iterator[Utterance]:
        """One utterance a line, in order, each as soon as it and those before it are good.

        Raises Failed SPEECH_UNSTABLE or OUTPUT_SILENT when every draw of a line was bad.
        """
        run = _Run(self, lines, speed, seed)
        try:
            yield from run.utterances(Decoder(self.bundle, rows=rows))
        finally:
            run.cancel()

    def stream(self, line: Line, *, speed: float, seed: tuple[int, ...]) -> Iterator[Audio]:
        """Pieces of one line as they become certain."""
        noise = (*seed, _NOISE)
        stream = Stream(self.bundle, line.phones, self.prompt.timbre, speed=speed, seed=noise)
        waiting = deque([(0, self.sentence(line, (*seed, _CHOICE)))])
        for _, chooser in Decoder(self.bundle, rows=1).steps(waiting):
            if chooser.finished:
                fault = self.guard.tokens(chooser.tokens, len(line.phones), ended=chooser.ended)
            elif stream.wants(len(chooser.tokens)):
                fault = "repeats itself" if self.guard.looping(chooser.tokens) else ""
            else:
                continue
            if fault:
                raise Failed("SPEECH_UNSTABLE", f"A sentence {fault}.")
            piece = stream.feed(chooser.tokens, final=chooser.finished)
            yield Audio(levelled(piece), self.bundle.spec.rate)

    def sentence(self, line: Line, seed: tuple[int, ...]) -> Sentence:
        vocabulary = self.bundle.spec.t2s.vocabulary
        chooser = Chooser.of(self.how, self.prompt.codes, vocabulary, seed)
        return Sentence(line.read, line.bert, self.prompt.codes, chooser)

    def audio(self, line: Line, tokens: list[int], speed: float, seed: tuple[int, ...]) -> Audio:
        """Tokens to sound."""
        bundle, timbre = self.bundle, self.prompt.timbre
        latent = synthesis.encode(bundle, np.array(tokens, np.int64), line.phones, timbre)
        latent = synthesis.paced(latent, speed)
        noise = synthesis.noise(bundle, latent.shape[1], seed)
        z = synthesis.flow(bundle, latent, noise, timbre)
        wave = synthesis.vocode(bundle, z, timbre, self.pools.pieces)
        return Audio(levelled(wave), bundle.spec.rate)


def levelled(wave: Samples) -> Samples:
    """Brought down to full scale if it is beyond."""
    peak = float(np.abs(wave).max(initial=0))
    return wave / np.float32(peak) if peak > 1 else wave


@dataclass(slots=True)
class _Task:
    line: Line
    faults: list[str] = field(default_factory=list)
    wave: Future[Audio] | None = None


class _Run:
    """The lines of one text on their way."""

    def __init__(
        self, speech_run: SpeechRun, lines: Sequence[Line], speed: float, seed: int
    ) -> None:
        self._run = speech_run
        self._speed = speed
        self._seed = seed
        self._tasks = [_Task(line) for line in lines]
        self._told = 0
        self._waiting: deque[tuple[int, Sentence]] = deque()
        for i in range(len(lines)):
            self._draw(i)

    def utterances(self, decoder: Decoder) -> Iterator[Utterance]:
        while self._told < len(self._tasks):
            for i, chooser in decoder.decode(self._waiting):
                self._drawn(i, chooser)
                yield from self._ready(wait=False)
            yield from self._ready(wait=True)

    def cancel(self) -> None:
        """Drop what nobody will hear."""
        for task in self._tasks[self._told :]:
            if task.wave:
                task.wave.cancel()

    def _draw(self, i: int) -> None:
        task = self._tasks[i]
        seed = (self._seed, i, _CHOICE, len(task.faults))
        self._waiting.append((i, self._run.sentence(task.line, seed)))

    def _drawn(self, i: int, chooser: Chooser) -> None:
        task, speech_run = self._tasks[i], self._run
        fault = speech_run.guard.tokens(chooser.tokens, len(task.line.phones), ended=chooser.ended)
        if fault:
            return self._redraw(i, fault, "SPEECH_UNSTABLE")
        arguments = (task.line, chooser.tokens, self._speed, (self._seed, i, _NOISE))
        task.wave = speech_run.pools.sentences.submit(speech_run.audio, *arguments)
        return None

    def _ready(self, *, wait: bool) -> Iterator[Utterance]:
        while self._told < len(self._tasks):
            task = self._tasks[self._told]
            if task.wave is None or not (wait or task.wave.done()):
                return
            audio, task.wave = task.wave.result(), None
            guard, line = self._run.guard, task.line
            if fault := guard.sound(audio):
                return self._redraw(self._told, fault, "OUTPUT_SILENT")
            if fault := guard.words(audio, line.text, line.language):
                return self._redraw(self._told, fault, "SPEECH_UNSTABLE")
            self._told += 1
            yield Utterance(audio, tuple(task.faults))

    def _redraw(self, i: int, fault: str, code: str) -> None:
        task = self._tasks[i]
        task.faults.append(fault)
        if len(task.faults) > self._run.guard.redraws:
            draws = f"Sentence {i + 1} {fault}, at the last of {len(task.faults)} draws."
            raise Failed(code, draws)
        self._draw(i)
