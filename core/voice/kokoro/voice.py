"""The embedded engine as a `Voice`: enrol a reference recording, then speak in its voice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from core import inference
from core.audio.tempo import change_tempo
from core.audio.waveform import Audio
from core.errors import Failed, Refused
from core.voice import SpeechChunk, Voiceprint
from core.voice.kokoro import model as kokoro_model
from core.voice.kokoro import text as front_end
from core.voice.kokoro.enrol import Enroller
from core.voice.kokoro.render import Renderer, VoiceParams

_VERSION = 4
"""Increment when a stored voiceprint would be spoken differently. If only enrolment changes, stored
voiceprints stay valid, and those of new recordings are found in the new way."""
FINGERPRINT = f"kokoro-adapt/{_VERSION} kokoro-82m-int8/{kokoro_model.SHA256[:16]}"


@dataclass(frozen=True, slots=True)
class KokoroVoice:
    """Kokoro-82M adapted to a reference: it resembles the speaker but is not an exact clone."""

    renderer: Renderer
    enroller: Enroller
    name: str = "kokoro-adapt (approximate)"
    fingerprint: str = FINGERPRINT
    rate: int = kokoro_model.RATE
    languages: frozenset[str] = front_end.LANGUAGES
    callers: int = 1

    @property
    def hardware(self) -> str:
        """The device, for people."""
        found = inference.providers()
        return f"on {'cuda' if found.has_cuda else 'cpu'}: {found.reason}"

    @classmethod
    def load(cls, cache: Path, *, model: Path | None = None, threads: int = 1) -> KokoroVoice:
        """Open the installed model, or the file `model`; a prepared copy is stored in `cache`.

        Raises Misconfigured MODEL_MISSING or MODEL_INVALID.
        """
        renderer = Renderer(kokoro_model.load(cache, model, threads=threads))
        callers = max(1, inference.usable_cpus() // threads)
        return cls(renderer, Enroller.load(renderer, threads=threads), callers=callers)

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        """Return the voiceprint of a reference in any language; its transcript is not used."""
        del transcript, language
        params, match = self.enroller.enrol(reference)
        data = msgspec.msgpack.encode(params)
        return Voiceprint(fingerprint=self.fingerprint, data=data, match=match)

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        del seed  # nothing here is random
        if language not in self.languages:
            supported = ", ".join(sorted(self.languages))
            message = f"This voice speaks {supported}, not {language!r}."
            raise Refused("LANGUAGE_UNSUPPORTED", message)
        if voiceprint.fingerprint != self.fingerprint:
            raise ValueError("The voiceprint was made by another engine: enrol the voice again.")
        params = msgspec.msgpack.decode(voiceprint.data, type=VoiceParams)
        return self._stream(text, params, language, speed)

    def _stream(
        self, text: str, params: VoiceParams, language: str, speed: float
    ) -> Iterator[SpeechChunk]:
        silent = True
        for words, tokens in front_end.split_utterances(text, language):
            silent = False
            # The network at another speed rounds short phonemes to none or to too much.
            audio = change_tempo(self.renderer.render(tokens, params), speed)
            if not np.abs(audio.samples).max(initial=0.0) > 0.01:  # also true of NaN
                raise Failed("OUTPUT_SILENT")
            yield SpeechChunk(audio.samples, audio.rate, words)
        if silent:
            raise Refused("TEXT_UNSPEAKABLE")
