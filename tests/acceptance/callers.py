"""200 callers at once for a minute: `python -m tests.acceptance.callers [--callers N] [--seconds
S]`.

The server is `uvicorn` with the worker of `voicedrop serve` and the voice of the tests, in a
process of its own. Each caller submits jobs one after the other over a connection of its own, and
asks about some of them. Told to come again (429), it waits as long as `Retry-After` says.
Afterwards the jobs that wait are cancelled, so that every accepted job has a result, and the bucket
is audited.

Prints one JSON document. Exit code 1 if an answer was neither success nor 429, if an accepted job
has no result, if the audit finds something, or if the memory of the server grew by more than 256
MiB after the first ten seconds.

`accept_ms`: duration of an answer 202; `told_ms`: of an answer 429.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.job.runtime import Runtime
from core.storage.object_keys import result_key
from core.storage.port import Store
from handlers.cli.audit import AuditRequest, audit_results
from handlers.cli.screen import Progress
from handlers.jobs import integrate_log
from tests.acceptance.http_fuzz import listening
from tests.support.http_service import running_service
from tests.support.runtime import local_runtime, local_settings

MOST_GROWTH = 256
"""MiB by which the server may grow after its first ten seconds."""
WARM_SECONDS = 10.0


@dataclass
class Observed:
    statuses: Counter[int] = field(default_factory=Counter)
    accepts: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the start, MiB of the server."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.callers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--no-audit", action="store_true", help="takes a second an output")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with server_process(root) as (process, port):
            observed = asyncio.run(call(port, process.pid, options.callers, options.seconds))
            runtime = local_runtime(root)
            rest = cancel_rest(port, observed.jobs, observed, runtime.results)
            cancelled = asyncio.run(rest)
            finished, waited = wait_for_results(observed.jobs, runtime.results)
        summary = summarise(observed) | {"cancelled": cancelled}
        summary |= {"finished": finished, "finished_after_s": waited}
        if not options.no_audit:
            summary |= check_outputs(root, runtime)
    faults = find_faults(summary)
    print(json.dumps(summary | {"faults": faults}))
    return 1 if faults else 0


def serve(root: Path) -> int:
    with running_service(root) as running:
        made = running.clone(voice="alice", headers={"Prefer": "wait=120"})
        assert made.status_code == 200, made.text
        with listening(running) as address:
            print(address.rpartition(":")[2], flush=True)
            sys.stdin.read()
    return 0


@contextmanager
def server_process(root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "tests.acceptance.callers", "--serve", str(root)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)


async def call(port: int, pid: int, callers: int, seconds: float) -> Observed:
    observed, began = Observed(), time.monotonic()
    ends = began + seconds
    watching = asyncio.create_task(watch_memory(pid, began, observed))
    await asyncio.gather(*(one_caller(n, port, ends, observed) for n in range(callers)))
    watching.cancel()
    return observed


async def watch_memory(pid: int, began: float, observed: Observed) -> None:
    while True:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                mib = int(line.split()[1]) >> 10
                observed.memory.append((time.monotonic() - began, mib))
        await asyncio.sleep(1)


async def one_caller(number: int, port: int, ends: float, observed: Observed) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.monotonic() < ends:
        count += 1
        text = f"Words of caller {number}, request {count}."
        began = time.monotonic()
        status, headers, answer = await ask(
            reader, writer, "POST", "/clone", {"text": text, "voice": "alice"}
        )
        seconds = time.monotonic() - began
        observed.statuses[status] += 1
        if status == 429:
            observed.refusals.append(seconds)
            await asyncio.sleep(float(headers["retry-after"]))
        elif status == 202:
            observed.accepts.append(seconds)
            observed.jobs.append(answer["job"])
            if count % 5 == 0:
                status, _, _ = await ask(reader, writer, "GET", headers["location"])
                observed.statuses[status] += 1
    writer.close()


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    document: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], Any]:
    body = json.dumps(document).encode() if document else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {}
    for line in filter(None, lines[1:]):
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    answer = json.loads(await reader.readexactly(int(headers["content-length"])))
    return int(lines[0].split()[1]), headers, answer


def wait_for_results(jobs: list[str], results: Store) -> tuple[int, float]:
    """Return how many jobs have a result once no more are made, and after how many seconds."""
    began, left = time.monotonic(), set(jobs)
    changed = began
    while left and time.monotonic() - changed < 60:
        done = {job for job in left if results.head(result_key(job))}
        if done:
            changed = time.monotonic()
        left -= done
        time.sleep(1)
    return len(jobs) - len(left), round(time.monotonic() - began, 1)


async def cancel_rest(port: int, jobs: list[str], observed: Observed, results: Store) -> int:
    """Cancel the jobs without a result; return how many were cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    cancelled = 0
    for job in jobs:
        if results.head(result_key(job)) is None:
            status, _, _ = await ask(reader, writer, "DELETE", f"/jobs/{job}")
            observed.statuses[status] += status != 409  # it was finished meanwhile
            cancelled += status == 202
    writer.close()
    return cancelled


def check_outputs(root: Path, runtime: Runtime) -> dict[str, Any]:
    """Log the results and audit the bucket."""
    integrate_log(runtime)
    request = AuditRequest(out=root / "audit", workers=2)
    report = audit_results(local_settings(root), request, Progress(quiet=True))
    return {"audit": report.data["verdict"]}


def summarise(observed: Observed) -> dict[str, Any]:
    warm = [mib for at, mib in observed.memory if at <= WARM_SECONDS]
    later = [mib for at, mib in observed.memory if at > WARM_SECONDS] or warm
    return {
        "statuses": {str(status): n for status, n in sorted(observed.statuses.items())},
        "accepted": len(observed.jobs),
        "accept_ms": percentiles(observed.accepts),
        "told_ms": percentiles(observed.refusals),
        "memory_mib": {"after_10_s": max(warm), "at_most": max(later)},
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.percentile(np.array(seconds) * 1000, [50, 99, 100])
    return dict(zip(("p50", "p99", "max"), (round(float(v), 1) for v in values), strict=True))


def find_faults(summary: dict[str, Any]) -> list[str]:
    faults = [f"status {s}" for s in summary["statuses"] if s not in ("200", "202", "429")]
    if summary["finished"] < summary["accepted"]:
        faults.append(f"{summary['accepted'] - summary['finished']} jobs have no result")
    memory = summary["memory_mib"]
    if memory["at_most"] - memory["after_10_s"] > MOST_GROWTH:
        faults.append(f"memory grew to {memory['at_most']} MiB")
    if (verdict := summary.get("audit", "clean")) != "clean":
        faults.append(f"the audit is {verdict}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
