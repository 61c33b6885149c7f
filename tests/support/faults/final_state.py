"""What lies in the buckets when it is over: nothing missing, nothing doubled, all of it whole."""

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


def look(runtime: Runtime, manifests: list[str]) -> dict[str, Any]:
    """One result and one event for each manifest, whose outputs can be opened, and what a sweep
    would still find to do. AssertionError if anything is missing, doubled, unreadable."""
    statuses, opened, cut = Counter[str](), 0, 0
    announced = [info.key for info in insist(lambda: list(runtime.results.list("events/")))]
    assert len(announced) == len(set(announced)) == len(manifests)
    for key in manifests:
        job_id = insist(partial(commit.read_manifest, key, runtime)).job_id
        done = insist(partial(commit.committed_result, job_id, runtime))
        assert done is not None, key
        assert event_key(done.job_id, done.finished) in announced
        statuses[done.error.code if done.error else done.status] += 1
        cut += bool(done.parts)
        for item in insist(partial(items, done, runtime)):
            assert item.output, item.error
            sealed = insist(partial(runtime.results.get, item.output.key, limit=10**8)).data
            plain = sealing.open_sealed(sealed, present(item.envelope), runtime.keys.wrapping)
            opened += plain.startswith(b"RIFF")
    left = insist(lambda: sweep.run(runtime, grace=0.0)).findings
    return {
        "jobs": len(manifests),
        "cut": cut,
        "results": dict(statuses),
        "events": len(announced),
        "sealed_objects_opened": opened,
        "left_over": [f"{finding.kind}: {finding.detail}" for finding in left],
    }


def items(done: document.Result, runtime: Runtime) -> list[ItemResult]:
    return list(document.read_items(done, commit.part_reader(runtime)))


def insist(action: Callable[[], T]) -> T:
    """What a producer or auditor does when the store fails: again."""
    for attempt in range(30):
        try:
            return action()
        except JobError as exc:
            if not exc.retry or attempt == 29:
                raise
            time.sleep(0.05)
    raise AssertionError
