"""The sequencer, woken by a timer of Function Compute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import Unavailable
from core.job.lease import Lease
from core.tlog import log
from events import incoming
from handlers.oss import handle
from tests.support.audited_bucket import fill


def timer(payload: str) -> bytes:
    """As "Timer trigger: event format" shows it."""
    fields = {"triggerTime": "2026-11-22T10:50:00Z", "triggerName": "integrate"}
    return json.dumps(fields | {"payload": payload}).encode()


def test_a_timer_logs_the_queued_results(tmp_path: Path) -> None:
    made = fill(tmp_path, [0, 1], integrate=False)
    assert handle(timer("integrate"), made)["done"] == [{"turn": "integrate", "logged": 2}]
    assert (log.read_latest_checkpoint(made.results) or "").startswith("voicedrop/results\n2\n")
    assert list(log.list_queued(made.control)) == []
    assert handle(timer("integrate\n"), made)["done"] == [{"turn": "integrate", "logged": 2}]


def test_an_empty_log_stays_empty(tmp_path: Path) -> None:
    made = fill(tmp_path, [])
    assert handle(timer("integrate"), made)["done"] == [{"turn": "integrate", "logged": 0}]


def test_a_timer_with_an_unknown_task_is_refused(tmp_path: Path) -> None:
    (told,) = handle(timer("dance"), fill(tmp_path, []))["done"]
    assert told["error"] == "EVENT_INVALID"


def test_one_sequencer_works_at_a_time(tmp_path: Path) -> None:
    made = fill(tmp_path, [0], integrate=False)
    with (
        Lease.acquire(made.control, "log", "other", 30),
        pytest.raises(Unavailable, match="JOB_BUSY"),
    ):
        handle(timer("integrate"), made)


def test_timers_and_other_records_can_be_combined() -> None:
    found = incoming.parse(b'[{"triggerTime": "t", "triggerName": "n"}, {"eventName": "x:y"}]')
    assert (found.timers, dict(found.ignored)) == ([""], {"event-type": 1})
