"""Checks the buckets when all jobs are done: nothing missing, duplicated or unreadable."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from core.crypto import sealing
from core.errors import JobError
from core.job import commit
from core.job.runtime import Runtime
from core.result import document
from core.result.item_result import ItemResult
from core.storage.object_keys import event_key
from handlers import sweep
from tests.support.present import present

T = TypeVar("T")


def check_final_state(runtime: Runtime, manifests: list[str]) -> dict[str, Any]:
    """Count results, events and outputs, and list what a sweep finds left to do.

    Raises AssertionError if a result or event is missing or duplicated, or an output unreadable."""
    statuses, opened, split_jobs = Counter[str](), 0, 0
    announced = [info.key for info in retry(lambda: list(runtime.results.list("events/")))]
    assert len(announced) == len(set(announced)) == len(manifests)
    for key in manifests:
        job_id = retry(partial(commit.read_manifest, key, runtime)).job_id
        done = retry(partial(commit.read_result, job_id, runtime))
        assert done is not None, key
        assert event_key(done.job_id, done.finished) in announced
        statuses[done.error.code if done.error else done.status] += 1
        split_jobs += bool(done.parts)
        for item in retry(partial(read_result_items, done, runtime)):
            assert item.output, item.error
            sealed = retry(partial(runtime.results.get, item.output.key, limit=10**8)).data
            plain = sealing.open_sealed(sealed, present(item.envelope), runtime.keys.wrapping)
            opened += plain.startswith(b"RIFF")
    unfinished = retry(lambda: sweep.run_sweep(runtime, grace=0.0)).findings
    return {
        "jobs": len(manifests),
        "cut": split_jobs,
        "results": dict(statuses),
        "events": len(announced),
        "sealed_objects_opened": opened,
        "left_over": [f"{finding.kind}: {finding.detail}" for finding in unfinished],
    }


def read_result_items(done: document.Result, runtime: Runtime) -> list[ItemResult]:
    return list(document.read_items(done, commit.part_reader(runtime)))


def retry(action: Callable[[], T]) -> T:
    """Repeat an action that the failing store refuses."""
    for attempt in range(30):
        try:
            return action()
        except JobError as exc:
            if not exc.retry or attempt == 29:
                raise
            time.sleep(0.05)
    raise AssertionError
