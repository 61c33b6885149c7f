"""All items of a job or of a shard, side by side. An error fails its item alone."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import nullcontext

import msgspec

from core.errors import Failed, JobError, Refused
from core.job import attempt, lease
from core.job.enrolment import Enrolled
from core.job.item import make_item
from core.job.runtime import Run, Runtime, Step
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult, Problem
from core.storage.object_keys import output_key

log = logging.getLogger("voicedrop.items")


def make_all(
    job: Job,
    voices: Mapping[str, Enrolled | JobError],
    earlier: Mapping[str, ItemResult],
    run: Run,
) -> list[ItemResult]:
    """Make every item, and return their results in the order of the manifest.

    `earlier`: results of an earlier job that are kept, by item id. Once the attempts at the job are
    used up, nothing more is spoken: what is stored counts, and the other items fail.
    """
    is_first, begun = run.lease.attempt == 1, run.lease.seconds
    items = _Items(job, voices, earlier, run)
    # An item that kills its process takes with it what is made beside it, and would do so in every
    # attempt. So a repeated one makes one item at a time.
    lanes = min(items.count_left, items.places) if is_first else 1
    run.lanes.repeat(items.make_next, max(1, lanes))
    took_s = run.lease.seconds - begun
    if is_first and not _was_helped(run, took_s):  # others adopt items that they have not made
        run.runtime.rates.measure_items(job, items.results, took_s)
    return sorted(items.results, key=lambda result: result.index)


def _was_helped(run: Run, took_s: float) -> bool:
    if took_s < lease.LEAST_TO_HELP_S:
        return False
    return lease.read_helper(run.runtime.control, run.job_id, run.runtime.keys) is not None


def _count_places(voices: Mapping[str, Enrolled | JobError], runtime: Runtime) -> int:
    """Return how many items all jobs of the process may make at once; 0 if this job speaks none,
    because then the engine need not be loaded."""
    if not any(isinstance(voice, Enrolled) for voice in voices.values()):
        return 0
    return runtime.lanes or runtime.voice.callers


class _Items:
    """The items of a job: those that no lane has begun, and the results of the others."""

    def __init__(
        self,
        job: Job,
        voices: Mapping[str, Enrolled | JobError],
        earlier: Mapping[str, ItemResult],
        run: Run,
    ) -> None:
        self.results: list[ItemResult] = []
        self._job, self._earlier, self._run = job, earlier, run
        self._voices = dict(voices)
        self._stored = 0
        self.places = _count_places(voices, run.runtime)
        for bad in job.errors:
            self._add(failed_item(bad.id, bad.index, bad.error))
        stored, missing = _in_order_of_attempt(job, earlier, run)
        self._finished = {item.id for item in stored} | set(earlier)
        if run.lease.attempt > run.runtime.max_attempts:
            error = attempt.exhausted_error(run)
            for item in missing:
                self._add(failed_item(item.id, item.index, error, item))
            missing = []
        self._left = deque([*stored, *missing])

    @property
    def count_left(self) -> int:
        return len(self._left)

    def make_next(self) -> bool:
        """Make the first item that no lane has begun; return False if there is none.

        Raises Unavailable, Misconfigured, and what `Run.check` raises.
        """
        places = self._run.runtime.concurrency.places
        with places.hold(self.places) if self.places else nullcontext():
            self._run.check()
            with self._run.lanes.lock:
                if not self._left:
                    return False
                item = self._left.popleft()
            self._finish(item)
        return True

    def _finish(self, item: Item) -> None:
        silenced: dict[str, JobError] = {}
        try:
            result = self._make(item)
        except (Refused, Failed) as exc:
            result, silenced = failed_item(item.id, item.index, exc, item), _silenced(item, exc)
        with self._run.lanes.lock:
            self._voices |= silenced
            self._stored += result.error is None
            self._add(result)
            self._run.lease.record_outputs(self._stored)

    def _make(self, item: Item) -> ItemResult:
        if item.id not in self._finished and self._run.cancellation and not self._is_stored(item):
            raise Refused("JOB_CANCELLED", pointer=item.pointer)
        if item.id in self._earlier:
            return _keep(item, self._earlier[item.id])
        return make_one(item, self._voices[item.voice], self._job, self._run)

    def _is_stored(self, item: Item) -> bool:
        """Whether another worker has stored the item, one that helps or one that lost the job."""
        key = output_key(self._run.job_id, item.id, item.format)
        return self._run.runtime.results.head(key) is not None

    def _add(self, result: ItemResult) -> None:
        self.results.append(result)
        count = len(self._job.errors) + len(self._job.items)
        step = Step(job=self._run.job_id, result=result, done=len(self.results), of=count)
        self._run.runtime.observe(step)


def _silenced(item: Item, error: JobError) -> dict[str, JobError]:
    """The voice of an item if its consent was withdrawn: it speaks no more in this job."""
    return {item.voice: error} if error.code == "CONSENT_REVOKED" else {}


def failed_item(item_id: str, index: int, error: JobError, item: Item | None = None) -> ItemResult:
    """The result of an item that failed. `item`: None if it could not even be read."""
    return ItemResult(
        id=item_id,
        index=index,
        status="failed",
        error=Problem.from_error(error),
        voice=item.voice if item else "",
        notices=list(item.notices) if item else [],
        meta=item.meta if item else None,
    )


def refuse_language(language: str, spoken: Collection[str], pointer: str = "") -> None:
    """Raises Refused LANGUAGE_UNSUPPORTED if the engine, which speaks these languages, does not
    speak this one."""
    if language not in spoken:
        supported = ", ".join(sorted(spoken))
        message = f"The engine speaks {supported}, not {language}."
        raise Refused("LANGUAGE_UNSUPPORTED", message, pointer=pointer)


def _in_order_of_attempt(
    job: Job, earlier: Collection[str], run: Run
) -> tuple[list[Item], list[Item]]:
    """The items that are stored already, and the missing ones.

    After each attempt that stored nothing, the next one starts one missing item further on, so that
    an item that kills its worker does not keep the others from being made.
    """
    if run.lease.attempt == 1:
        return [], job.items
    is_stored = {
        item.id
        for item in job.items
        if item.id in earlier
        or run.runtime.results.head(output_key(run.job_id, item.id, item.format))
    }
    missing = [item for item in job.items if item.id not in is_stored]
    first = (run.lease.attempt - 1) % max(len(missing), 1)
    return [item for item in job.items if item.id in is_stored], missing[first:] + missing[:first]


def _keep(item: Item, earlier: ItemResult) -> ItemResult:
    return msgspec.structs.replace(earlier, index=item.index, meta=item.meta, timings={})


def make_one(item: Item, voice: Enrolled | JobError, job: Job, run: Run) -> ItemResult:
    """Make one item. Raises Refused, Failed for an error of this item; Unavailable,
    Misconfigured."""
    if isinstance(voice, JobError):
        raise voice
    refuse_language(item.language, run.runtime.languages, f"{item.pointer}/language")
    try:
        return make_item(item, voice, job, run)
    except (JobError, MemoryError):
        raise
    except Exception as exc:
        # A bug that one item triggers must not fail the other ten thousand.
        log.exception("item failed", extra={"job": run.job_id, "item": item.id})
        raise Failed("INTERNAL", type(exc).__name__, pointer=item.pointer) from exc
