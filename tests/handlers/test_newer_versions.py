"""A worker leaves what a newer version is working on as it is, and says so."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from core.batch.plan import Head
from core.documents import signed
from core.errors import Unavailable
from core.job.lease import LeaseRecord
from core.job.runtime import Runtime
from core.manifest.resolve import job_id
from core.storage.object_keys import lease_key, plan_key, shard_key
from handlers import oss
from handlers.sweep import run_sweep
from tests.support.events import notification
from tests.support.runtime import local_runtime, put_job


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """A job with the lease of a newer worker, which has expired, and a job cut by such a worker."""
    runtime = local_runtime(tmp_path)
    key = put_job(runtime, name="leased")
    leased = job_id(runtime.inbox.name, key, runtime.inbox.get(key, limit=10**6).data)
    record = LeaseRecord(name=leased, position=0, worker="new", expires=1.0, attempt=1, done=0)
    runtime.control.append(lease_key(leased), newer(record, runtime) + b"\n", position=0)
    cut = "a" * 32
    head = Head(job_id=cut, number=0, of=1, size=0, sha256="0" * 64)
    runtime.control.put(shard_key(cut, 0), newer(head, runtime) + b"\n")
    plan = {"schema": "voicedrop/plan/2", "job_id": cut}
    runtime.control.put(plan_key(cut), signed.sign(plan, runtime.keys.signing))
    return runtime


def newer(document: msgspec.Struct, runtime: Runtime) -> bytes:
    fields = msgspec.to_builtins(document) | {"a_new_field": {"seconds": 1}}
    return signed.sign(fields, runtime.keys.signing)


def stored(runtime: Runtime) -> dict[str, bytes]:
    return {
        f"{store.name}/{info.key}": store.get(info.key, limit=10**6).data
        for store in (runtime.inbox, runtime.results, runtime.control)
        for info in store.list("")
    }


def test_notifications_of_it_are_tried_again_later(runtime: Runtime) -> None:
    before = stored(runtime)
    for key in ("jobs/leased.manifest.json", shard_key("a" * 32, 0)):
        with pytest.raises(Unavailable, match="FORMAT_NEWER"):
            oss.handle(notification(key), runtime)
    assert stored(runtime) == before


def test_a_sweep_says_so_and_changes_nothing(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    before = stored(runtime)
    with caplog.at_level(logging.INFO, "voicedrop.sweep"):
        found = run_sweep(runtime, grace=0.0).findings
    assert [(one.error, one.action) for one in found if one.kind == "unfinished"] == [
        ("FORMAT_NEWER", "")
    ] * 2
    lines = [line for line in caplog.messages if "which is left as it is" in line]
    assert ["lease" in line for line in lines] == [True, False]
    assert ["plan" in line for line in lines] == [False, True]
    assert stored(runtime) == before
