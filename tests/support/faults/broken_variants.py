"""The pipeline with one deliberate bug: random histories must detect each of these."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import msgspec

from core.job import commit, item, object_record
from core.job.lease import Lease
from core.job.runtime import Runtime
from core.manifest.resolve import Item, Job
from core.result.document import Result, format_timestamp
from core.result.item_result import ItemResult
from core.storage.object_keys import event_key, output_key
from events import outgoing
from tests.support.faults.history import MakeSimulation
from tests.support.faults.simulation import Simulation


@dataclass(frozen=True)
class Variant:
    make_simulation: MakeSimulation = Simulation
    apply: Callable[[], AbstractContextManager[Any]] = nullcontext


def no_fencing() -> AbstractContextManager[Any]:
    """A worker does not learn that it lost its lease."""
    return mock.patch.object(Lease, "check", return_value=None)


@contextmanager
def event_before_result() -> Iterator[None]:
    original = commit.commit_result

    def broken(draft: Result, runtime: Runtime) -> Result:
        early = msgspec.structs.replace(draft, finished=format_timestamp(runtime.control.now()))
        key = event_key(early.job_id, early.finished)
        runtime.results.put_once(key, outgoing.job_event(early))
        return original(draft, runtime)

    with mock.patch.object(commit, "commit_result", broken):
        yield


def adopt_without_compare() -> AbstractContextManager[Any]:
    """An object at an item's key is adopted, whatever it was made from."""

    def broken(
        wanted: Item,
        recordings: Sequence[str],
        engine: str,
        job: Job,
        job_id: str,
        runtime: Runtime,
    ) -> ItemResult | None:
        key = output_key(job_id, wanted.id, wanted.format)
        stored = object_record.adopt(key, ItemResult, runtime)
        return msgspec.structs.replace(stored[0].entry, envelope=stored[1]) if stored else None

    return mock.patch.object(item, "adopt", broken)


class _WallClock:
    """A store with the clock of the worker's machine."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def now(self) -> float:
        return time.time()


def lease_by_wall_clock() -> AbstractContextManager[Any]:
    acquire = Lease.acquire

    def broken(store: Any, *args: Any) -> Lease:
        return acquire(_WallClock(store), *args)

    return mock.patch.object(Lease, "acquire", broken)


VARIANTS = {
    "no-fencing": Variant(apply=no_fencing),
    "event-before-result": Variant(apply=event_before_result),
    "adopt-without-compare": Variant(apply=adopt_without_compare),
    "lease-by-wall-clock": Variant(apply=lease_by_wall_clock),
    "versioned-bucket": Variant(partial(Simulation, versioned=True)),
}
