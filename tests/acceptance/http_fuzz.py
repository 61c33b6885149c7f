"""Fuzz the HTTP interface with requests that its OpenAPI document describes, and with wrong ones.

    scripts/setup dev fuzz
    python -m tests.acceptance.http_fuzz --examples 200     # requests of each kind for each route

The server is `uvicorn` on a loopback port with the voice of the tests. Schemathesis makes requests
that fit the document and ones that do not. A finding is an answer of 500 or more (503 excepted),
one of more than 8 MiB, one that takes more than 30 s, or one that the document does not describe.
Prints one line of JSON; exit code 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from hypothesis import HealthCheck, Phase, given, settings

from core.job.runtime import Runtime
from tests.support.http_service import Running, running_service

MAX_ANSWER = 8 << 20
MAX_SECONDS = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.http_fuzz", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--examples", type=int, default=200)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as root,
        running_service(Path(root)) as running,
        listening(running) as address,
    ):
        seed(running, address)
        findings, statuses = fuzz(address, options.examples)
        left = check_jobs(running.runtime)
    summary = {"examples": options.examples, "statuses": statuses, "findings": findings, **left}
    print(json.dumps(summary))
    return 1 if findings else 0


@contextmanager
def listening(running: Running) -> Iterator[str]:
    config = uvicorn.Config(running.app, port=0, log_level="critical", ws="none", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def seed(running: Running, address: str) -> None:
    """Make something that the fuzzer can meet: a voice, and a finished job."""
    assert running.clone(voice="alice", headers={"Prefer": "wait=60"}).status_code == 200


def fuzz(address: str, examples: int) -> tuple[list[str], dict[str, int]]:
    """Return what was found, and how many answers had which status."""
    import schemathesis
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    statuses: Counter[int] = Counter()
    findings: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
                run_one(strategy, operation.label, examples, statuses, findings)
            except Exception as exc:  # a route without parameters has no wrong requests
                if "negative" not in str(exc).lower() and "Unsatisfiable" not in type(exc).__name__:
                    findings.append(f"{operation.label}: {type(exc).__name__}: {exc}"[:500])
    return findings, {str(status): count for status, count in sorted(statuses.items())}


def run_one(
    strategy: Any, label: str, examples: int, statuses: Counter[int], findings: list[str]
) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def ask(case: Any) -> None:
        began = time.monotonic()
        answer = case.call(timeout=MAX_SECONDS + 5)
        seconds = time.monotonic() - began
        statuses[answer.status_code] += 1
        if why := find_fault(case, answer, seconds):
            findings.append(f"{label}: {why}: {case.as_curl_command()[:400]}")

    ask()


def find_fault(case: Any, answer: Any, seconds: float) -> str:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    if answer.status_code >= 500 and answer.status_code != 503:
        return f"status {answer.status_code}"
    if len(answer.content) > MAX_ANSWER:
        return f"{len(answer.content)} bytes"
    if seconds > MAX_SECONDS:
        return f"{seconds:.0f} s"
    checks = [content_type_conformance, response_schema_conformance, status_code_conformance]
    try:
        case.validate_response(answer, checks=checks, excluded_checks=[not_a_server_error])
    except Exception as exc:
        return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return ""


def check_jobs(runtime: Runtime) -> dict[str, int]:
    """Count what the fuzzer had made."""
    stored = list(runtime.inbox.list("jobs/"))
    done = sum(info.key.endswith("/result.json") for info in runtime.results.list("out/"))
    return {"manifests": len(stored), "results": done}


if __name__ == "__main__":
    sys.exit(main())
