"""What the container server runs: one voice engine for its whole life, fresh credentials a call."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

import watermark
from core.audio import sandbox
from core.job.runtime import Runtime
from core.settings import Settings
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

        Buckets are checked with the first notification, because the platform hands out credentials
        with calls and not at the start.
        """
        with self._lock:
            if self._runtime is None:
                sandbox.start()
                watermark.preload()
                runtime = wiring.runtime(self._settings, self._credentials)
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
            # Between calls an instance is frozen in memory: it must not hold anybody's credentials.
            self._credentials.replace(None)

    def close(self) -> None:
        """Leases end with their jobs; a job that outlives the instance loses its lease by time."""
        with self._lock:
            self._runtime = None


def worker_from(environ: Mapping[str, str]) -> Worker:
    """The worker for these settings. Raises Misconfigured."""
    settings = Settings.from_environ(environ)
    settings.refuse_loops()
    return Worker(settings, CurrentCredentials(environ))
