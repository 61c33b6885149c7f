"""The server of `tests.support.quick_server` as a process, over an OSS test server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from core.consent import records
from tests.support.oss_server import OssServer
from tests.support.running_server import Client
from tests.support.runtime import REFERENCE, consent_record

ROOT = Path(__file__).parents[2]
ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN = (
    "STS.NUabuse01",
    "kT9-secret/of+the-role",
    "CAIS+token/of=this-call",
)
BUCKETS = ("inbox", "results", "control")
STS_HEADERS = {
    "x_fc_access_key_id": ACCESS_KEY_ID,
    "x_fc_access_key_secret": ACCESS_KEY_SECRET,
    "x_fc_security_token": SECURITY_TOKEN,
}


@contextmanager
def bucket_server() -> Iterator[OssServer]:
    """Run an OSS server with three buckets, a recording and its consent."""
    with OssServer() as server:
        server.add_key(ACCESS_KEY_ID, ACCESS_KEY_SECRET, token=SECURITY_TOKEN)
        for bucket in BUCKETS:
            server.create_bucket(bucket)
        data = REFERENCE.read_bytes()
        server.place("inbox", "refs/alice.flac", data)
        server.place("inbox", "consent/alice.json", records.format_consent(consent_record(data)))
        yield server


def manifest(*texts: str, **fields: Any) -> bytes:
    document = {
        "schema": "voicedrop/job/1",
        "voices": {
            "alice": {
                "reference": "refs/alice.flac",
                "language": "en",
                "consent": "consent/alice.json",
            }
        },
        "items": [{"id": f"i{n}", "text": text} for n, text in enumerate(texts)],
    }
    return json.dumps(document | fields).encode()


class Endpoint(Protocol):
    @property
    def endpoint(self) -> str: ...

    @property
    def region(self) -> str: ...


def server_environ(server: Endpoint, **more: str) -> dict[str, str]:
    buckets = {f"VOICEDROP_{name.upper()}": f"oss://{name}" for name in BUCKETS}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOICEDROP_")},
        **buckets,
        "VOICEDROP_OSS_ENDPOINT": server.endpoint,
        "VOICEDROP_OSS_REGION": server.region,
        **more,
    }


@contextmanager
def container(environ: dict[str, str], output: Path) -> Iterator[Client]:
    """Run the server. Its stdout and stderr are written to `output`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.quick_server"],
            cwd=ROOT,
            env=environ | {"FC_SERVER_PORT": str(port)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        client = Client(port)
        client.pid = process.pid
        try:
            for _ in range(400):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield client
        finally:
            client.connection.close()
            process.terminate()
            process.wait(20)
