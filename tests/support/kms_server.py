"""A small KMS over TLS: Encrypt and Decrypt of API 2016-01-20, signatures checked, with faults."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import os
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET = "secret-of-test"


class Kms:
    """Keys by id; `faults` are the (status, code) of the next responses."""

    def __init__(self, endpoint: str, ca_file: str) -> None:
        self.endpoint, self.ca_file = endpoint, ca_file
        self.keys: dict[str, bytes] = {}
        self.states: dict[str, str] = {}
        self.faults: list[tuple[int, str]] = []
        self.forbidden: set[str] = set()
        """Actions that the role may not call."""
        self.targets: list[str] = []
        """Path and query of each request, as a gateway logs them."""
        self.requests: list[dict[str, str]] = []
        self.connections = 0
        self.closing = False
        """Whether to close the connection after each answer."""

    def answer(
        self, headers: dict[str, str], params: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str]]:
        self.requests.append(headers | params)
        if headers["x-acs-action"] in self.forbidden:
            return 403, {"Code": "Forbidden.NoPermission", "Message": "RAM"}
        if self.faults:
            status, code = self.faults.pop(0)
            return status, {"Code": code, "Message": "injected"}
        if not is_authentic(headers, body):
            return 400, {"Code": "SignatureDoesNotMatch", "Message": "signature"}
        encrypting = headers["x-acs-action"] == "Encrypt"
        return self._encrypt(params) if encrypting else self._decrypt(params)

    def _encrypt(self, params: dict[str, str]) -> tuple[int, dict[str, str]]:
        name = params["KeyId"]
        if error := self._state(name):
            return error
        nonce = os.urandom(12)
        plaintext = base64.b64decode(params["Plaintext"])
        sealed = AESGCM(self.keys[name]).encrypt(nonce, plaintext, _context(params))
        blob = bytes([len(name)]) + name.encode() + nonce + sealed
        return 200, {
            "KeyId": name,
            "KeyVersionId": f"{name}-v2",
            "CiphertextBlob": base64.b64encode(blob).decode(),
        }

    def _decrypt(self, params: dict[str, str]) -> tuple[int, dict[str, str]]:
        blob = base64.b64decode(params["CiphertextBlob"])
        name, rest = blob[1 : 1 + blob[0]].decode(errors="replace"), blob[1 + blob[0] :]
        if error := self._state(name):
            return error
        try:
            plain = AESGCM(self.keys[name]).decrypt(rest[:12], rest[12:], _context(params))
        except (InvalidTag, ValueError):
            return 400, {"Code": "InvalidParameter", "Message": "ciphertext or context"}
        return 200, {"KeyId": name, "Plaintext": base64.b64encode(plain).decode()}

    def _state(self, name: str) -> tuple[int, dict[str, str]] | None:
        if name not in self.keys:
            return 404, {"Code": "Forbidden.KeyNotFound", "Message": "no such key"}
        if state := self.states.get(name):
            return 409, {"Code": f"Rejected.{state}", "Message": "state"}
        return None


def _context(params: dict[str, str]) -> bytes:
    return json.dumps(json.loads(params["EncryptionContext"]), sort_keys=True).encode()


def is_authentic(
    headers: dict[str, str], body: bytes, method: str = "POST", path: str = "/", query: str = ""
) -> bool:
    """Verify ACS3-HMAC-SHA256 over the request as sent and the headers named as signed."""
    scheme, _, rest = headers["authorization"].partition(" ")
    given = dict(part.split("=", 1) for part in rest.split(","))
    names = given["SignedHeaders"].split(";")
    must = {"host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"}
    must |= {"content-type"} if body else set()
    digest = hashlib.sha256(body).hexdigest()
    lines = (f"{name}:{headers[name]}" for name in names)
    canonical = [method, path, "&".join(sorted(query.split("&"))), *lines, ""]
    canonical += [given["SignedHeaders"], digest]
    signed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    mac = hmac.new(SECRET.encode(), f"{scheme}\n{signed}".encode(), hashlib.sha256)
    is_same = headers["x-acs-content-sha256"] == digest and mac.hexdigest() == given["Signature"]
    return is_same and must <= set(names)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Ignore clients that refuse the certificate: they are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    kms: Kms
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.kms.connections += 1

    def do_POST(self) -> None:
        self.kms.targets.append(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        status, answer = self.kms.answer(headers, dict(parse_qsl(body.decode())), body)
        data = b"<html>" if answer.get("Code") == "html" else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = self.kms.closing

    def log_message(self, *_: object) -> None:
        pass


def write_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kms")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "kms.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def serving_tls(handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext) -> Iterator[int]:
    """Serve on a free port of this machine, which is yielded."""
    server = _Server(("127.0.0.1", 0), handler)
    # The handshake runs in the thread of its connection, or one bad client would block all.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(
    folder: Path, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
) -> Iterator[Kms]:
    pem = write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
    handler: type[_Handler] = type("Handler", (_Handler,), {})
    with serving_tls(handler, context) as port:
        handler.kms = Kms(f"127.0.0.1:{port}", str(pem))
        yield handler.kms
