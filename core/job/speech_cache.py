"""Spoken items, kept so that the same words need not be spoken again (VOICEDROP_SPEECH_CACHE).

    voices/<recording>/speech/<name>.sealed   msgpack: `_Speech`; in Redis under the same name

What is kept is what the engine gave, and the gain that levels it: without pause, watermark and
label, which each item gets for its own job. Unmarked speech is a liability. So nothing is kept
unless the operator asks for it, each file is sealed under the key of the voice
(core/crypto/voice_key.py), which is destroyed when consent is withdrawn, and has a lifetime, which
readers and sweeps enforce.

`name` is a digest of everything on which the samples depend, keyed with the key of the voice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import numpy as np

from core import inference
from core.crypto import sealing
from core.crypto.sealing import Context
from core.crypto.voice_key import OpenVoiceKey, find_voice_key
from core.documents import canonical
from core.errors import JobError, Refused
from core.job.runtime import Runtime, Stopwatch
from core.manifest.resolve import Item
from core.storage.cache import LIMIT, Cache, Entry
from core.storage.object_keys import SPOKEN, VOICES, is_spoken_key
from core.version import VERSION
from core.voice import SpeechChunk, Voiceprint

log = logging.getLogger("voicedrop.cache")

_SAMPLES = np.dtype("<f4")


class _Chunk(msgspec.Struct, frozen=True, array_like=True):
    samples: bytes
    rate: int
    text: str
    retry_reasons: tuple[str, ...]
    is_joined: bool = False

    @staticmethod
    def of(speech: SpeechChunk) -> _Chunk:
        samples = np.asarray(speech.samples, _SAMPLES).tobytes()
        return _Chunk(samples, speech.rate, speech.text, speech.retry_reasons, speech.is_joined)

    def speech(self) -> SpeechChunk:
        """Raises ValueError if a sample is incomplete."""
        samples = np.frombuffer(self.samples, _SAMPLES).astype(np.float32, copy=False)
        return SpeechChunk(samples, self.rate, self.text, self.retry_reasons, self.is_joined)


class _Speech(msgspec.Struct, frozen=True):
    made: float
    """Unix seconds by the clock of the control bucket."""
    gain: float
    chunks: list[_Chunk]


@dataclass(frozen=True, slots=True)
class Spoken:
    """The speech of an item, as the engine gave it."""

    chunks: list[SpeechChunk]
    gain: float
    """Factor that normalises the loudness of the chunks together."""


@dataclass(frozen=True, slots=True)
class SpeechCache:
    """The spoken items of one voice. What cannot be kept or read is spoken; it is no error."""

    recording: str
    """SHA-256."""
    voiceprint: Voiceprint
    runtime: Runtime
    cache: Cache
    key: OpenVoiceKey

    def read(self, item: Item, seed: int, stopwatch: Stopwatch) -> Spoken | None:
        """Return the speech of an item; None if it is not kept, or cannot be believed."""
        name = self._name(item, seed)
        with stopwatch.stage("cache"):
            try:
                entry = self.cache.get(self.recording, name)
                return self._open(entry, name) if entry else None
            except (JobError, msgspec.DecodeError, ValueError) as exc:
                _warn("A spoken item that is kept cannot be used: it is spoken again.", exc)
                return None

    @contextmanager
    def keeping(
        self, item: Item, seed: int, spoken: Spoken, stopwatch: Stopwatch
    ) -> Iterator[None]:
        """Keep the speech of an item, unless the block refuses it.

        In the block consent is read again. That is done after the speech was stored, because a
        withdrawal is noted before it deletes what is kept: one of the two sees the other.
        """
        name = self._name(item, seed)
        with stopwatch.stage("cache"):
            try:
                self._put(name, spoken)
            except JobError as exc:
                _warn("A spoken item cannot be kept.", exc)
        try:
            yield
        except Refused:
            self._forget(name)
            raise

    def _put(self, name: str, spoken: Spoken) -> None:
        chunks, now = list(map(_Chunk.of, spoken.chunks)), self.runtime.control.now()
        data = msgspec.msgpack.encode(_Speech(made=now, gain=spoken.gain, chunks=chunks))
        sealed = sealing.seal(data, _context(name), self.key.wrapping)
        if len(sealed.body) <= LIMIT:
            entry = Entry(sealed.body, sealing.envelope_metadata(sealed.envelope))
            self.cache.put(self.recording, name, entry)

    def _forget(self, name: str) -> None:
        self.cache.forget(self.recording, name)

    def _open(self, entry: Entry, name: str) -> Spoken | None:
        """Raises Refused SEAL_INVALID, Misconfigured KEY_DESTROYED, DecodeError, ValueError."""
        keys = self.key.wrapping
        data = sealing.open_object(entry.body, entry.metadata, _context(name), keys)
        speech = msgspec.msgpack.decode(data, type=_Speech)
        if self.runtime.control.now() - speech.made >= self.runtime.cache_seconds:
            return None
        return Spoken([chunk.speech() for chunk in speech.chunks], speech.gain)

    def _name(self, item: Item, seed: int) -> str:
        runtime = self.runtime
        parts = {
            "item": [item.text, item.language, item.speed, seed],
            "recording": self.recording,
            "voiceprint": hashlib.sha256(self.voiceprint.dump()).hexdigest(),
            "engine": runtime.fingerprint,
            "words": runtime.transcribe is not None,  # the guard rejects more
            "vnni": inference.has_vnni(),  # other processors round differently
            "processor": VERSION,
        }
        return SPOKEN + self.key.name(canonical.dump(parts))


def open_speech_cache(
    recording: str, voiceprint: Voiceprint, runtime: Runtime
) -> SpeechCache | None:
    """Return the spoken items of a voice; None if none are to be kept, or the voice has no key."""
    cache = runtime.spoken
    key = find_voice_key(recording, runtime.control, runtime.keys) if cache else None
    if cache is None or key is None:
        return None
    return SpeechCache(recording, voiceprint, runtime, cache, key)


def remove_expired(runtime: Runtime) -> int:
    """Delete the spoken items in the control bucket whose lifetime is over; return their number.
    Redis deletes its own."""
    before, count = runtime.control.now() - runtime.cache_seconds, 0
    for info in runtime.control.list(VOICES):
        if is_spoken_key(info.key) and info.modified <= before:
            runtime.control.delete(info.key)
            count += 1
    return count


def _context(name: str) -> Context:
    return Context(job="spoken items", item=name, mt="application/msgpack")


def _warn(what: str, error: Exception) -> None:
    code = error.code if isinstance(error, JobError) else type(error).__name__
    log.warning(what, extra={"code": code})
