"""A thousand notifications at once against one container: is any lost, and how soon is it told?

    OMP_NUM_THREADS=1 python -m tests.acceptance.load              # 1,000 jobs, 1 notification each
    python -m tests.acceptance.load --jobs 6 --copies 10 --tokens 30  # 60: ten for each job

The container is the server as production starts it, with a small voice that buzzes, and the buckets
are those of the OSS test server; both are processes of their own. All connections are opened, then
every notification is sent at the same moment. What is refused is delivered again with growing
pauses, as the platform does, until it is done. Prints one JSON document; exit code 1 if an answer
was neither success nor back-pressure, or with the reason if a result, an event or an output is
missing, doubled or unreadable.

`told_ms`: how long a refusal took, less the pause that the server makes before it on purpose: the
time in which a notification is received, read and given a token or none. `health_ms`: how long
/healthz took meanwhile.
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
    BUCKETS,
    NAME,
    ROOT,
    SECRET,
    STS,
    TOKEN,
    container,
    environ_of,
    manifest,
)
from tests.support.faults.final_state import look
from tests.support.faults.simulation import notification
from tests.support.runtime import REFERENCE, consent_record, local_runtime

BACK_PRESSURE = ("OVERLOADED", "JOB_BUSY", "LEASE_LOST")
LONGEST_PAUSE = 4.0
"""Seconds between two deliveries; the platform goes on doubling, which would only take longer."""


class Cloud(NamedTuple):
    endpoint: str
    region: str


@dataclass
class Seen:
    """What the platform was told."""

    answers: Counter[str] = field(default_factory=Counter)
    told: list[float] = field(default_factory=list)
    """Seconds that each refusal took, less the server's pause."""
    health: list[float] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)
    """Deliveries that each notification needed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=1, help="notifications of each job")
    parser.add_argument("--tokens", type=int, default=50, help="VOICEDROP_TOKENS of the container")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, cloud() as place:
        found = measure(place, Path(name), options)
    print(json.dumps(found, indent=2))
    return 1 if found["left_over"] or found["other_answers"] else 0


def measure(place: Cloud, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    runtime = bucket_runtime(place, folder)
    keys = [f"{MANIFESTS}{number}.manifest.json" for number in range(options.jobs)]
    produce(runtime, keys)
    environ = environ_of(
        place, VOICEDROP_KEYS=str(folder / "keys"), VOICEDROP_TOKENS=str(options.tokens)
    )
    with container(environ, folder / "log") as client:
        client.ask("POST", "/initialize", headers=headers(0))
        start = time.monotonic()
        seen = asyncio.run(platform(client.port, keys * options.copies))
        wall = time.monotonic() - start
        peak = high_water(client.pid)
    other = {code: n for code, n in seen.answers.items() if code not in ("done", *BACK_PRESSURE)}
    return {
        "notifications": len(keys) * options.copies,
        "answers": dict(seen.answers),
        "other_answers": other,
        **look(runtime, keys),
        "most_deliveries_of_one": max(seen.tries),
        "told_ms": percentiles(seen.told),
        "health_ms": percentiles(seen.health),
        "server_peak_mb": peak,
        "wall_s": round(wall, 1),
        "jobs_a_second": round(len(keys) / wall, 1),
    }


@contextmanager
def cloud() -> Iterator[Cloud]:
    """The OSS test server as a process of its own."""
    buckets = [argument for name in BUCKETS for argument in ("--bucket", name)]
    command = [
        sys.executable,
        "-m",
        "tests.support.oss_server",
        "--key",
        f"{NAME}:{SECRET}:{TOKEN}",
    ]
    process = subprocess.Popen([*command, *buckets], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield Cloud(**json.loads(next(iter(process.stdout or []))))
    finally:
        process.terminate()
        process.communicate(timeout=60)


def bucket_runtime(place: Cloud, folder: Path) -> Runtime:
    credentials = Credentials(NAME, SECRET, TOKEN)
    stores: dict[str, Any] = {
        name: OssStore(name, place.endpoint, place.region, lambda: credentials) for name in BUCKETS
    }
    return local_runtime(folder, **stores)


def produce(runtime: Runtime, keys: list[str]) -> None:
    data = REFERENCE.read_bytes()
    runtime.inbox.put("refs/alice.flac", data)
    runtime.inbox.put("consent/alice.json", records.format_consent(consent_record(data)))
    for key in keys:
        runtime.inbox.put(key, manifest(f"This is {key}."))


async def platform(port: int, keys: list[str]) -> Seen:
    """Every key announced at once, and again until it is done."""
    seen = Seen()
    ready = asyncio.Barrier(len(keys))
    health = asyncio.create_task(ask_for_health(port, seen))
    await asyncio.gather(*(deliver(port, key, n, ready, seen) for n, key in enumerate(keys, 1)))
    health.cancel()
    with suppress(asyncio.CancelledError):
        await health
    return seen


async def deliver(port: int, key: str, number: int, ready: asyncio.Barrier, seen: Seen) -> None:
    request = written("POST", "/invoke", notification(key), headers(number))
    line = await asyncio.open_connection("127.0.0.1", port)
    await ready.wait()
    draw = random.Random(number)
    for tries in range(1, 1000):
        start = time.monotonic()
        status, answer = await exchange(*line, request)
        refusal = answer.get("error", {}).get("code", "")
        seen.answers[refusal or ("done" if status == 200 else f"HTTP {status}")] += 1
        if refusal == "OVERLOADED":
            seen.told.append(time.monotonic() - start - RETRY_PAUSE_SECONDS)
        if refusal not in BACK_PRESSURE:
            seen.tries.append(tries)
            return
        await asyncio.sleep(draw.uniform(0, min(LONGEST_PAUSE, 0.5 * 2**tries)))
        line = await asyncio.open_connection("127.0.0.1", port)
    raise TimeoutError(key)


async def ask_for_health(port: int, seen: Seen) -> None:
    while True:
        line = await asyncio.open_connection("127.0.0.1", port)
        start = time.monotonic()
        status, _ = await exchange(*line, written("GET", "/healthz", b"", {}))
        if status != 200:
            seen.answers[f"HTTP {status} of /healthz"] += 1
        seen.health.append(time.monotonic() - start)
        await asyncio.sleep(0.1)


def headers(number: int) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in STS.items()}
    return named | {"x-fc-request-id": f"r-{number}"}


def written(method: str, path: str, body: bytes, fields: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer; 200 only if the platform would believe it."""
    writer.write(request)
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    status = int(head.split(b" ", 2)[1])
    believed = b"x-fc-status: %d" % status in head.lower() or b"GET /healthz" in request
    return status if believed else -status, json.loads(body)


def high_water(pid: int) -> int:
    """The most memory that the process has had, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(peak) / 1024)


def percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"count": len(seconds), "p50": round(float(p50), 1), "p99": round(float(p99), 1)}


if __name__ == "__main__":
    sys.exit(main())
