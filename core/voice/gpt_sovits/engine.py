"""GPT-SoVITS behind the Voice port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from core.audio.waveform import Audio
from core.errors import Misconfigured, Refused, raising
from core.voice import Spoken, Voiceprint
from core.voice.gpt_sovits import reference as analysis
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import Sampling
from core.voice.gpt_sovits.speech_run import Line, Pools, Prompt, SpeechRun
from core.voice.gpt_sovits.text_features import Phrase, TextFeatures, TextFrontend, phones, written

_REVISION = 1
"""Raised whenever the same bundle and seed give other samples than before."""


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a voiceprint. Arrays as little-endian bytes; `bert` empty where all zeros."""

    timbre: bytes
    codes: bytes
    phones: bytes
    bert: bytes


class GptSovits:
    """One converted model. May be used by several threads at once."""

    def __init__(
        self,
        bundle: Bundle,
        text: TextFrontend,
        *,
        how: Sampling | None = None,
        guard: Guard | None = None,
        rows: int = 8,
    ) -> None:
        self._bundle = bundle
        self._text = text
        self._features = TextFeatures(bundle)
        self._how = how or Sampling()
        self._guard = guard or Guard()
        self._rows = rows
        self._pools = Pools(bundle.threads)

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

    def enrol(
        self,
        reference: Audio,
        transcript: str,
        language: str,
        *,
        auxiliary: Sequence[Audio] = (),
    ) -> Voiceprint:
        """Learn a voice from 3 to 10 s; without a transcript, its timbre only.

        `auxiliary` recordings, of any length, are averaged into the timbre. Raises Refused
        AUDIO_TOO_SHORT, AUDIO_TOO_LONG, LANGUAGE_UNSUPPORTED; Misconfigured MODEL_INVALID.
        """
        spans = tuple(span for phrase in self._read(transcript, language) for span in phrase)
        codes = analysis.codes(self._bundle, reference) if spans else np.zeros(0, np.int64)
        bert = self._features(spans) if spans else np.zeros(0, np.float32)
        traits = Traits(
            timbre=analysis.timbre(self._bundle, [reference, *auxiliary]).tobytes(),
            codes=codes.tobytes(),
            phones=phones(spans).tobytes(),
            bert=bert.tobytes() if bert.any() else b"",
        )
        return Voiceprint(fingerprint=self.fingerprint, data=msgspec.msgpack.encode(traits))

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[Spoken]:
        """See the Voice port; sentences are decoded together. Further: Failed SPEECH_UNSTABLE where
        redrawing does not help."""
        phrases, prompt = self._sayable(text, language), self._prompt(voiceprint)
        lines = [self._line(phrase, prompt, language) for phrase in phrases]
        speech_run = SpeechRun(self._bundle, self._pools, self._how, self._guard, prompt)
        said = speech_run.utter(lines, rows=self._rows, speed=speed, seed=seed)
        for phrase, utterance in zip(phrases, said, strict=True):
            audio = utterance.audio
            yield Spoken(audio.samples, audio.rate, written(phrase), utterance.redrawn)

    def stream(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[Audio]:
        """`speak` in pieces: the first leaves after about a second's worth of tokens, the rest of
        the sentence follows while it is generated. What has left cannot be drawn again, so a
        sentence that goes wrong ends in Failed SPEECH_UNSTABLE."""
        prompt = self._prompt(voiceprint)
        speech_run = SpeechRun(self._bundle, self._pools, self._how, self._guard, prompt)
        for i, phrase in enumerate(self._sayable(text, language)):
            line = self._line(phrase, prompt, language)
            yield from speech_run.stream(line, speed=speed, seed=(seed, i))

    def _read(self, text: str, language: str) -> Sequence[Phrase]:
        if language not in self.languages:
            raise Refused("LANGUAGE_UNSUPPORTED", f"{self.name} does not speak {language!r}")
        return self._text(text, language)

    def _sayable(self, text: str, language: str) -> Sequence[Phrase]:
        if phrases := self._read(text, language):
            return phrases
        raise Refused("TEXT_UNSPEAKABLE")

    def _line(self, phrase: Phrase, prompt: Prompt, language: str) -> Line:
        """T2S reads the prompt's text and the sentence's as one."""
        own, text = phones(phrase), self._features(phrase)
        room = self._bundle.spec.t2s.positions - len(prompt.phones)
        if len(own) > room:
            raise Refused("TEXT_TOO_LONG", f"A sentence of {len(own)} phonemes: at most {room}.")
        both = np.concatenate([prompt.bert, text]) if len(prompt.phones) else text
        read = np.concatenate([prompt.phones, own])
        return Line(own, read, both, written(phrase), language)

    def _prompt(self, voiceprint: Voiceprint) -> Prompt:
        if voiceprint.fingerprint != self.fingerprint:
            what = "The voiceprint was made by another engine or model: enrol the voice again."
            raise Misconfigured("MODEL_INVALID", what)
        damaged = Misconfigured(
            "MODEL_INVALID", "The voiceprint is damaged: enrol the voice again."
        )
        with raising(damaged, on=(msgspec.DecodeError, ValueError)):
            traits = msgspec.msgpack.decode(voiceprint.data, type=Traits)
            ids, width = np.frombuffer(traits.phones, "<i8"), self._bundle.spec.t2s.bert
            bert = np.frombuffer(traits.bert, "<f4").reshape(-1, width)
            if not len(bert):
                bert = np.zeros((len(ids), width), np.float32)
            timbre = np.frombuffer(traits.timbre, "<f4").reshape(1, -1, 1)
            return Prompt(timbre, np.frombuffer(traits.codes, "<i8"), ids, bert)
