"""The container server with the voice of the tests: `python -m tests.support.quick_server`.

Everything but the voice is the production server. For the text `!leak` the voice raises an error
with every secret of the process in every spelling, as a careless library might.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from core.job.runtime import Runtime
from core.settings import SETTINGS, Settings
from core.voice import SpeechChunk, Voiceprint
from handlers import wiring, worker
from handlers.server.app import serve
from tests.support.runtime import BuzzVoice


def spellings(secret: str) -> list[str]:
    """Return the forms in which a secret might appear in a log."""
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
    """Return base64 texts that contain the secret as a part."""
    return [base64.b64encode(b"user:"[:n] + secret.encode() + b"!").decode() for n in range(5)]


class LeakyVoice(BuzzVoice):
    def __init__(self, secrets: list[str], credentials: wiring.CurrentCredentials) -> None:
        super().__init__()
        self._secrets, self._credentials = secrets, credentials

    def speak(self, text: str, voiceprint: Voiceprint, **options: Any) -> Iterator[SpeechChunk]:
        if text == "!leak":
            credentials = self._credentials()
            secrets = [*self._secrets, credentials.access_key_secret, credentials.security_token]
            forms = [
                form
                for secret in secrets
                for form in (*spellings(secret), *embedded_spellings(secret))
            ]
            raise RuntimeError(f"request failed: {forms}")
        yield from super().speak(text, voiceprint, **options)


class QuickWorker(worker.Worker):
    def _load(self) -> Runtime:
        secrets = [v for k, v in os.environ.items() if k.startswith("TEST_SECRET_")]
        reader = wiring.secret_reader(self._settings, self._credentials)
        given = {
            name: reader.reveal(SETTINGS[name].variable, getattr(self._settings, name))
            for name in ("kek", "signing_key", "redis")
        }
        voice = LeakyVoice([*secrets, *filter(None, given.values())], self._credentials)
        runtime = wiring.create_runtime(self._settings, self._credentials, learn=self._learn)
        return replace(runtime, load_voice=lambda: voice, identify_voice=None)


def worker_from(environ: Mapping[str, str], learn: Callable[[str], None]) -> QuickWorker:
    return QuickWorker(Settings.from_environ(environ), wiring.CurrentCredentials(environ), learn)


if __name__ == "__main__":
    sys.exit(serve(worker_from, os.environ))
