"""Prometheus metrics at `/metrics` (extra `metrics`), counted from the lines of the log.

They have a port of their own, closed unless `VOICEDROP_METRICS` opens it. The port of the server
must not show them: whoever passes the HTTP trigger of the function reaches it, and chooses a path.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from core.errors import Misconfigured, missing_extra
from core.settings import SETTINGS
from handlers import job_log

REQUESTS, TASKS, JOBS = "voicedrop.server", "voicedrop.oss", job_log.log.name
"""The loggers whose lines are counted."""


def start(address: str) -> int:
    """Serve metrics at an address such as `127.0.0.1:9464` for the life of the process; return the
    port. Without an address, do nothing and return 0. Raises Misconfigured SETTING_INVALID."""
    if not address:
        return 0
    variable = SETTINGS["metrics"].variable
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        message = f"{variable} must be an address and a port, such as 127.0.0.1:9464."
        raise Misconfigured("SETTING_INVALID", message)
    try:
        import prometheus_client
    except ImportError:
        package = f"The package prometheus-client, which {variable} needs,"
        raise missing_extra(package, "metrics", "SETTING_INVALID") from None
    try:
        server, _thread = prometheus_client.start_http_server(int(port), host.strip("[]"))
    except OSError as exc:
        message = f"{variable}: {address} cannot be opened ({exc.strerror})."
        raise Misconfigured("SETTING_INVALID", message) from exc
    counts = CountLines()
    for name in (REQUESTS, TASKS, JOBS):
        logger = logging.getLogger(name)
        logger.addHandler(counts)
        logger.setLevel(logging.INFO)
    return int(server.server_port)


class CountLines(logging.Handler):
    """Counts finished jobs and errors in the default registry of the client, which also has the
    memory and processor time of the process."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Histogram

        super().__init__(logging.INFO)
        self._jobs = Counter("voicedrop_jobs", "Finished jobs.", ["status"])
        self._job_seconds = Histogram(
            "voicedrop_job_seconds",
            "Seconds from the beginning of a job to its result.",
            buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000),
        )
        self._items = Counter("voicedrop_items", "Items of finished jobs.", ["status"])
        self._speech = Counter("voicedrop_speech_seconds", "Seconds of speech in finished jobs.")
        self._stages = Counter("voicedrop_stage_seconds", "Seconds of work.", ["stage"])
        self._billed = Counter("voicedrop_billed_seconds", "Billed seconds of finished jobs.")
        self._cost = Counter("voicedrop_cost", "Cost of finished jobs.", ["currency"])
        self._errors = Counter("voicedrop_errors", "Tasks that failed or were refused.", ["code"])
        self._failures = Counter("voicedrop_failed_requests", "Requests that failed.", ["code"])

    def emit(self, record: logging.LogRecord) -> None:
        fields = vars(record)
        if record.name == JOBS and record.msg == job_log.FINISHED:
            self._count_job(fields)
        elif record.name == TASKS:
            self._errors.labels(fields.get("code", "INTERNAL")).inc()
        elif record.name == REQUESTS and "error" in fields:
            error = fields["error"]
            code = error["code"] if isinstance(error, dict) else fields.get("code", "INTERNAL")
            self._failures.labels(code).inc()

    def _count_job(self, fields: Mapping[str, Any]) -> None:
        self._jobs.labels(fields["status"]).inc()
        self._job_seconds.observe(fields["elapsed_s"])
        for status in ("succeeded", "failed"):
            self._items.labels(status).inc(fields[status])
        self._speech.inc(fields["audio_s"])
        for stage, seconds in fields["stages"].items():
            self._stages.labels(stage).inc(seconds)
        if fields["cost"] is not None:
            self._billed.inc(fields["billed_s"])
            self._cost.labels(fields["currency"]).inc(fields["cost"])
