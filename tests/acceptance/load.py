"""Send a thousand notifications to one container at the same moment; none may be lost.

    OMP_NUM_THREADS=1 python -m tests.acceptance.load              # 1,000 jobs, 1 notification each
    python -m tests.acceptance.load --jobs 6 --copies 10 --tokens 30  # 60: ten for each job

The container is the production server with the voice of the tests, over the OSS test server; both
are processes of their own. All connections are opened before the first notification is sent. A
refused notification is delivered again with growing pauses, as the platform does, until it
succeeds. Prints one JSON document. Exit code 1 if an answer was neither success nor back-pressure,
or, with the reason, if a result, an event or an output is missing, duplicated or unreadable.

`told_ms`: duration of a refusal, without the pause that the server makes before it answers.
`health_ms`: duration of /healthz meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.consent import records
from core.job.runtime import Runtime
from core.storage.object_keys import MANIFESTS
from core.storage.oss import Credentials, OssStore
from handlers.server.app import RETRY_PAUSE_SECONDS
from tests.support.container import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    BUCKETS,
    ROOT,
    SECURITY_TOKEN,
    STS_HEADERS,
    container,
    manifest,
    server_environ,
)
from tests.support.events import notification
from tests.support.faults.final_state import check_final_state
from tests.support.runtime import REFERENCE, consent_record, local_runtime

BACK_PRESSURE = ("OVERLOADED", "JOB_BUSY", "LEASE_LOST")
LONGEST_PAUSE = 4.0
"""Longest pause in seconds between two deliveries. The platform continues to double its pauses,
which would only make the test longer."""


class BucketServer(NamedTuple):
    endpoint: str
    region: str


@dataclass
class Observed:
    """What the callers measured."""

    answers: Counter[str] = field(default_factory=Counter)
    refusals: list[float] = field(default_factory=list)
    """Duration of each refusal in seconds, without the server's pause."""
    health: list[float] = field(default_factory=list)
    """Duration of each /healthz in seconds."""
    deliveries: list[int] = field(default_factory=list)
    """Number of deliveries of each notification."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=1, help="notifications of each job")
    parser.add_argument("--tokens", type=int, default=50, help="VOICEDROP_TOKENS of the container")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, bucket_server() as server:
        figures = measure(server, Path(name), options)
    print(json.dumps(figures, indent=2))
    return 1 if figures["left_over"] or figures["other_answers"] else 0


def measure(server: BucketServer, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    runtime = oss_runtime(server, folder)
    keys = [f"{MANIFESTS}{number}.manifest.json" for number in range(options.jobs)]
    upload_jobs(runtime, keys)
    environ = server_environ(
        server, VOICEDROP_KEYS=str(folder / "keys"), VOICEDROP_TOKENS=str(options.tokens)
    )
    with container(environ, folder / "log") as client:
        client.request("POST", "/initialize", headers=request_headers(0))
        start = time.monotonic()
        observed = asyncio.run(deliver_all(client.port, keys * options.copies))
        wall = time.monotonic() - start
        max_running = peak_memory_mb(client.pid)
    other = {
        code: n for code, n in observed.answers.items() if code not in ("done", *BACK_PRESSURE)
    }
    return {
        "notifications": len(keys) * options.copies,
        "answers": dict(observed.answers),
        "other_answers": other,
        **check_final_state(runtime, keys),
        "most_deliveries_of_one": max(observed.deliveries),
        "told_ms": percentiles(observed.refusals),
        "health_ms": percentiles(observed.health),
        "server_peak_mb": max_running,
        "wall_s": round(wall, 1),
        "jobs_a_second": round(len(keys) / wall, 1),
    }


@contextmanager
def bucket_server() -> Iterator[BucketServer]:
    """Run the OSS test server as a process of its own."""
    buckets = [argument for name in BUCKETS for argument in ("--bucket", name)]
    command = [
        sys.executable,
        "-m",
        "tests.support.oss_server",
        "--key",
        f"{ACCESS_KEY_ID}:{ACCESS_KEY_SECRET}:{SECURITY_TOKEN}",
    ]
    process = subprocess.Popen([*command, *buckets], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield BucketServer(**json.loads(next(iter(process.stdout or []))))
    finally:
        process.terminate()
        process.communicate(timeout=60)


def oss_runtime(server: BucketServer, folder: Path) -> Runtime:
    credentials = Credentials(ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN)
    stores: dict[str, Any] = {
        name: OssStore(name, server.endpoint, server.region, lambda: credentials)
        for name in BUCKETS
    }
    return local_runtime(folder, **stores)


def upload_jobs(runtime: Runtime, keys: list[str]) -> None:
    data = REFERENCE.read_bytes()
    runtime.inbox.put("refs/alice.flac", data)
    runtime.inbox.put("consent/alice.json", records.format_consent(consent_record(data)))
    for key in keys:
        runtime.inbox.put(key, manifest(f"This is {key}."))


async def deliver_all(port: int, keys: list[str]) -> Observed:
    """Announce all keys at the same moment, each again until it succeeds."""
    observed = Observed()
    ready = asyncio.Barrier(len(keys))
    health = asyncio.create_task(poll_health(port, observed))
    await asyncio.gather(*(deliver(port, key, n, ready, observed) for n, key in enumerate(keys, 1)))
    health.cancel()
    with suppress(asyncio.CancelledError):
        await health
    return observed


async def deliver(
    port: int, key: str, number: int, ready: asyncio.Barrier, observed: Observed
) -> None:
    request = encode_request("POST", "/invoke", notification(key), request_headers(number))
    connection = await asyncio.open_connection("127.0.0.1", port)
    await ready.wait()
    rng = random.Random(number)
    for tries in range(1, 1000):
        start = time.monotonic()
        status, answer = await send_request(*connection, request)
        refusal = answer.get("error", {}).get("code", "")
        observed.answers[refusal or ("done" if status == 200 else f"HTTP {status}")] += 1
        if refusal == "OVERLOADED":
            observed.refusals.append(time.monotonic() - start - RETRY_PAUSE_SECONDS)
        if refusal not in BACK_PRESSURE:
            observed.deliveries.append(tries)
            return
        await asyncio.sleep(rng.uniform(0, min(LONGEST_PAUSE, 0.5 * 2**tries)))
        connection = await asyncio.open_connection("127.0.0.1", port)
    raise TimeoutError(key)


async def poll_health(port: int, observed: Observed) -> None:
    while True:
        connection = await asyncio.open_connection("127.0.0.1", port)
        start = time.monotonic()
        status, _ = await send_request(*connection, encode_request("GET", "/healthz", b"", {}))
        if status != 200:
            observed.answers[f"HTTP {status} of /healthz"] += 1
        observed.health.append(time.monotonic() - start)
        await asyncio.sleep(0.1)


def request_headers(number: int) -> dict[str, str]:
    renamed = {name.replace("_", "-"): value for name, value in STS_HEADERS.items()}
    return renamed | {"x-fc-request-id": f"r-{number}"}


def encode_request(method: str, path: str, body: bytes, fields: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


async def send_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, dict[str, Any]]:
    """Return the status and body of the answer; the status is negated if the header x-fc-status,
    which the platform needs, is missing or differs."""
    writer.write(request)
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    status = int(head.split(b" ", 2)[1])
    is_confirmed = b"x-fc-status: %d" % status in head.lower() or b"GET /healthz" in request
    return status if is_confirmed else -status, json.loads(body)


def peak_memory_mb(pid: int) -> int:
    """Return the peak resident memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (max_running,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(max_running) / 1024)


def percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"count": len(seconds), "p50": round(float(p50), 1), "p99": round(float(p99), 1)}


if __name__ == "__main__":
    sys.exit(main())
