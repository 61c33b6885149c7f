"""A runtime over folders, with a voice that plays back the example recording at no cost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.audio.waveform import Audio, resample
from core.crypto import keys
from core.job.runtime import Runtime
from core.settings import Settings
from core.voice import SpeechChunk, Voiceprint
from handlers import wiring

INBOX = Path(__file__).parents[1] / "examples" / "inbox"
CHARACTERS_PER_SECOND = 12


class Playback:
    """A Voice that speaks every text with a part of the reference, chosen by the seed."""

    name = "playback"
    fingerprint = "playback/1"
    rate = 16_000
    languages = frozenset({"en"})
    callers = 1

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        data = resample(reference, self.rate).samples.tobytes()
        return Voiceprint(fingerprint=self.fingerprint, data=data)

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        recording = np.frombuffer(voiceprint.data, np.float32)
        shifted = np.roll(recording, seed % len(recording))
        yield SpeechChunk(
            shifted[: int(len(text) / CHARACTERS_PER_SECOND * self.rate)], self.rate, text
        )


def settings(folder: Path, **environ: str) -> Settings:
    """Return the settings of the buckets in `folder`."""
    locations = {"VOICEDROP_BUCKET": str(folder), "VOICEDROP_KEYS": str(folder / "keys")}
    return Settings.from_environ(locations | environ)


def runtime(folder: Path, **environ: str) -> Runtime:
    """Create the buckets in `folder` with the example's recording, and keys, if missing."""
    shutil.copytree(INBOX, folder / "inbox", dirs_exist_ok=True)
    for name in ("results", "control"):
        (folder / name).mkdir(exist_ok=True)
    keys.create_keys(folder / "keys")
    production = wiring.create_runtime(settings(folder, **environ), wiring.CurrentCredentials({}))
    return replace(production, load_voice=Playback)


def manifest(**fields: Any) -> dict[str, Any]:
    """Return the example's manifest with other fields and without items."""
    document = json.loads((INBOX / "jobs" / "hello.manifest.json").read_text(encoding="utf-8"))
    return {**document, "items": [], **fields}
