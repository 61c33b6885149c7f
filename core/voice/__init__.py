"""The Voice port: a reference recording in, speech in that voice out. One engine a package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from core.audio.waveform import Audio


@dataclass(frozen=True, slots=True)
class Spoken(Audio):
    """A sentence, said."""

    text: str = ""
    """Its words as they stand in the text; empty: it goes on with the sentence before."""
    redrawn: tuple[str, ...] = ()
    """What was wrong with earlier draws, one reason a draw."""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Speaker similarity to the reference by one encoder (cosine, -1..1)."""

    default: float
    """Of the engine's unadapted voice."""
    achieved: float
    """Of the adapted voice, on sentences the search did not use."""
    same_person: float
    """What two recordings of one real person reach on average with this encoder."""

    @property
    def gap_closed(self) -> float:
        """0 = no nearer than the default voice, 1 = as near as the same person."""
        return (self.achieved - self.default) / max(self.same_person - self.default, 1e-6)


class Voiceprint(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine remembers of a voice. Small, cacheable, useless to other engines."""

    fingerprint: str
    """`Voice.fingerprint` of the engine that made it."""
    data: bytes
    match: dict[str, Match] = {}
    """Speaker encoder name -> how near we came, where the engine only approximates."""

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def parse(data: bytes) -> Voiceprint:
        """Raises msgspec.DecodeError on bytes that `dump` did not write."""
        return msgspec.msgpack.decode(data, type=Voiceprint)


class Voice(Protocol):
    @property
    def name(self) -> str:
        """How results name the engine, e.g. `kokoro-adapt (approximate)`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Engine, version and weights: part of every cache key and result."""
        ...

    @property
    def rate(self) -> int:
        """Samples per second of everything `speak` yields."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages it speaks."""
        ...

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        """Learn a voice from 3-10 s of prepared speech; deterministic, may take half a minute.

        Raises Refused LANGUAGE_UNSUPPORTED, Misconfigured MODEL_MISSING or MODEL_INVALID.
        """
        ...

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[Spoken]:
        """One chunk a sentence, in order, without silence added between them.

        The same arguments give the same samples. Raises Refused TEXT_UNSPEAKABLE,
        LANGUAGE_UNSUPPORTED; Failed OUTPUT_SILENT.
        """
        ...
