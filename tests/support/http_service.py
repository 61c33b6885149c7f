"""The HTTP interface over a runtime of `local_runtime`, with a worker in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.consent import records
from core.job.runtime import Runtime
from handlers.api.app import Service, create_app
from handlers.api.callers import Authenticate, Scope, of_loopback
from handlers.api.local import LocalWorker
from handlers.server.tokens import ProcessTokens
from tests.support.runtime import REFERENCE, consent_record, local_runtime

ADDRESS = "http://127.0.0.1:8000"
RECORDING = REFERENCE.read_bytes()
ROUTES: dict[tuple[str, str], tuple[Scope, ...]] = {
    ("POST", "/clone"): ("clone",),
    ("GET", "/jobs"): ("read",),
    ("GET", "/jobs/JOB"): ("read",),
    ("DELETE", "/jobs/JOB"): ("clone",),
    ("GET", "/jobs/JOB/items/speech"): ("read",),
    ("GET", "/voices"): ("read",),
    ("POST", "/trace"): ("trace",),
    ("GET", "/traces/TRACE"): ("trace",),
    ("POST", "/v1/audio/speech"): ("clone", "listen"),
}
"""What each route needs; docs/http.md has the same table."""
CONSENT = records.format_consent(consent_record(RECORDING))


@dataclass
class Running:
    runtime: Runtime
    app: Starlette
    client: TestClient
    said: list[str] = field(default_factory=list)

    def clone(self, text: str = "The first words, twice.", **options: Any) -> Any:
        """Post a form with recording and consent. `headers`: of the request; others are fields."""
        headers = options.pop("headers", {})
        files = {"recording": ("alice.flac", RECORDING), "consent": ("alice.json", CONSENT)}
        files = options.pop("files", files)
        fields = {"text": text, "language": "en", **options}
        return self.client.post("/clone", data=fields, files=files, headers=headers)


def create_service(
    runtime: Runtime, authenticate: Authenticate = of_loopback, **fields: Any
) -> Service:
    given: dict[str, Any] = {
        "desk": runtime,
        "authenticate": authenticate,
        "tokens": ProcessTokens(50),
        "keys": runtime.keys,
    }
    return Service(**(given | fields))


@contextmanager
def running_service(
    root: Path, authenticate: Authenticate = of_loopback, *, works: bool = True, **changes: Any
) -> Iterator[Running]:
    """`works`: a worker carries out what is stored; `changes`: of the runtime. `tokens`: of the
    service."""
    tokens = {"tokens": changes.pop("tokens")} if "tokens" in changes else {}
    runtime = local_runtime(root, **changes)
    said: list[str] = []
    worker = LocalWorker(runtime, said.append)
    begin = worker.begin if works else lambda key: None
    service = create_service(runtime, authenticate, begin=begin, speak=worker.speak, **tokens)
    same_host = "127.0.0.1" if authenticate is of_loopback else ""
    app = create_app(service, same_host=same_host)
    if works:
        worker.start()
    try:
        client = TestClient(app, base_url=ADDRESS, raise_server_exceptions=True)
        yield Running(runtime, app, client, said)
    finally:
        if works:
            worker.stop()
