"""The worker of the container server: one voice engine for its life, new credentials each call."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

import watermark
from core.audio import sandbox
from core.job.runtime import Runtime
from core.settings import Settings
from core.speech import reference
from core.storage.oss_connection import Credentials
from handlers import oss, wiring
from handlers.wiring import CurrentCredentials


class Worker:
    """Implements `handlers.server.instance.Worker`."""

    def __init__(self, settings: Settings, credentials: CurrentCredentials) -> None:
        self._settings, self._credentials = settings, credentials
        self._runtime: Runtime | None = None
        self._is_checked = False
        self._lock = threading.Lock()

    def warm(self) -> Runtime:
        """Load keys and models.

        Buckets are checked with the first notification, because the platform sends credentials
        with notifications only.
        """
        with self._lock:
            if self._runtime is None:
                reference.start(behind=True)  # both become ready beside what follows
                sandbox.start()
                watermark.preload()
                runtime = wiring.create_runtime(self._settings, self._credentials)
                wiring.require_recogniser(self._settings)
                runtime.load_voice()
                self._runtime = runtime
            return self._runtime

    def handle(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        """Carry out one notification; return a JSON summary. Raises JobError."""
        self._credentials.replace(credentials)
        try:
            runtime = self._runtime or self.warm()
            if not self._is_checked:
                wiring.check_stores(runtime)
                self._is_checked = True
            return json.dumps({"request": request_id, **oss.handle(body, runtime)}).encode()
        finally:
            # Between calls the platform freezes the instance: it must not keep credentials then.
            self._credentials.replace(None)

    def close(self) -> None:
        """Drop the models. The lease of a job that is still running expires by itself."""
        with self._lock:
            self._runtime = None


def worker_from(environ: Mapping[str, str]) -> Worker:
    """Return the worker for these settings. Raises Misconfigured."""
    settings = Settings.from_environ(environ)
    settings.refuse_loops()
    return Worker(settings, CurrentCredentials(environ))
