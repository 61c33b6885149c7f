"""Invariants that are checked at every store call of a simulation."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from core.errors import Refused
from core.job import commit
from core.job.lease import LeaseRecord
from core.job.runtime import Runtime
from core.result.document import Part, Result, parse_result, read_items, read_parts
from core.result.item_result import ItemResult
from core.storage.object_keys import event_key, parse_shard_key, result_key, shard_name
from core.storage.port import Object
from events import outgoing
from tests.support.faults.injector import Call
from tests.support.faults.memory import MemoryStore
from tests.support.faults.virtual_time import Scheduler

COMMITTED_FILES = frozenset({"items.csv", "errors.jsonl", "result.json"})
"""Files of a split job that are made from all its parts."""


class InvariantChecker:
    """Observes every store call and knows the buckets and the virtual time."""

    def __init__(
        self, scheduler: Scheduler, inbox: MemoryStore, results: MemoryStore, control: MemoryStore
    ) -> None:
        self._scheduler = scheduler
        self.inbox, self.results, self.control = inbox, results, control
        self._first: dict[str, bytes] = {}
        self._made_from: dict[str, tuple[str, str]] = {}
        """Key of an output -> fingerprint of the engine and SHA-256 of the reference."""
        self._reference_of: dict[str, str] = {}
        self._engine_of: dict[str, str] = {}
        self._held: dict[str, LeaseRecord] = {}
        self._fenced: dict[tuple[str, str], tuple[int, int]] = {}
        """Host and job -> step at which the host learned that it lost its lease, and the number of
        outputs that it has written since."""
        self._claimed: set[str] = set()
        self.written: Counter[str] = Counter()
        self._shard_of: dict[tuple[str, str], str] = {}
        """Job and item -> name of the item's shard."""
        self._split_jobs: set[str] = set()
        self.on_shard: Callable[[str], None] = lambda key: None
        self.lanes: Callable[[], int] = lambda: 1
        """Items that a worker makes at once."""
        self.may_delete: Callable[[str], bool] = lambda key: False
        """Whether an output may be removed from the results bucket."""
        self.stored_at: dict[str, float] = {}
        """Key of an output -> virtual time at which it was stored."""

    def register_engine(self, host: str, fingerprint: str) -> None:
        self._engine_of[host] = fingerprint

    def before(self, call: Call) -> None:
        fetches = call.operation == "get" and call.key.startswith("refs/")
        if fetches and call.host.name not in self._claimed:
            self._fail(call, "a reference was fetched before the attempt was counted")
        if call.bucket == "results" and call.operation == "put_once":
            self._check_fencing(call)

    def after(self, call: Call, answer: object) -> None:
        if isinstance(answer, Object) and call.key.startswith("refs/"):
            self._reference_of[call.host.name] = hashlib.sha256(answer.data).hexdigest()
        if call.bucket == "results" and call.operation in ("put", "put_once", "delete"):
            self._check_write(call, answer)
        elif answer is True and call.key.startswith("lease/"):
            self._check_lease(call)
        elif answer is True and call.key.startswith("work/") and call.key.endswith(".jsonl"):
            self._record_shard(call)

    def _record_shard(self, call: Call) -> None:
        job, number = parse_shard_key(call.key)
        self._split_jobs.add(job)
        for line in call.data.splitlines()[1:]:
            self._shard_of[job, json.loads(line)["id"]] = shard_name(job, number)
        self.on_shard(call.key)

    def answer_received(self, call: Call, answer: object) -> None:
        if call.operation == "append" and call.key.startswith("lease/"):
            claim = (call.host.name, call.key.removeprefix("lease/"))
            if answer:
                self._fenced.pop(claim, None)
            else:
                self._fenced.setdefault(claim, (self._scheduler.steps, 0))

    def _check_write(self, call: Call, answer: object) -> None:
        key = call.key
        if call.operation == "delete" and self.may_delete(key):
            self._first.pop(key, None)
            return
        if call.operation in ("delete", "put"):
            self._fail(call, "an object of the results bucket was replaced or removed")
        stored = self.results.objects[key].data
        if self._first.setdefault(key, stored) != stored:
            self._fail(call, "an object of the results bucket changed after it was written")
        if answer is True:
            self.written[key] += 1
            if key.endswith(".sealed"):
                self.stored_at[key] = self._scheduler.now
                host = call.host.name
                self._made_from[key] = (self._engine_of[host], self._reference_of[host])
            elif key.endswith("/result.json"):
                self._check_result(call, parse_result(stored))
            elif key.startswith("events/"):
                self._check_event(call, key, stored)

    def items(self, result: Result) -> Iterator[ItemResult]:
        """Yield the items of a result; it is a violation if a part is missing or changed."""
        try:
            yield from read_items(result, lambda key: self.results.get(key, limit=10**8).data)
        except Refused as exc:
            self._scheduler.report_violation(
                f"the result of {result.job_id} has no such part: {exc}"
            )

    def _check_result(self, call: Call, result: Result) -> None:
        used: dict[str, Part] = {}
        for part in read_parts(result, lambda key: self.results.get(key, limit=10**8).data):
            used |= {item.id: part for item in part.items}
        for item in self.items(result):
            if item.output is None:
                continue
            stored = self.results.objects.get(item.output.key)
            if stored is None:
                self._fail(call, f"the result names {item.output.key}, which does not exist")
            elif hashlib.sha256(stored.data).hexdigest() != item.output.sealed_sha256:
                self._fail(call, f"the result has another digest than {item.output.key}")
            if item.kept_from:
                continue
            has_notice = "ENGINE_CHANGED" in {notice.code for notice in item.notices}
            source = used.get(item.id, result)
            engine = source.engine.fingerprint if source.engine else ""
            stated = (engine, source.voices[item.voice].reference_sha256)
            if self._made_from[item.output.key] != stated and not has_notice:
                self._fail(
                    call,
                    f"{item.output.key} has another engine or reference than stated",
                )

    def _check_event(self, call: Call, key: str, event: bytes) -> None:
        job = key.rpartition("/")[2].removesuffix(".json")
        stored = self.results.objects.get(result_key(job))
        if stored is None:
            self._fail(call, "an event announces a result that does not exist")
        elif event != outgoing.job_event(parse_result(stored.data)):
            self._fail(call, "an event differs from its result")
        same = [k for k in self.results.objects if k.startswith("events/") and job in k]
        if len(same) != 1:
            self._fail(call, "a job was announced twice")

    def _check_lease(self, call: Call) -> None:
        record = msgspec.json.decode(call.data, type=LeaseRecord)
        self._claimed.add(call.host.name)
        held = self._held.get(call.key, record)
        if held.worker != record.worker and held.expires > self._scheduler.now:
            self._fail(call, f"{record.worker} took a lease that {held.worker} still held")
        self._held[call.key] = record

    def _check_fencing(self, call: Call) -> None:
        """A worker that learned that it lost its lease may finish what it has begun, no more."""
        for (host, job), (learned, outputs) in self._fenced.items():
            is_this_job = host == call.host.name and self._belongs_to(call.key, job)
            if not is_this_job or call.began <= learned:
                continue
            if call.key.endswith((".json", ".csv", ".jsonl")) or outputs >= self.lanes():
                self._fail(call, "a worker continued to write after it had lost its lease")
            self._fenced[host, job] = (learned, outputs + 1)

    def _belongs_to(self, key: str, claimed: str) -> bool:
        """True if the lease of this job or shard is needed to write the object."""
        job, _, name = key.removeprefix("out/").partition("/")
        if name.startswith("parts/"):
            return claimed == shard_name(job, int(name[6:11]))
        if job in self._split_jobs and name in COMMITTED_FILES:
            return False  # the worker that sees the last part commits without a lease
        return claimed == self._shard_of.get((job, name.partition(".")[0]), job)

    def _fail(self, call: Call, what: str) -> None:
        where = f"{call.host.name} {call.operation} {call.bucket}/{call.key}"
        self._scheduler.report_violation(f"{what} ({where}, step {self._scheduler.steps})")

    def finished_results(self, runtime: Runtime, keys: list[str]) -> dict[str, Result]:
        """Return the result of every manifest. Raises AssertionError if a result or its event is
        missing."""
        finished: dict[str, Result] = {}
        for key in keys:
            order = commit.read_manifest(key, runtime)
            done = commit.read_result(order.job_id, runtime)
            assert done is not None, f"{key} has no result"
            event = event_key(done.job_id, done.finished)
            assert event in self.results.objects, f"{key} was not announced"
            finished[key] = done
        return finished
