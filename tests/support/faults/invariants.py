"""What must hold after every step, whatever happened before it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator

from core.errors import Refused
from core.job import commit
from core.job.lease import Record
from core.job.runtime import Runtime
from core.result.document import Part, Result, parse_result, read_items, read_parts
from core.result.item_result import ItemResult
from core.storage.object_keys import event_key, parse_shard_key, result_key, shard_name
from core.storage.port import Object
from events import outgoing
from tests.support.faults.injector import Call
from tests.support.faults.memory import MemoryStore
from tests.support.faults.virtual_time import World

TOGETHER = frozenset({"items.csv", "errors.jsonl", "result.json"})
"""What is made from all parts of a job that was cut."""


class Watcher:
    """Sees every call before and after; knows the buckets and the true time."""

    def __init__(
        self, world: World, inbox: MemoryStore, results: MemoryStore, control: MemoryStore
    ) -> None:
        self._world = world
        self.inbox, self.results, self.control = inbox, results, control
        self._first: dict[str, bytes] = {}
        self._made_from: dict[str, tuple[str, str]] = {}
        """Output -> engine and digest of the reference."""
        self._reference_of: dict[str, str] = {}
        self._engine_of: dict[str, str] = {}
        self._held: dict[str, Record] = {}
        self._fenced: dict[tuple[str, str], tuple[int, int]] = {}
        """Host and job -> step at which the host learned that it lost, outputs written since."""
        self._claimed: set[str] = set()
        self.written: Counter[str] = Counter()
        self._shard_of: dict[tuple[str, str], str] = {}
        """Job and item -> name of the shard that makes it."""
        self._cut: set[str] = set()
        self.on_work: Callable[[str], None] = lambda key: None

    def engine(self, host: str, fingerprint: str) -> None:
        self._engine_of[host] = fingerprint

    def before(self, call: Call) -> None:
        fetches = call.operation == "get" and call.key.startswith("refs/")
        if fetches and call.host.name not in self._claimed:
            self._fail(call, "a reference was fetched before the attempt was counted")
        if call.bucket == "results" and call.operation == "put_once":
            self._no_write_after_fencing(call)

    def after(self, call: Call, answer: object) -> None:
        if isinstance(answer, Object) and call.key.startswith("refs/"):
            self._reference_of[call.host.name] = hashlib.sha256(answer.data).hexdigest()
        if call.bucket == "results" and call.operation in ("put", "put_once", "delete"):
            self._written(call, answer)
        elif answer is True and call.key.startswith("lease/"):
            self._appended(call)
        elif answer is True and call.key.startswith("work/") and call.key.endswith(".jsonl"):
            self._shared_out(call)

    def _shared_out(self, call: Call) -> None:
        job, number = parse_shard_key(call.key)
        self._cut.add(job)
        for line in call.data.splitlines()[1:]:
            self._shard_of[job, json.loads(line)["id"]] = shard_name(job, number)
        self.on_work(call.key)

    def heard(self, call: Call, answer: object) -> None:
        if call.operation == "append" and call.key.startswith("lease/"):
            claim = (call.host.name, call.key.removeprefix("lease/"))
            if answer:
                self._fenced.pop(claim, None)
            else:
                self._fenced.setdefault(claim, (self._world.steps, 0))

    def _written(self, call: Call, answer: object) -> None:
        key = call.key
        if call.operation in ("delete", "put"):
            self._fail(call, "something in the results bucket was replaced or removed")
        stored = self.results.objects[key].data
        if self._first.setdefault(key, stored) != stored:
            self._fail(call, "an object of the results bucket changed after it was written")
        if answer is True:
            self.written[key] += 1
            if key.endswith(".sealed"):
                host = call.host.name
                self._made_from[key] = (self._engine_of[host], self._reference_of[host])
            elif key.endswith("/result.json"):
                self._committed(call, parse_result(stored))
            elif key.startswith("events/"):
                self._announced(call, key, stored)

    def items(self, result: Result) -> Iterator[ItemResult]:
        """All of a result; AssertionError if it names other parts than are there."""
        try:
            yield from read_items(result, lambda key: self.results.get(key, limit=10**8).data)
        except Refused as exc:
            self._world.violated(f"the result of {result.job_id} has no such part: {exc}")

    def _committed(self, call: Call, result: Result) -> None:
        used: dict[str, Part] = {}
        for part in read_parts(result, lambda key: self.results.get(key, limit=10**8).data):
            used |= {item.id: part for item in part.items}
        for item in self.items(result):
            if item.output is None:
                continue
            stored = self.results.objects.get(item.output.key)
            if stored is None:
                self._fail(call, f"the result names {item.output.key}, which is not there")
            elif hashlib.sha256(stored.data).hexdigest() != item.output.sealed_sha256:
                self._fail(call, f"the result names other bytes than lie at {item.output.key}")
            noted = "ENGINE_CHANGED" in {notice.code for notice in item.notices}
            source = used.get(item.id, result)
            engine = source.engine.fingerprint if source.engine else ""
            said = (engine, source.voices[item.voice].reference_sha256)
            if self._made_from[item.output.key] != said and not noted:
                self._fail(call, f"{item.output.key} was made from something else; nobody said so")

    def _announced(self, call: Call, key: str, event: bytes) -> None:
        job = key.rpartition("/")[2].removesuffix(".json")
        stored = self.results.objects.get(result_key(job))
        if stored is None:
            self._fail(call, "an event announces a result that is not there")
        elif event != outgoing.job_event(parse_result(stored.data)):
            self._fail(call, "an event says something else than its result")
        same = [k for k in self.results.objects if k.startswith("events/") and job in k]
        if len(same) != 1:
            self._fail(call, "a job was announced twice")

    def _appended(self, call: Call) -> None:
        record = Record.parse(call.data)
        self._claimed.add(call.host.name)
        held = self._held.get(call.key, record)
        if held.worker != record.worker and held.expires > self._world.now:
            self._fail(call, f"{record.worker} took a lease that {held.worker} still held")
        self._held[call.key] = record

    def _no_write_after_fencing(self, call: Call) -> None:
        """Who learned that the job is somebody else's may end the item in hand, no more."""
        for (host, job), (learned, outputs) in self._fenced.items():
            ours = host == call.host.name and self._is_of(call.key, job)
            if not ours or call.began <= learned:
                continue
            if call.key.endswith((".json", ".csv", ".jsonl")) or outputs >= 1:
                self._fail(call, "a worker wrote on after it had lost its lease")
            self._fenced[host, job] = (learned, outputs + 1)

    def _is_of(self, key: str, claimed: str) -> bool:
        """Whether an output, part or result is made under this claim, of a job or of a shard."""
        job, _, name = key.removeprefix("out/").partition("/")
        if name.startswith("parts/"):
            return claimed == shard_name(job, int(name[6:11]))
        if job in self._cut and name in TOGETHER:
            return False  # whoever sees the last part commits, under no claim
        return claimed == self._shard_of.get((job, name.partition(".")[0]), job)

    def _fail(self, call: Call, what: str) -> None:
        where = f"{call.host.name} {call.operation} {call.bucket}/{call.key}"
        self._world.violated(f"{what} ({where}, step {self._world.steps})")

    def settled(self, runtime: Runtime, keys: list[str]) -> dict[str, Result]:
        """After the dust: one result and one event for every manifest that is there."""
        finished: dict[str, Result] = {}
        for key in keys:
            order = commit.read_manifest(key, runtime)
            done = commit.committed_result(order.job_id, runtime)
            assert done is not None, f"{key} has no result"
            event = event_key(done.job_id, done.finished)
            assert event in self.results.objects, f"{key} was not announced"
            finished[key] = done
        return finished
