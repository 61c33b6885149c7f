"""Speaks the sentences of one text: T2S in batches, SoVITS in parallel, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples
from core.errors import Failed
from core.voice.gpt_sovits import synthesis
from core.voice.gpt_sovits.batch import Row, T2SInput
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import Sampler, Sampling
from core.voice.gpt_sovits.streaming import SentenceStream
from core.voice.gpt_sovits.t2s import Caller, Decoder

Float = NDArray[np.float32]
Ids = NDArray[np.int64]
_TOKEN_SEED, _NOISE_SEED = 0, 1
"""Part of each seed, so that token sampling and noise do not use the same random numbers."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The contents of a voiceprint; all but `timbre` are empty without a transcript."""

    timbre: Float
    """(1, gin, 1)."""
    codes: Ids
    """Semantic tokens of the reference."""
    phones: Ids
    """Phoneme ids of the transcript."""
    bert: Float
    """BERT features of the transcript, (phones, features)."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence to speak."""

    phones: Ids
    """Phoneme ids of the sentence, the input of SoVITS."""
    prompted_phones: Ids
    """Phoneme ids of prompt and sentence, the input of T2S."""
    bert: Float
    """BERT features of `prompted_phones`, (phones, features)."""
    text: str
    """The sentence as written."""
    language: str
    is_fixed: bool = False
    """Whether phonemes of it are fixed, so that a recogniser may write other words."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """The audio of one sentence."""

    audio: Audio
    retry_reasons: tuple[str, ...] = ()
    """Why each rejected attempt was rejected."""


class ThreadPools:
    """Threads shared by all texts. Sentences wait for vocoder pieces, so each kind has a pool."""

    def __init__(self, threads: int) -> None:
        self.sentences = ThreadPoolExecutor(threads, "sentence")
        self.pieces = ThreadPoolExecutor(threads, "vocoder")


@dataclass(frozen=True, slots=True)
class SpeechRun:
    """Speaks sentences in one voice."""

    bundle: Bundle
    decoder: Decoder
    pools: ThreadPools
    sampling: Sampling
    guard: Guard
    prompt: Prompt

    def speak(
        self, sentences: Sequence[Sentence], *, speed: float, seed: int
    ) -> Iterator[Utterance]:
        """Yield the utterances in order, each as soon as it and its predecessors pass the guard.

        Raises Failed SPEECH_UNSTABLE or OUTPUT_SILENT if every attempt at a sentence is rejected.
        """
        with self.decoder.caller() as caller:
            text = _Text(self, caller, sentences, speed, seed)
            try:
                yield from text.utterances()
            finally:
                text.cancel()

    def stream(
        self,
        sentence: Sentence,
        *,
        speed: float,
        seed: tuple[int, ...],
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[Audio]:
        """Yield the audio of one sentence in pieces while its tokens are generated. What `check`
        raises ends it."""
        noise = (*seed, _NOISE_SEED)
        stream = SentenceStream(
            self.bundle, sentence.phones, self.prompt.timbre, speed=speed, seed=noise
        )
        with self.decoder.caller(streams=True) as caller:
            # The row is held until the first piece is heard, so that no step delays the piece.
            inputs = self.t2s_input(sentence, (*seed, _TOKEN_SEED))
            row = caller.submit(inputs, hold_at=stream.needed)
            is_final = False
            while not is_final:
                needed = stream.needed
                tokens = row.wait(needed, check)
                is_final = len(tokens) < needed or needed == self.sampling.limit
                if fault := self._fault_in_stream(row, tokens, sentence, is_final=is_final):
                    raise Failed("SPEECH_UNSTABLE", f"The generated sentence {fault}.")
                piece = stream.next_piece(tokens, final=is_final)
                caller.resume(row)
                yield Audio(limit_to_full_scale(piece), self.bundle.spec.rate)

    def _fault_in_stream(
        self, row: Row, tokens: list[int], sentence: Sentence, *, is_final: bool
    ) -> str:
        if is_final:
            phones = len(sentence.phones)
            return self.guard.check_tokens(tokens, phones, ended=row.sampler.ended)
        return "repeats itself" if self.guard.is_looping(tokens) else ""

    def t2s_input(self, sentence: Sentence, seed: tuple[int, ...]) -> T2SInput:
        vocabulary = self.bundle.spec.t2s.vocabulary
        sampler = Sampler.create(self.sampling, self.prompt.codes, vocabulary, seed)
        return T2SInput(sentence.prompted_phones, sentence.bert, self.prompt.codes, sampler)

    def synthesise(
        self, sentence: Sentence, tokens: list[int], speed: float, seed: tuple[int, ...]
    ) -> Audio:
        """Compute the waveform of a sentence from its semantic tokens."""
        bundle, timbre = self.bundle, self.prompt.timbre
        latent = synthesis.encode(bundle, np.array(tokens, np.int64), sentence.phones, timbre)
        latent = synthesis.change_speed(latent, speed)
        noise = synthesis.make_noise(bundle, latent.shape[1], seed)
        z = synthesis.flow(bundle, latent, noise, timbre)
        wave = synthesis.vocode(bundle, z, timbre, self.pools.pieces)
        return Audio(limit_to_full_scale(wave), bundle.spec.rate)


def limit_to_full_scale(wave: Samples) -> Samples:
    """Scale a waveform down if its peak exceeds 1."""
    peak = float(np.abs(wave).max(initial=0))
    return wave / np.float32(peak) if peak > 1 else wave


@dataclass(slots=True)
class _Task:
    index: int
    sentence: Sentence
    faults: list[str] = field(default_factory=list)
    wave: Future[Audio] | None = None
    outcome: Utterance | Exception | None = None


class _Text:
    """The sentences of one text while they are decoded and synthesised.

    Other threads decode and synthesise; what is to be done next is decided by that of the caller.
    """

    def __init__(
        self,
        speech_run: SpeechRun,
        caller: Caller,
        sentences: Sequence[Sentence],
        speed: float,
        seed: int,
    ) -> None:
        self._run = speech_run
        self._caller = caller
        self._speed = speed
        self._seed = seed
        self._tasks = deque(_Task(i, sentence) for i, sentence in enumerate(sentences))
        """Those whose utterances have not been yielded."""
        self._done: SimpleQueue[tuple[_Task, Callable[[_Task, Any], None], Future[Any]]]
        self._done = SimpleQueue()
        """What other threads have done for a task, and what takes the result."""

    def utterances(self) -> Iterator[Utterance]:
        for task in self._tasks:
            self._decode(task)
        while self._tasks:
            while (outcome := self._tasks[0].outcome) is None:
                self._advance(*self._done.get())
            self._tasks.popleft()
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def cancel(self) -> None:
        """Cancel the synthesis of sentences that the caller no longer needs."""
        for task in self._tasks:
            if task.wave:
                task.wave.cancel()

    def _advance(self, task: _Task, take: Callable[[_Task, Any], None], done: Future[Any]) -> None:
        """Take a result. An error is raised when it is the turn of its sentence."""
        try:
            take(task, done.result())
        except Exception as exc:
            task.outcome = exc

    def _then(self, work: Future[Any], task: _Task, take: Callable[[_Task, Any], None]) -> None:
        work.add_done_callback(lambda done: self._done.put((task, take, done)))

    def _decode(self, task: _Task) -> None:
        seed = (self._seed, task.index, _TOKEN_SEED, len(task.faults))
        inputs = self._run.t2s_input(task.sentence, seed)
        row = self._caller.submit(inputs, first=bool(task.faults))
        self._then(row.ended, task, self._synthesise)

    def _synthesise(self, task: _Task, row: Sampler) -> None:
        """Synthesise decoded tokens that pass the guard; decode the sentence again otherwise."""
        run, phones = self._run, len(task.sentence.phones)
        if fault := run.guard.check_tokens(row.tokens, phones, ended=row.ended):
            return self._retry(task, fault, "SPEECH_UNSTABLE")
        seed = (self._seed, task.index, _NOISE_SEED)
        arguments = (task.sentence, row.tokens, self._speed, seed)
        task.wave = run.pools.sentences.submit(run.synthesise, *arguments)
        run.decoder.give_way_to(task.wave)
        self._then(task.wave, task, self._finish)

    def _finish(self, task: _Task, audio: Audio) -> None:
        """Accept audio that passes the guard; decode the sentence again otherwise."""
        guard, sentence, task.wave = self._run.guard, task.sentence, None
        if fault := guard.check_audio(audio):
            return self._retry(task, fault, "OUTPUT_SILENT")
        words = "" if sentence.is_fixed else sentence.text
        if words and (fault := guard.check_words(audio, words, sentence.language)):
            return self._retry(task, fault, "SPEECH_UNSTABLE")
        task.outcome = Utterance(audio, tuple(task.faults))

    def _retry(self, task: _Task, fault: str, code: str) -> None:
        task.faults.append(fault)
        if len(task.faults) > self._run.guard.max_retries:
            attempts = f"{len(task.faults)} attempts failed"
            raise Failed(code, f"Sentence {task.index + 1}: {attempts}; the last one {fault}.")
        self._decode(task)
