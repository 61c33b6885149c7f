"""A worker of a few lines, and the real server around it on a loopback port."""

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
from handlers.server.app import configuration, create_app
from handlers.server.secrecy import Mask
from handlers.server.tokens import OwnTokens, Tokens

if TYPE_CHECKING:
    from core.storage.oss import Credentials

ERRORS = {error.__name__: error for error in (Refused, Failed, Misconfigured, Unavailable)}


class Orders:
    """Does what the body orders: {"fail": [family, code]}, {"crash": text}, {"sleep": seconds};
    anything else is counted and echoed."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.seen: list[tuple[bytes, Credentials | None, str]] = []
        self.at_once = 0
        self.peak = 0
        self.cold: Exception | None = None
        self.warming = 0.0
        self._lock = threading.Lock()

    def warm(self) -> None:
        self.steps.append("warm")
        time.sleep(self.warming)
        if self.cold:
            raise self.cold

    def handle(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        with self._lock:
            self.at_once += 1
            self.peak = max(self.peak, self.at_once)
        try:
            return self._obey(body, credentials, request_id)
        finally:
            with self._lock:
                self.at_once -= 1

    def _obey(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        self.seen.append((body, credentials, request_id))
        order = json.loads(body) if body.startswith(b"{") else {}
        if "sleep" in order:
            time.sleep(order["sleep"])
        if "fail" in order:
            family, code = order["fail"]
            raise ERRORS[family](code, order.get("message", ""))
        if "crash" in order:
            raise RuntimeError(order["crash"])
        self.steps.append("handled")
        return json.dumps({"bytes": len(body), "request": request_id}).encode()

    def close(self) -> None:
        self.steps.append("close")


class Client:
    """One kept-alive connection, as the platform keeps it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pid = 0
        """Of the server, where it is a process of its own."""
        self.connection = HTTPConnection("127.0.0.1", port, timeout=20)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, Any]:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        text = response.read()
        return response, json.loads(text) if text else None

    def invoke(self, body: Any, **headers: str) -> tuple[HTTPResponse, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/invoke", data, named)


@contextmanager
def serving(
    worker: Orders,
    tokens: Tokens | None = None,
    *,
    drain_seconds: float = 5.0,
    retry_pause: float = 0.0,
) -> Iterator[Client]:
    made = tokens or OwnTokens(50)
    app = create_app(worker, made, Mask(), drain_seconds=drain_seconds, retry_pause=retry_pause)
    server = uvicorn.Server(configuration(app, 0))
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


def parallel(port: int, bodies: list[Any]) -> list[tuple[HTTPResponse, Any]]:
    """All bodies at once, each on a connection of its own; answers in the order of the bodies."""
    answers: dict[int, tuple[HTTPResponse, Any]] = {}

    def one(i: int) -> None:
        with Client(port) as client:
            answers[i] = client.invoke(bodies[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[i] for i in range(len(bodies))]
