"""The interface of a voice engine: it learns a voice from a recording and speaks text in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import msgspec

from core.audio.waveform import Audio


@dataclass(frozen=True, slots=True)
class SpeechChunk(Audio):
    """Speech of one sentence, or of a part of it where an engine splits long sentences."""

    text: str = ""
    """The sentence as written; empty if this chunk continues the previous one."""
    retry_reasons: tuple[str, ...] = ()
    """Why each rejected attempt at this sentence was rejected."""
    is_joined: bool = False
    """It follows the previous chunk without a pause."""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Speaker similarity to the reference by one encoder (cosine, -1..1)."""

    default: float
    """Similarity of the engine's voice before adaptation."""
    achieved: float
    """Similarity of the adapted voice, measured on sentences that the search did not use."""
    same_person: float
    """Mean similarity of two recordings of one real person."""


class Voiceprint(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's own description of a voice: a few kilobytes that can be cached."""

    fingerprint: str
    """`Voice.fingerprint` of the engine that made it, the only one that can read it."""
    data: bytes
    match: dict[str, Match] = {}
    """Similarity by speaker encoder name; empty if the engine does not approximate."""

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def parse(data: bytes) -> Voiceprint:
        """Read what `dump` wrote. Raises msgspec.DecodeError on anything else."""
        return msgspec.msgpack.decode(data, type=Voiceprint)


class Voice(Protocol):
    @property
    def name(self) -> str:
        """Name of the engine in results, e.g. `kokoro-adapt (approximate)`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies engine, version and weights in cache keys and results."""
        ...

    @property
    def rate(self) -> int:
        """Sample rate in Hz of everything `speak` yields."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """Languages it speaks, as ISO 639-1 codes (and `yue`)."""
        ...

    @property
    def callers(self) -> int:
        """Number of threads that may speak at once with a gain: the cores for an engine that speaks
        in one thread, the rows of a batch for one that speaks for several callers together."""
        ...

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        """Learn a voice from 3 to 10 s of prepared speech. Deterministic; up to half a minute.

        Raises Refused LANGUAGE_UNSUPPORTED, Misconfigured MODEL_MISSING or MODEL_INVALID.
        """
        ...

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        """Yield the speech of each sentence in order, without pauses between them.

        The same arguments give the same samples. Raises Refused TEXT_UNSPEAKABLE,
        LANGUAGE_UNSUPPORTED; Failed OUTPUT_SILENT.
        """
        ...


@runtime_checkable
class LearnsFromSeveral(Protocol):
    """A `Voice` that can learn from several recordings of one speaker."""

    def enrol_several(
        self, recordings: Sequence[Audio], transcript: str, language: str
    ) -> Voiceprint:
        """Learn a voice as `Voice.enrol` does. The transcript is that of the first recording."""
        ...


@runtime_checkable
class SpeaksInPieces(Protocol):
    """A `Voice` that gives the beginning of a sentence before its end is made."""

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
        """As `Voice.speak`, in pieces. What was given cannot be spoken again: raises Failed
        SPEECH_UNSTABLE for the first bad sentence. `check` is called several times a second while
        the engine works, and ends the speech by raising."""
        ...


def speak_in_pieces(
    voice: Voice,
    text: str,
    voiceprint: Voiceprint,
    *,
    language: str,
    speed: float = 1.0,
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Generator[SpeechChunk]:
    """Yield speech as early as the engine gives it: in pieces, or else sentence by sentence.

    `check` is called at least after each sentence. Raises what it raises, and what
    `SpeaksInPieces.stream` or `Voice.speak` raises.
    """
    if isinstance(voice, SpeaksInPieces):
        yield from voice.stream(
            text, voiceprint, language=language, speed=speed, seed=seed, check=check
        )
        return
    for chunk in voice.speak(text, voiceprint, language=language, speed=speed, seed=seed):
        check()
        yield chunk
