"""The real server on a loopback port, around a worker that follows scripted requests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any

import uvicorn

from core.errors import Failed, Misconfigured, Refused, Unavailable
from handlers.server.app import create_app, server_config
from handlers.server.secrecy import Mask
from handlers.server.tokens import ProcessTokens, Tokens

if TYPE_CHECKING:
    from core.storage.oss import Credentials

ERRORS = {error.__name__: error for error in (Refused, Failed, Misconfigured, Unavailable)}


class ScriptedWorker:
    """Does what the body says: {"fail": [class of the error, code]}, {"crash": text} or
    {"sleep": seconds}. Any other body succeeds."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.calls: list[tuple[bytes, Credentials | None, str]] = []
        self.running = 0
        self.max_running = 0
        self.warm_error: Exception | None = None
        self.warm_seconds = 0.0
        self._lock = threading.Lock()

    def warm(self, credentials: Credentials | None) -> None:
        self.steps.append("warm")
        time.sleep(self.warm_seconds)
        if self.warm_error:
            raise self.warm_error

    def handle(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        with self._lock:
            self.running += 1
            self.max_running = max(self.max_running, self.running)
        try:
            return self._follow(body, credentials, request_id)
        finally:
            with self._lock:
                self.running -= 1

    def _follow(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        self.calls.append((body, credentials, request_id))
        script = json.loads(body) if body.startswith(b"{") else {}
        if "sleep" in script:
            time.sleep(script["sleep"])
        if "fail" in script:
            family, code = script["fail"]
            raise ERRORS[family](code, script.get("message", ""))
        if "crash" in script:
            raise RuntimeError(script["crash"])
        self.steps.append("handled")
        return json.dumps({"bytes": len(body), "request": request_id}).encode()

    def close(self) -> None:
        self.steps.append("close")


class Client:
    """One connection that is kept alive, as the platform does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pid = 0
        """Process id of the server, if it is a process of its own."""
        self.connection = HTTPConnection("127.0.0.1", port, timeout=20)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, Any]:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        text = response.read()
        return response, json.loads(text) if text else None

    def invoke(self, body: Any, **headers: str) -> tuple[HTTPResponse, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/invoke", data, named)


def status_pair(response: HTTPResponse) -> tuple[int, str | None]:
    """Return the HTTP status and the header x-fc-status."""
    return response.status, response.headers["x-fc-status"]


@contextmanager
def running_server(
    worker: ScriptedWorker,
    tokens: Tokens | None = None,
    *,
    drain_seconds: float = 5.0,
    retry_pause: float = 0.0,
    at_once: int = 1,
) -> Iterator[Client]:
    counted = tokens or ProcessTokens(50)
    app = create_app(
        worker,
        lambda _: counted,
        Mask(),
        drain_seconds=drain_seconds,
        retry_pause=retry_pause,
        at_once=at_once,
    )
    server = uvicorn.Server(server_config(app, 0))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    client = Client(server.servers[0].sockets[0].getsockname()[1])
    try:
        yield client
    finally:
        client.connection.close()
        server.should_exit = True
        thread.join()


def invoke_in_parallel(port: int, bodies: list[Any]) -> list[tuple[HTTPResponse, Any]]:
    """Post all bodies at once, each on its own connection; return the answers in their order."""
    answers: dict[int, tuple[HTTPResponse, Any]] = {}

    def invoke(i: int) -> None:
        with Client(port) as client:
            answers[i] = client.invoke(bodies[i])

    threads = [threading.Thread(target=invoke, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[i] for i in range(len(bodies))]
