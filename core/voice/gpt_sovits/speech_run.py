"""Speaks the sentences of one text: T2S in batches, SoVITS in parallel, results in order."""

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
from core.voice.gpt_sovits.sampling import Sampler, Sampling
from core.voice.gpt_sovits.streaming import SentenceStream
from core.voice.gpt_sovits.t2s import Decoder, T2SInput

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
    pools: ThreadPools
    sampling: Sampling
    guard: Guard
    prompt: Prompt

    def speak(
        self, sentences: Sequence[Sentence], *, rows: int, speed: float, seed: int
    ) -> Iterator[Utterance]:
        """Yield the utterances in order, each as soon as it and its predecessors pass the guard.

        Raises Failed SPEECH_UNSTABLE or OUTPUT_SILENT if every attempt at a sentence is rejected.
        """
        batch = _Batch(self, sentences, speed, seed)
        try:
            yield from batch.utterances(Decoder(self.bundle, rows=rows))
        finally:
            batch.cancel()

    def stream(self, sentence: Sentence, *, speed: float, seed: tuple[int, ...]) -> Iterator[Audio]:
        """Yield the audio of one sentence in pieces while its tokens are generated."""
        noise = (*seed, _NOISE_SEED)
        stream = SentenceStream(
            self.bundle, sentence.phones, self.prompt.timbre, speed=speed, seed=noise
        )
        waiting = deque([(0, self.t2s_input(sentence, (*seed, _TOKEN_SEED)))])
        for _, row in Decoder(self.bundle, rows=1).steps(waiting):
            if row.finished:
                fault = self.guard.check_tokens(row.tokens, len(sentence.phones), ended=row.ended)
            elif stream.has_piece(len(row.tokens)):
                fault = "repeats itself" if self.guard.is_looping(row.tokens) else ""
            else:
                continue
            if fault:
                raise Failed("SPEECH_UNSTABLE", f"The generated sentence {fault}.")
            piece = stream.next_piece(row.tokens, final=row.finished)
            yield Audio(limit_to_full_scale(piece), self.bundle.spec.rate)

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
    sentence: Sentence
    faults: list[str] = field(default_factory=list)
    wave: Future[Audio] | None = None


class _Batch:
    """The sentences of one text while they are decoded and synthesised."""

    def __init__(
        self, speech_run: SpeechRun, sentences: Sequence[Sentence], speed: float, seed: int
    ) -> None:
        self._run = speech_run
        self._speed = speed
        self._seed = seed
        self._tasks = [_Task(sentence) for sentence in sentences]
        self._yielded = 0
        self._waiting: deque[tuple[int, T2SInput]] = deque()
        for i in range(len(sentences)):
            self._enqueue(i)

    def utterances(self, decoder: Decoder) -> Iterator[Utterance]:
        while self._yielded < len(self._tasks):
            for i, row in decoder.decode(self._waiting):
                self._check_tokens(i, row)
                yield from self._completed(wait=False)
            yield from self._completed(wait=True)

    def cancel(self) -> None:
        """Cancel the synthesis of sentences that the caller no longer needs."""
        for task in self._tasks[self._yielded :]:
            if task.wave:
                task.wave.cancel()

    def _enqueue(self, i: int) -> None:
        task = self._tasks[i]
        seed = (self._seed, i, _TOKEN_SEED, len(task.faults))
        self._waiting.append((i, self._run.t2s_input(task.sentence, seed)))

    def _check_tokens(self, i: int, row: Sampler) -> None:
        """Synthesise decoded tokens that pass the guard; decode the sentence again otherwise."""
        task, run = self._tasks[i], self._run
        phones = len(task.sentence.phones)
        if fault := run.guard.check_tokens(row.tokens, phones, ended=row.ended):
            self._retry(i, fault, "SPEECH_UNSTABLE")
            return
        arguments = (task.sentence, row.tokens, self._speed, (self._seed, i, _NOISE_SEED))
        task.wave = run.pools.sentences.submit(run.synthesise, *arguments)

    def _completed(self, *, wait: bool) -> Iterator[Utterance]:
        """Yield the next utterances in order that are synthesised and pass the guard."""
        while self._yielded < len(self._tasks):
            task = self._tasks[self._yielded]
            if task.wave is None or not (wait or task.wave.done()):
                return
            audio, task.wave = task.wave.result(), None
            guard, sentence = self._run.guard, task.sentence
            if fault := guard.check_audio(audio):
                return self._retry(self._yielded, fault, "OUTPUT_SILENT")
            if fault := guard.check_words(audio, sentence.text, sentence.language):
                return self._retry(self._yielded, fault, "SPEECH_UNSTABLE")
            self._yielded += 1
            yield Utterance(audio, tuple(task.faults))

    def _retry(self, i: int, fault: str, code: str) -> None:
        task = self._tasks[i]
        task.faults.append(fault)
        if len(task.faults) > self._run.guard.max_retries:
            attempts = f"{len(task.faults)} attempts failed"
            raise Failed(code, f"Sentence {i + 1}: {attempts}; the last one {fault}.")
        self._enqueue(i)
