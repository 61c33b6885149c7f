"""HTTP: parse requests, send replies, and inject faults."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from tests.support.oss_server.dispatch import answer
from tests.support.oss_server.errors import OssError
from tests.support.oss_server.faults import Fault, Faults
from tests.support.oss_server.messages import Reply, Request, error_reply
from tests.support.oss_server.state import State

CONTROL = "/-/faults"
"""Unsigned: POST a fault as JSON, DELETE all, GET the count of each."""
_BUCKET_HOST = re.compile(r"([^.]+)\.((?:oss-[a-z0-9-]+\.aliyuncs\.com|localhost)(?::\d+)?)$")
_KNOWN_HOST = re.compile(r"([\d.]+|(.+\.)?localhost|(.+\.)?oss-[a-z0-9-]+\.aliyuncs\.com)(:\d+)?$")
_SERVICE_HOST = re.compile(r"oss-[a-z0-9-]+\.aliyuncs\.com(?::\d+)?$")


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for every reply
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], state: State, faults: Faults) -> None:
        self.state = state
        self.faults = faults
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        self.connections: set[socket.socket] = set()
        super().__init__(address, Handler)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already closed
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Record exceptions other than closed connections: they are bugs in this server."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _headers_buffer: list[bytes]
    """An attribute of the base class that its stub omits."""

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests contain signatures and tokens."""

    def do_GET(self) -> None:
        body = self._body()
        if self.path.startswith(CONTROL):
            self._send(control(self.server.faults, self.command, body))
            return
        if not _KNOWN_HOST.match(self.headers.get("Host", "")):
            self.close_connection = True  # as a proxy, it reaches no other host
            return
        request = parse(self.command, self.path, dict(self._headers()), body or b"")
        if body is None:
            self._send(error_reply(OssError("MissingContentLength"), request, ""))
            return
        fault = self.server.faults.pick(request)
        if fault is None:
            self._send(answer(self.server.state, request))
        else:
            self._inject(fault, request)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 (the base class looks for these)

    def _headers(self) -> list[tuple[str, str]]:
        return [(name.lower(), value) for name, value in self.headers.items()]

    def _body(self) -> bytes | None:
        """Read the body; None if its length is missing although the method requires one."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        length = self.headers.get("Content-Length")
        if self.command in ("GET", "HEAD"):
            self.close_connection = (
                length is not None
            )  # some clients announce a body and never send it
            return b""
        if length is None:
            return None if self.command in ("PUT", "POST") else b""
        return self.rfile.read(int(length))

    def _inject(self, fault: Fault, request: Request) -> None:
        if fault.kind == "error":
            self._send(error_reply(OssError(fault.code, status=fault.status), request, "FAULT"))
        elif fault.kind in ("hang", "reset"):
            self._hang_up(fault)
        else:
            reply = answer(self.server.state, request)
            self._spoil(fault, request, reply)

    def _spoil(self, fault: Fault, request: Request, reply: Reply) -> None:
        if fault.kind == "lost_reply":
            self.close_connection = True
            return
        if fault.kind == "duplicate":
            reply = answer(self.server.state, request)
        elif fault.kind == "slow":
            self.server.stopping.wait(fault.seconds)
        elif fault.kind == "wrong_crc":
            reply.headers["x-oss-hash-crc64ecma"] = "1"
        elif fault.kind == "corrupt" and reply.body:
            reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]
        self._send(reply, cut=fault.kind in ("cut", "stall"))
        if fault.kind == "stall":
            self.server.stopping.wait(fault.seconds)

    def _hang_up(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.kind == "hang":
            self.server.stopping.wait(fault.seconds)
        else:
            now = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)

    def _send(self, reply: Reply, *, cut: bool = False) -> None:
        """Send head and body in one write: delayed acknowledgements of TCP would slow two."""
        self.send_response_only(reply.status)
        chunked = "Transfer-Encoding" in reply.headers
        if not chunked and "Content-Length" not in reply.headers and reply.status != 304:
            reply.headers["Content-Length"] = str(len(reply.body))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.close_connection:  # or the client would reuse the connection
            self.send_header("Connection", "close")
        self._headers_buffer.append(b"\r\n")
        head = b"".join(self._headers_buffer)
        self._headers_buffer = []
        body = b"" if self.command == "HEAD" else reply.body
        if chunked and body:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        if cut:
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(head + body)


def parse(method: str, target: str, headers: dict[str, str], body: bytes) -> Request:
    """Parse a request. `target` may be absolute, as for a proxy. The bucket is a prefix of the host
    name, or the first segment of the path if the host is an address. A `+` in the path is a space,
    as in OSS, so clients must write `%2B`."""
    url = urlsplit(target)
    host = url.netloc or headers.get("host", "")
    path = unquote_plus(target.split("?", 1)[0].removeprefix(f"http://{url.netloc}")[1:])
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    named = _BUCKET_HOST.match(host)
    if named:
        bucket, host, key = named[1], named[2], path
    elif _SERVICE_HOST.match(host):
        bucket, key = "", path
    else:
        bucket, _, key = path.partition("/")
    return Request(method, bucket, key, query, headers, body, host)


def control(faults: Faults, method: str, body: bytes | None) -> Reply:
    if method == "DELETE":
        faults.clear()
    elif method == "POST":
        faults.add(Fault(**json.loads(body or b"")))
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(faults.counts()).encode())
