"""Prometheus metrics: what the lines of the log say, on a port of their own."""

from __future__ import annotations

import logging
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from core.errors import Misconfigured
from handlers import job_log, metrics
from tests.support.running_server import ScriptedWorker, running_server

LINE = {
    "status": "partial",
    "elapsed_s": 12.5,
    "succeeded": 2,
    "failed": 1,
    "audio_s": 6.0,
    "stages": {"speak": 4.0, "seal": 0.5},
    "billed_s": 5.0,
    "cost": 0.001,
    "currency": "USD",
}


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The page of metrics after two jobs, a refused task, a crash and a failed request."""
    port = metrics.start("127.0.0.1:0")
    job_log.log.info(job_log.FINISHED, extra=LINE)
    job_log.log.info(job_log.FINISHED, extra=LINE | {"cost": None, "billed_s": None})
    job_log.log.info("something else", extra={"status": "failed"})
    tasks, requests = logging.getLogger(metrics.TASKS), logging.getLogger(metrics.REQUESTS)
    tasks.warning("refused", extra={"code": "QUOTA_EXCEEDED"})
    tasks.error("failed")
    requests.warning("request failed", extra={"error": {"code": "OVERLOADED"}})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        yield answer.read().decode()


@pytest.mark.parametrize(
    "line",
    [
        'voicedrop_jobs_total{status="partial"} 2.0',
        'voicedrop_items_total{status="succeeded"} 4.0',
        'voicedrop_items_total{status="failed"} 2.0',
        "voicedrop_job_seconds_sum 25.0",
        'voicedrop_job_seconds_bucket{le="30.0"} 2.0',
        "voicedrop_speech_seconds_total 12.0",
        'voicedrop_stage_seconds_total{stage="speak"} 8.0',
        "voicedrop_billed_seconds_total 5.0",
        'voicedrop_cost_total{currency="USD"} 0.001',
        'voicedrop_errors_total{code="QUOTA_EXCEEDED"} 1.0',
        'voicedrop_errors_total{code="INTERNAL"} 1.0',
        'voicedrop_failed_requests_total{code="OVERLOADED"} 1.0',
    ],
)
def test_the_lines_are_counted(page: str, line: str) -> None:
    assert line in page.splitlines()


def test_the_process_is_measured_too(page: str) -> None:
    assert "process_resident_memory_bytes" in page


def test_the_port_of_the_server_shows_no_metrics() -> None:
    with running_server(ScriptedWorker()) as client:
        for headers in ({}, {"x-fc-control-path": "/http-invoke"}):
            answer, body = client.request("GET", "/metrics", headers=headers)
            assert (answer.status, body["error"]["message"]) == (404, "No such path.")


@pytest.mark.parametrize("address", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:x", "h:70000"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured, match="VOICEDROP_METRICS must be an address and a port"):
        metrics.start(address)


def test_a_port_that_is_taken_is_named(page: str) -> None:
    with pytest.raises(Misconfigured, match=r"VOICEDROP_METRICS: 256\.0\.0\.1:80 cannot be opened"):
        metrics.start("256.0.0.1:80")


@pytest.mark.slow
def test_without_an_address_the_client_is_not_loaded() -> None:
    program = (
        "import sys; from handlers import metrics\n"
        "print(metrics.start(''), 'prometheus_client' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["0", "False"]
