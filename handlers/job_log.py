"""One structured line for each finished job: how it ended, what took how long, and what it cost.

It is logged once a job, by whoever writes the job's event, so lines can be added up. The log index,
the saved queries and the dashboard in `cloud/monitoring/` use its fields; `/metrics` counts them.
"""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import Any

from core.result.document import Result

log = logging.getLogger("voicedrop.jobs")

FINISHED = "job finished"
"""The message of the line."""


def report(result: Result) -> None:
    log.info(FINISHED, extra=describe(result))


def describe(result: Result) -> dict[str, Any]:
    """Return the fields of the line. Billed seconds, calls and cost are null without a price table.

    `elapsed_s` is from the beginning of the attempt that finished the job, or cut it into shards,
    to the result; `stages` are seconds of work, of all lanes together. 1 MB is 1,000,000 bytes.
    """
    totals, cost = result.totals, result.cost
    return {
        "job": result.job_id,
        "status": result.status,
        "code": result.error.code if result.error else "",
        "engine": result.engine.name if result.engine else "",
        "items": totals.items,
        "succeeded": totals.succeeded,
        "failed": totals.failed,
        "characters": totals.characters,
        "audio_s": totals.audio_s,
        "elapsed_s": _seconds_between(result.started, result.finished),
        "stages": result.stages,
        "billed_s": cost.seconds if cost else None,
        "calls": cost.calls if cost else None,
        "cost": cost.amount if cost else None,
        "currency": cost.currency if cost else "",
        "memory_peak_mb": peak_memory_mb(),
    }


def peak_memory_mb() -> float | None:
    """Return the largest resident memory of this process since its start, without the processes
    that decode recordings; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _seconds_between(start: str, end: str) -> float:
    moments = [datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in (start, end)]
    return round((moments[1] - moments[0]).total_seconds(), 3)
