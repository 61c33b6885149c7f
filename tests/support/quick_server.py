"""The container server with a small quick voice: `python -m tests.support.quick_server`.

All but the voice is what production runs. The voice says of the text `!leak` what a careless
library would: everything secret that it can find, in every spelling.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from core.audio import sandbox
from core.job.runtime import Runtime
from core.settings import Settings
from core.voice import SpeechChunk, Voiceprint
from handlers import wiring, worker
from handlers.server.app import serve
from tests.support.runtime import BuzzVoice


def spellings(secret: str) -> list[str]:
    """As it might stand in a log."""
    raw = secret.encode()
    return [
        secret,
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        quote(secret, safe=""),
        raw.hex(),
        raw.hex().upper(),
    ]


def embedded_spellings(secret: str) -> list[str]:
    """As part of something longer that was encoded."""
    return [base64.b64encode(b"user:"[:n] + secret.encode() + b"!").decode() for n in range(5)]


class LeakyVoice(BuzzVoice):
    def __init__(self, secrets: list[str], credentials: wiring.CurrentCredentials) -> None:
        super().__init__()
        self._secrets, self._credentials = secrets, credentials

    def speak(self, text: str, voiceprint: Voiceprint, **options: Any) -> Iterator[SpeechChunk]:
        if text == "!leak":
            now = self._credentials()
            found = [*self._secrets, now.access_key_secret, now.security_token]
            said = [
                form
                for secret in found
                for form in (*spellings(secret), *embedded_spellings(secret))
            ]
            raise RuntimeError(f"request failed: {said}")
        yield from super().speak(text, voiceprint, **options)


class QuickWorker(worker.Worker):
    def warm(self) -> Runtime:
        if self._runtime is None:
            sandbox.start()
            secrets = [v for k, v in os.environ.items() if k.startswith("TEST_SECRET_")]
            keys = [getattr(self._settings, name) for name in ("kek", "signing_key", "redis")]
            voice = LeakyVoice([*secrets, *filter(None, keys)], self._credentials)
            runtime = wiring.runtime(self._settings, self._credentials)
            self._runtime = replace(runtime, load_voice=lambda: voice, languages=voice.languages)
        return self._runtime


def worker_from(environ: Mapping[str, str]) -> QuickWorker:
    return QuickWorker(Settings.from_environ(environ), wiring.CurrentCredentials(environ))


if __name__ == "__main__":
    sys.exit(serve(worker_from, os.environ))
