"""The GPT-SoVITS implementation of the Voice interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from core.audio.waveform import Audio
from core.errors import Misconfigured, Refused, raising
from core.voice import SpeechChunk, Voiceprint
from core.voice.gpt_sovits import reference as analysis
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.kv_cache import rows_for
from core.voice.gpt_sovits.sampling import Sampling
from core.voice.gpt_sovits.speech_run import Prompt, Sentence, SpeechRun, ThreadPools
from core.voice.gpt_sovits.t2s import Decoder
from core.voice.gpt_sovits.text_features import (
    Phrase,
    TextFeatures,
    TextFrontend,
    original_text,
    phoneme_ids,
)

_REVISION = 1
"""Incremented whenever the same bundle and seed give other samples than before."""


class VoiceTraits(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a voiceprint: `Prompt` as little-endian bytes, `bert` empty if all zeros."""

    timbre: bytes
    codes: bytes
    phones: bytes
    bert: bytes


class GptSovits:
    """A converted model. Several threads may use it at once."""

    def __init__(
        self,
        bundle: Bundle,
        text: TextFrontend,
        *,
        sampling: Sampling | None = None,
        guard: Guard | None = None,
        rows: int | None = None,
    ) -> None:
        """`rows`: how many sentences are decoded at once, by default what the device allows."""
        self._bundle = bundle
        self._text = text
        self._features = TextFeatures(bundle)
        self._sampling = sampling or Sampling()
        self._guard = guard or Guard()
        self._decoder = Decoder(bundle, rows=rows or rows_for(bundle))
        self._pools = ThreadPools(bundle.threads)

    @property
    def name(self) -> str:
        return f"gpt-sovits {self._bundle.spec.version}"

    @property
    def fingerprint(self) -> str:
        return f"{self._bundle.fingerprint}/{_REVISION}"

    @property
    def rate(self) -> int:
        return self._bundle.spec.rate

    @property
    def languages(self) -> frozenset[str]:
        return self._text.languages

    @property
    def callers(self) -> int:
        """All rows are taken while one sentence for each thread is synthesised."""
        return self._decoder.rows + self._bundle.threads

    @property
    def hardware(self) -> str:
        """The number of rows and the device, for people."""
        return f"decodes {self._decoder.rows} sentences at once on {self._bundle.device}"

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        """Learn a voice from 3 to 10 s of speech; without a transcript, only its timbre.

        Raises Refused AUDIO_TOO_SHORT, AUDIO_TOO_LONG, LANGUAGE_UNSUPPORTED; Misconfigured
        MODEL_INVALID.
        """
        return self.enrol_several([reference], transcript, language)

    def enrol_several(
        self, recordings: Sequence[Audio], transcript: str, language: str
    ) -> Voiceprint:
        """Do the same, with the mean timbre of all recordings.

        All but the first may have any length from 0.1 s.
        """
        reference = recordings[0]
        spans = tuple(span for phrase in self._read(transcript, language) for span in phrase)
        codes = (
            analysis.semantic_tokens(self._bundle, reference) if spans else np.zeros(0, np.int64)
        )
        bert = self._features(spans) if spans else np.zeros(0, np.float32)
        traits = VoiceTraits(
            timbre=analysis.mean_timbre(self._bundle, recordings).tobytes(),
            codes=codes.tobytes(),
            phones=phoneme_ids(spans).tobytes(),
            bert=bert.tobytes() if bert.any() else b"",
        )
        return Voiceprint(fingerprint=self.fingerprint, data=msgspec.msgpack.encode(traits))

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        """Speak a text, see the Voice interface.

        Its sentences are decoded together, and with those of other calls.

        Also raises Refused TEXT_TOO_LONG, Failed SPEECH_UNSTABLE, Misconfigured MODEL_INVALID.
        """
        phrases, prompt = self._phrases(text, language), self._prompt(voiceprint)
        sentences = [self._sentence(phrase, prompt, language) for phrase in phrases]
        utterances = self._speech_run(prompt).speak(sentences, speed=speed, seed=seed)
        for sentence, utterance in zip(sentences, utterances, strict=True):
            audio = utterance.audio
            yield SpeechChunk(audio.samples, audio.rate, sentence.text, utterance.retry_reasons)

    def stream(
        self,
        text: str,
        voiceprint: Voiceprint,
        *,
        language: str,
        speed: float = 1.0,
        seed: int = 0,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[SpeechChunk]:
        """Yield each sentence in pieces, the first as soon as about a second of it is generated.

        Audio that was yielded cannot be replaced, so there are no retries: raises Failed
        SPEECH_UNSTABLE on the first bad sentence. What `check` raises ends it at the next step.
        """
        prompt = self._prompt(voiceprint)
        speech_run = self._speech_run(prompt)
        for i, phrase in enumerate(self._phrases(text, language)):
            sentence = self._sentence(phrase, prompt, language)
            pieces = speech_run.stream(sentence, speed=speed, seed=(seed, i), check=check)
            for number, audio in enumerate(pieces):
                text = "" if number else sentence.text
                yield SpeechChunk(audio.samples, audio.rate, text, is_joined=number > 0)

    def _speech_run(self, prompt: Prompt) -> SpeechRun:
        return SpeechRun(
            self._bundle, self._decoder, self._pools, self._sampling, self._guard, prompt
        )

    def _read(self, text: str, language: str) -> Sequence[Phrase]:
        if language not in self.languages:
            raise Refused("LANGUAGE_UNSUPPORTED", f"{self.name} does not speak {language!r}")
        return self._text(text, language)

    def _phrases(self, text: str, language: str) -> Sequence[Phrase]:
        if phrases := self._read(text, language):
            return phrases
        raise Refused("TEXT_UNSPEAKABLE")

    def _sentence(self, phrase: Phrase, prompt: Prompt, language: str) -> Sentence:
        phones, bert = phoneme_ids(phrase), self._features(phrase)
        limit = self._bundle.spec.t2s.positions - len(prompt.phones)
        if len(phones) > limit:
            what = f"A sentence has {len(phones)} phonemes, at most {limit} are possible: split it."
            raise Refused("TEXT_TOO_LONG", what)
        prompted = np.concatenate([prompt.phones, phones])
        if len(prompt.phones):
            bert = np.concatenate([prompt.bert, bert])
        is_fixed = any(span.is_fixed for span in phrase)
        return Sentence(phones, prompted, bert, original_text(phrase), language, is_fixed)

    def _prompt(self, voiceprint: Voiceprint) -> Prompt:
        if voiceprint.fingerprint != self.fingerprint:
            what = "The voiceprint was made by another engine or model: enrol the voice again."
            raise Misconfigured("MODEL_INVALID", what)
        damaged = Misconfigured(
            "MODEL_INVALID", "The voiceprint is damaged: enrol the voice again."
        )
        with raising(damaged, on=(msgspec.DecodeError, ValueError)):
            traits = msgspec.msgpack.decode(voiceprint.data, type=VoiceTraits)
            ids, width = np.frombuffer(traits.phones, "<i8"), self._bundle.spec.t2s.bert
            bert = np.frombuffer(traits.bert, "<f4").reshape(-1, width)
            if not len(bert):
                bert = np.zeros((len(ids), width), np.float32)
            timbre = np.frombuffer(traits.timbre, "<f4").reshape(1, -1, 1)
            return Prompt(timbre, np.frombuffer(traits.codes, "<i8"), ids, bert)
