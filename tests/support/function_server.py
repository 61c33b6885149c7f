"""The container server as a process, called with the headers of Function Compute."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECRET = "kT9-secret-of-the-function-role"
TOKEN = "CAIS-security-token-of-this-call"
HEADERS = {
    "x-fc-access-key-id": "STS.NUexample",
    "x-fc-access-key-secret": SECRET,
    "x-fc-security-token": TOKEN,
    "x-fc-control-path": "/invoke",
    "content-type": "application/octet-stream",
}


COMMAND = ("python", "-m", "handlers.server")


class FunctionServer:
    """A running container. `start` returns the command that runs another one in an environment;
    by default, that of the image is run by this Python."""

    def __init__(
        self,
        environ: dict[str, str],
        log: Path,
        start: Callable[[Mapping[str, str]], Sequence[str]] = lambda _: (
            sys.executable,
            *COMMAND[1:],
        ),
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = log.parent
        self._log = log.open("wb")
        environ = environ | {"FC_SERVER_PORT": str(self.port)}
        self.process = subprocess.Popen(
            start(environ),
            cwd=ROOT,
            env=environ | {"PATH": os.environ["PATH"]},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def call(
        self, method: str, path: str, body: bytes = b"", number: int = 0
    ) -> tuple[int, str, bytes]:
        """Return the HTTP status, the header x-fc-status and the body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        with closing(connection):
            connection.request(method, path, body, HEADERS | {"x-fc-request-id": f"r-{number}"})
            answer = connection.getresponse()
            return answer.status, answer.headers.get("x-fc-status", ""), answer.read()

    def wait(self) -> None:
        """Wait until the server answers."""
        for _ in range(200):
            try:
                self.call("GET", "/")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._log.close()
