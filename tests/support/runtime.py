"""A runtime over three folders with a synthetic voice, and jobs for it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import pipeline
from core.audio.waveform import Audio
from core.consent import records
from core.crypto import keys
from core.errors import Refused
from core.job.runtime import Finished, Runtime, Sharded
from core.result.document import Result
from core.settings import Settings
from core.storage.local import LocalStore
from core.text.annotated import to_written
from core.trace import registry
from core.trace.registry import Mark
from core.voice import Match, SpeechChunk, Voice, Voiceprint
from core.voice.kokoro.text import LANGUAGES, KokoroFrontend
from handlers.jobs import carry_out

WATERMARK_KEY = os.urandom(32)
REFERENCE = Path(__file__).parents[1] / "data" / "speech" / "ref_367.flac"


@dataclass
class BuzzVoice:
    """A Voice that speaks every text as filtered pulses: deterministic, broad-band and fast.

    The texts `!silence`, `!bug`, `!zeros` and `!unspeakable` make it fail in different ways.
    """

    name: str = "buzz"
    fingerprint: str = "buzz/1"
    rate: int = 24_000
    languages: frozenset[str] = LANGUAGES
    callers: int = 1
    seconds_each: float = 0.0
    """Duration of each sentence in seconds, which gives other workers and signals time."""
    enrolled: list[str] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        self.enrolled.append(transcript)
        match = {"ge2e": Match(default=0.5, achieved=0.7, same_person=0.9)}
        return Voiceprint(fingerprint=self.fingerprint, data=b"buzz", match=match)

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        self.spoken.append(text)
        if text == "!silence":
            return
        if text == "!bug":
            raise ZeroDivisionError(text)
        if text == "!zeros":
            yield SpeechChunk(np.zeros(self.rate * 2, np.float32), self.rate)
            return
        if text == "!unspeakable":
            raise Refused("TEXT_UNSPEAKABLE", pointer="text")
        for sentence in filter(None, text.split(". ")):
            time.sleep(self.seconds_each)
            sound = synthetic_speech(len(sentence) / 12 / speed, self.rate, seed)
            yield SpeechChunk(sound, self.rate, to_written(sentence))


def synthetic_speech(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """Return speech-like sound: pulses of varying pitch and noise, in syllables of 0.25 s."""
    n = int(max(seconds, 0.4) * rate)
    t = np.arange(n) / rate
    rng = np.random.default_rng(seed)
    phase = np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / rate
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source = pulses + 0.02 * rng.standard_normal(n)
    spectrum = np.fft.rfft(source)
    f = np.fft.rfftfreq(n, 1 / rate)
    tilt = 1 / (1 + (f / 500) ** 2) ** 0.5
    formants = sum(1 / (1 + ((f - c) / 120) ** 2) for c in (500, 1500, 2500, 3500)) + 0.05
    voiced = np.fft.irfft(spectrum * tilt * formants, n)
    envelope = 0.55 - 0.45 * np.cos(2 * np.pi * 4 * t)
    return np.asarray(0.5 * voiced * envelope / np.abs(voiced).max(), np.float32)


def voice_of(runtime: Runtime) -> BuzzVoice:
    assert isinstance(runtime.voice, BuzzVoice)
    return runtime.voice


def create_keyring(folder: Path) -> keys.Keyring:
    """Return new keys, except that all tests of a process share one watermark key: recordings are
    searched for marks of it once (`core.job.own_mark`)."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        file = folder / "watermark-001.key"
        file.write_bytes(base64.b64encode(WATERMARK_KEY) + b"\n")
        file.chmod(0o600)
    keys.create_keys(folder)
    return keys.load_keyring(folder)


def local_runtime(root: Path, **changes: Any) -> Runtime:
    for name in ("inbox", "results", "control"):
        (root / name).mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "inbox": LocalStore(root / "inbox"),
        "results": LocalStore(root / "results"),
        "control": LocalStore(root / "control"),
        "keys": create_keyring(root / "keys"),
        "worker": "test",
        "producer": "00119111000000000000010000",
        "lease_seconds": 5.0,
    }
    voice: Voice = changes.pop("voice", None) or BuzzVoice()
    fields |= {"load_voice": lambda: voice, "front_end": KokoroFrontend()}
    return Runtime(**(fields | changes))


def local_settings(root: Path, **changes: Any) -> Settings:
    """The settings with which a command uses the folders and keys of `local_runtime(root)`."""
    places = {name: str(root / name) for name in ("inbox", "results", "control")}
    return Settings(keys=root / "keys", **(places | changes))


def with_voice(runtime: Runtime, voice: Voice, **changes: Any) -> Runtime:
    return replace(runtime, load_voice=lambda: voice, **changes)


def find_mark(runtime: Runtime, payload: int) -> Mark | None:
    keys = runtime.keys
    return registry.resolve(runtime.results, payload, keys.verifying, keys.watermark)


def run_job(key: str, runtime: Runtime) -> Result:
    """Run `pipeline.run`, which must finish the job, and return the result."""
    outcome = pipeline.run(key, runtime)
    assert isinstance(outcome, Finished)
    return outcome.result


def finish_job(key: str, runtime: Runtime) -> Result:
    """Run `handlers.jobs.carry_out`, which must finish and announce the job; return the result."""
    outcome = carry_out(key, runtime)
    assert isinstance(outcome, Finished)
    return outcome.result


def split_job(key: str, runtime: Runtime) -> Sharded:
    """Split a job into shards, without carrying out any of them."""
    outcome = carry_out(key, runtime)
    assert isinstance(outcome, Sharded)
    return outcome


def put_job(
    runtime: Runtime,
    *,
    name: str = "one",
    items: list[dict[str, Any]] | None = None,
    reference: bytes | None = None,
    **fields: Any,
) -> str:
    """Put a reference, its consent and a manifest into the inbox; return the manifest's key."""
    data = REFERENCE.read_bytes() if reference is None else reference
    runtime.inbox.put("refs/alice.flac", data)
    runtime.inbox.put("consent/alice.json", records.format_consent(consent_record(data)))
    document = {
        "schema": "voicedrop/job/1",
        "voices": {
            "alice": {
                "reference": "refs/alice.flac",
                "transcript": "what she says",
                "language": "en",
                "consent": "consent/alice.json",
            }
        },
        "items": items or [{"id": "hello", "text": "The first words in her own voice, twice."}],
        "wait_s": 0,
    }
    key = f"jobs/{name}.manifest.json"
    runtime.inbox.put(key, json.dumps(document | fields).encode())
    return key


def consent_record(data: bytes, **changes: Any) -> records.Consent:
    fields: dict[str, Any] = {
        "schema": records.SCHEMA,
        "id": "alice-1",
        "subject": records.Subject(pseudonym="alice"),
        "controller": "tests",
        "purposes": ["tests"],
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "method": "public-domain",
        "source": "LibriSpeech, CC BY 4.0",
        "ref_audio_sha256": [hashlib.sha256(data).hexdigest()],
        "created_by": "tests",
    }
    return records.Consent(**(fields | changes))
