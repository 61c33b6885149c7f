"""The worker of the container server: one voice engine for its life, credentials for a call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping

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

    def __init__(
        self,
        settings: Settings,
        credentials: CurrentCredentials,
        learn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`learn`: gets each key that is read because a setting refers to it."""
        self._settings, self._credentials, self._learn = settings, credentials, learn
        self._runtime: Runtime | None = None
        self._is_checked = False
        self._lock = threading.Lock()

    def warm(self, credentials: Credentials | None = None) -> Runtime:
        """Load keys and models. The buckets are checked with the first notification."""
        with self._lock:
            if self._runtime is None:
                with self._credentials.of_call(credentials):
                    self._runtime = self._load()
            return self._runtime

    def _load(self) -> Runtime:
        reference.start(behind=True)  # both become ready beside what follows
        sandbox.start()
        watermark.preload()
        runtime = wiring.create_runtime(self._settings, self._credentials, learn=self._learn)
        wiring.require_recogniser(self._settings)
        runtime.load_voice()
        return runtime

    def handle(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        """Carry out one notification; return a JSON summary. Raises JobError."""
        runtime = self._runtime or self.warm(credentials)
        # Between calls the platform freezes the instance: it must not keep credentials then.
        with self._credentials.of_call(credentials):
            if not self._is_checked:
                wiring.check_stores(runtime)
                self._is_checked = True
            return json.dumps({"request": request_id, **oss.handle(body, runtime)}).encode()

    def close(self) -> None:
        """Drop the models. The lease of a job that is still running expires by itself."""
        with self._lock:
            self._runtime = None


def worker_from(
    environ: Mapping[str, str], learn: Callable[[str], None] = lambda _: None
) -> Worker:
    """Return the worker for these settings; `learn` as in `Worker`. Raises Misconfigured."""
    settings = Settings.from_environ(environ)
    settings.refuse_loops()
    return Worker(settings, CurrentCredentials(environ), learn)
