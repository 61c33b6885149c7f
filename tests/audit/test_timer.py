"""The sequencer, started by a timer of Function Compute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import Unavailable
from core.job.lease import Lease
from core.tlog import log
from events import incoming
from handlers.oss import handle
from tests.support.audited_bucket import fill_bucket


def timer_notification(payload: str) -> bytes:
    """Return a notification as documented in "Timer trigger: event format"."""
    fields = {"triggerTime": "2026-11-22T10:50:00Z", "triggerName": "integrate"}
    return json.dumps(fields | {"payload": payload}).encode()


def test_a_timer_logs_the_queued_results(tmp_path: Path) -> None:
    runtime = fill_bucket(tmp_path, [0, 1], integrate=False)
    assert handle(timer_notification("integrate"), runtime)["done"] == [
        {"turn": "integrate", "logged": 2}
    ]
    assert (log.read_latest_checkpoint(runtime.results) or "").startswith("voicedrop/results\n2\n")
    assert list(log.list_queued(runtime.control)) == []
    assert handle(timer_notification("integrate\n"), runtime)["done"] == [
        {"turn": "integrate", "logged": 2}
    ]


def test_an_empty_log_stays_empty(tmp_path: Path) -> None:
    runtime = fill_bucket(tmp_path, [])
    assert handle(timer_notification("integrate"), runtime)["done"] == [
        {"turn": "integrate", "logged": 0}
    ]


def test_a_timer_with_an_unknown_task_is_refused(tmp_path: Path) -> None:
    (answer,) = handle(timer_notification("dance"), fill_bucket(tmp_path, []))["done"]
    assert answer["error"] == "EVENT_INVALID"


def test_one_sequencer_works_at_a_time(tmp_path: Path) -> None:
    runtime = fill_bucket(tmp_path, [0], integrate=False)
    with (
        Lease.acquire(runtime.control, "log", "other", 30, runtime.keys),
        pytest.raises(Unavailable, match="JOB_BUSY"),
    ):
        handle(timer_notification("integrate"), runtime)


def test_timers_and_other_records_can_be_combined() -> None:
    notification = incoming.parse(
        b'[{"triggerTime": "t", "triggerName": "n"}, {"eventName": "x:y"}]'
    )
    assert (notification.timers, dict(notification.ignored)) == ([""], {"event-type": 1})
