"""`voicedrop watch`: a worker that lists the inbox, for folders and buckets without events."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec

from core import inference
from core.batch import worker
from core.errors import JobError, Refused, Unavailable
from core.job import helping
from core.job.lanes import Concurrency
from core.job.runtime import Finished, Outcome, Runtime, Sharded, Waiting
from core.manifest import fields
from core.result.document import Result, format_timestamp
from core.settings import Settings
from core.speech import reference
from core.storage.object_keys import (
    CLIPS,
    MANIFEST_SUFFIXES,
    MANIFESTS,
    is_apple_double,
    result_key,
)
from core.storage.port import Info
from core.trace.trace import Trace
from events.incoming import object_kind
from handlers import metrics, oss, wiring
from handlers.cli import exit_codes
from handlers.cli.describe import (
    SHORT,
    SUCCESSFUL,
    count_jobs,
    describe_finished,
    describe_result,
    describe_totals,
)
from handlers.cli.foresee import describe_waiting
from handlers.cli.retry import next_command
from handlers.cli.screen import CommandOutput, Progress
from handlers.jobs import carry_out, carry_out_shard, trace_clip

SETTLING_SECONDS = 0.5
"""A file in a folder counts as complete so long after its last write. A bucket lists only complete
objects, but `cp` into a folder writes in steps."""
REPEAT_SECONDS = 60.0
"""After so long, what keeps an object from being carried out is said again."""
PATIENCE_SECONDS = 600.0
"""So long `watch --once` waits for a store or key service that does not answer."""
JOBS_AT_ONCE = 8
"""Manifests that are begun at once, or one per usable CPU if those are more, unless VOICEDROP_LANES
is set. The items of all of them share the lanes; a job also waits for buckets."""
OTHER_WORKERS = frozenset({"JOB_BUSY", "LEASE_LOST", "OVERLOADED"})
"""Errors that end when another worker does."""
LISTS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".xlsx", ".ods", ".yaml", ".yml", ".txt")
"""How names end that somebody may give to a list of texts."""
MAX_EXAMINED = 1000
"""Objects of the inbox, in the order of their keys, among which misplaced manifests are noticed."""
MAX_READ = 1 << 20
"""Bytes of the largest object that is read to see whether it is a manifest."""


def watch_inbox(
    settings: Settings, *, once: bool, poll: float, progress: Progress
) -> CommandOutput:
    """Carry out manifests until interrupted; with `once`, until none is left. `poll`: seconds."""
    until = "until nothing is left to do" if once else "until Ctrl-C"
    progress.print(f"Watching {settings.inbox} {until}. Results go to {settings.results}.")
    if not once:
        reference.start(behind=True)  # becomes ready beside what follows
    metrics.start(settings.metrics)
    runtime = wiring.create_local_runtime(settings, progress)
    wiring.check_stores(runtime)
    wiring.require_recogniser(settings)
    return watch_until_stopped(runtime, once=once, poll=poll, progress=progress)


def watch_until_stopped(
    runtime: Runtime, *, once: bool, poll: float, progress: Progress
) -> CommandOutput:
    watch = Watch(runtime, progress)
    try:
        while watch.poll() or not once:
            progress.update_status(watch.idle_status())
            time.sleep(SETTLING_SECONDS if once else poll)
    except KeyboardInterrupt:
        line = "Stopped. The next `voicedrop watch` continues what is not finished."
        return CommandOutput({"jobs": watch.jobs}, [line], exit_codes.INTERRUPTED)
    return CommandOutput({"jobs": watch.jobs}, watch.closing_lines(), watch.exit_code)


class Watch:
    """Carries out what is new in the inbox with every poll, and reports it at once.

    New is what had no result when this run began.
    """

    def __init__(
        self,
        runtime: Runtime,
        progress: Progress,
        *,
        repeat: float = REPEAT_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._runtime, self._progress = runtime, progress
        self._repeat, self._patience = repeat, patience
        self._started = format_timestamp(runtime.control.now())
        self._done: dict[str, str] = {}
        """Key -> ETag of the objects that were carried out."""
        self._sharded: dict[str, Sharded] = {}
        """ETag of a manifest -> its shards. It is carried out again when the job has a result."""
        self._said: dict[str, tuple[str, float]] = {}
        """Key -> what was said last about an object that is not finished, and when."""
        self._failing: dict[str, float] = {}
        """Key -> since when each attempt at an object has ended with a temporary error."""
        self._left: dict[str, str] = {}
        """Key -> the temporary error for whose end `watch --once` does not wait, at this poll."""
        self._examined: dict[str, str] = {}
        """Key -> ETag of the objects that were examined for misplaced manifests."""
        self._earlier: Counter[bool] = Counter()
        """Whether it succeeded -> number of jobs that had a result when this run began."""
        self._taken: list[str] = []
        """Keys of the manifests that other workers carry out, as this poll found."""
        self._polls = 0
        self._outcomes: Counter[str] = Counter()
        """Status -> number of jobs of this run."""
        self.jobs: dict[str, dict[str, Any]] = {}
        """Key -> what the output states about the job or trace."""
        self.waiting = False
        self.failed = False

    @property
    def exit_code(self) -> int:
        if self.failed:
            return exit_codes.FAILED
        if self._left:
            return exit_codes.LATER
        return exit_codes.WAITING if self.waiting else exit_codes.DONE

    def poll(self) -> bool:
        """Carry out what has no result yet; return whether there is more to do."""
        self.waiting = False
        self._left.clear()
        inbox = self._runtime.inbox
        listed = [*inbox.list(MANIFESTS), *inbox.list(CLIPS)]
        self._warn_of_ignored_manifests(listed)
        infos = self._new_objects(listed)
        if infos:
            # Before anything is spoken. A bucket without events does not tell of withdrawals.
            for key in list(self._runtime.consents.list_marks()):
                self._runtime.consents.withdraw_marked(key)
        clips = [info for info in infos if object_kind(info.key) == "clip"]
        manifests = [info for info in infos if object_kind(info.key) == "manifest"]
        at_once = self._runtime.lanes or max(JOBS_AT_ONCE, inference.usable_cpus())
        has_more = self._carry_out_all(manifests, at_once)
        has_more |= self._carry_out_all(clips, 1)  # a long clip takes much memory
        has_more |= self._make_shards()
        self._help()
        if self._polls == 0:
            self._report_earlier_jobs()
        self._polls += 1
        return has_more

    def closing_lines(self) -> list[str]:
        """Return what remains to be said at the end of `watch --once`."""
        lines = [
            f"{key}: {describe_waiting(state['for'])}"
            for key, state in self.jobs.items()
            if state.get("status") == "waiting"
        ]
        lines += [f"{key}: not done: {why}" for key, why in self._left.items()]
        if self._outcomes.total() > 1:
            each = ", ".join(f"{n} {status}" for status, n in sorted(self._outcomes.items()))
            lines.insert(0, f"{self._outcomes.total()} jobs: {each}.")
        did_something = self.failed or any(state.get("new") for state in self.jobs.values())
        return lines if lines or did_something else ["Nothing new in the inbox."]

    def idle_status(self) -> str:
        waiting = sum(state.get("status") == "waiting" for state in self.jobs.values())
        return f"{count_jobs(waiting)} waiting for files" if waiting else "waiting for manifests"

    def _postpone(self, key: str, error: Unavailable) -> bool:
        """Say why an object is not done yet; return whether `watch --once` waits for it. It does
        not wait for space on a disk, which nobody makes meanwhile."""
        is_full = error.code == "NO_SPACE"
        what_next = f"{error.advice} The job will be retried." if is_full else "Trying again."
        self._say(
            key,
            error.code,
            f"{error.message} {what_next}",
            repeat=self._repeat,
        )
        if error.code in OTHER_WORKERS:
            self._failing.pop(key, None)
            return True
        since = self._failing.setdefault(key, time.monotonic())
        if is_full or time.monotonic() - since > self._patience:
            self._left[key] = str(error)
        return key not in self._left

    def _carry_out_all(self, infos: list[Info], at_once: int) -> bool:
        """Carry out objects, several at once; return whether there is more to do."""
        left, again = deque(infos), list[Info]()
        runtime = replace(self._runtime, concurrency=Concurrency())
        jobs = runtime.concurrency.jobs

        def carry_out_next() -> bool:
            with jobs.lock:
                if not left:
                    return False
                info = left.popleft()
            if self._carry_out(info, runtime):
                again.append(info)
            return True

        def say_stopping() -> None:
            self._progress.print("Stopping after the steps in progress; Ctrl-C again: at once.")

        jobs.repeat(carry_out_next, min(len(infos), at_once), say_stopping)
        return bool(again)

    def _carry_out(self, info: Info, runtime: Runtime) -> bool:
        """Carry out an object; return whether it is to be tried again."""
        if 0 <= runtime.inbox.now() - info.modified < SETTLING_SECONDS:
            return True
        reporting = runtime.concurrency.jobs.lock
        do = trace_clip if object_kind(info.key) == "clip" else carry_out
        try:
            outcome = do(info.key, runtime)
        except Unavailable as exc:
            with reporting:
                if exc.code == "JOB_BUSY" and do is carry_out:
                    self._taken.append(info.key)
                return self._postpone(info.key, exc)
        except Refused as exc:
            with reporting:
                self._finish(info, {"status": "refused", "error": exc.code, "message": exc.message})
                self.failed = True
                self._progress.report(f"{info.key}: {exc}")
        else:
            with reporting:
                self._failing.pop(info.key, None)
                self._take(info, outcome)
        return False

    def _take(self, info: Info, outcome: Outcome | Trace) -> None:
        if isinstance(outcome, Trace):
            self._finish_trace(info, outcome)
        elif isinstance(outcome, Finished):
            self._finish_job(info, outcome.result)
        elif isinstance(outcome, Waiting):
            self.waiting = True
            self.jobs[info.key] = {"status": "waiting", "for": outcome.references}
            missing = ", ".join(outcome.references)
            until = format_timestamp(outcome.until)[:16].replace("T", " ")
            self._say(info.key, missing, f"waits for {missing} until {until} UTC")
        else:
            self._sharded[info.etag] = outcome
            self.jobs[info.key] = {"status": "shared", "shards": outcome.shards}
            self._progress.print(f"{info.key}: cut into {outcome.shards} shards")

    def _help(self) -> None:
        """Make items of jobs that other workers carry out, where that is worth it."""
        taken, self._taken = self._taken, []
        for key in taken:
            # What goes wrong here, the worker of the job finds too; and it goes on without help.
            with suppress(JobError):
                if helping.help_with(key, self._runtime):
                    self._progress.print(f"{key}: made items of it for another worker")

    def _make_shards(self) -> bool:
        """Make unfinished shards, beside other workers; return whether there is more to do."""
        has_more, left = False, set()
        for job_id, infos in list(worker.list_cut_jobs(self._runtime)):
            for info in worker.unfinished_shards(job_id, infos, self._runtime):
                try:
                    carry_out_shard(info.key, self._runtime)
                    self._failing.pop(info.key, None)
                except Unavailable as exc:
                    if not self._postpone(info.key, exc):
                        left.add(job_id)
                        continue
                except Refused as exc:
                    self._say(info.key, exc.code, str(exc))
                has_more = True
        waited_for = [job for job in self._sharded.values() if job.job_id not in left]
        return has_more or any(map(self._is_unfinished, waited_for))

    def _is_unfinished(self, job: Sharded) -> bool:
        return self._runtime.results.head(result_key(job.job_id)) is None

    def _new_objects(self, listed: list[Info]) -> list[Info]:
        return [
            info
            for info in listed
            if (object_kind(info.key) == "manifest" or _is_clip(info.key))
            and self._done.get(info.key) != info.etag
            and not ((job := self._sharded.get(info.etag)) and self._is_unfinished(job))
        ]

    def _warn_of_ignored_manifests(self, listed: list[Info]) -> None:
        """Say why an object that looks like a manifest starts nothing."""
        first = islice(self._runtime.inbox.list(""), MAX_EXAMINED)
        for info in [*listed, *first]:
            if self._examined.get(info.key) != info.etag:
                self._examined[info.key] = info.etag
                if why := self._why_ignored(info):
                    self._progress.print(f"{info.key} is ignored: {why}")

    def _why_ignored(self, info: Info) -> str:
        """Return why an object starts nothing; empty if it does not look like a manifest."""
        name = info.key.lower()
        if object_kind(info.key) != "other" or is_apple_double(info.key):
            return ""
        if info.key.startswith(MANIFESTS):
            is_meant = name.endswith(LISTS) or ".manifest" in name
            names = " or ".join(MANIFEST_SUFFIXES)
            return f"a manifest is JSON, and its name ends in {names}." if is_meant else ""
        if name.endswith(MANIFEST_SUFFIXES) or self._names_the_schema(info):
            return f"a manifest is stored under {MANIFESTS}; `voicedrop submit` does so."
        return ""

    def _names_the_schema(self, info: Info) -> bool:
        if not info.key.endswith((".json", ".jsonl")) or info.size > MAX_READ:
            return False
        with suppress(Refused):  # deleted or replaced since it was listed
            return fields.SCHEMA.encode() in self._runtime.inbox.get(info.key, limit=MAX_READ).data
        return False

    def _finish_trace(self, info: Info, report: Trace) -> None:
        is_new = report.finished >= self._started
        self._finish(info, {**oss.summarise_trace(report), "new": is_new})
        if is_new:
            self._progress.report(f"{info.key}: {report.meaning}")

    def _finish_job(self, info: Info, result: Result) -> None:
        is_new, is_good = result.finished >= self._started, result.status in SUCCESSFUL
        summary = {"status": result.status, "new": is_new, **_job_summary(result)}
        self._finish(info, summary)
        short = result.job_id[:SHORT]
        if is_new:
            self._outcomes[result.status] += 1
            self.failed |= not is_good
            self._progress.report(f"{info.key}: {result.status}, {describe_totals(result)}")
            for line in describe_result(result):
                self._progress.report(f"  {line}")
            self._progress.report(f"  {next_command(result, self._runtime)}")
        elif self._polls == 0:
            self._earlier[is_good] += 1
        else:
            self._progress.report(
                f"{info.key}: carried out before, as job {short}: {result.status}; "
                f"{next_command(result, self._runtime)}"
            )

    def _finish(self, info: Info, summary: dict[str, Any]) -> None:
        self._done[info.key] = info.etag
        self._sharded.pop(info.etag, None)
        self._said.pop(info.key, None)
        self.jobs[info.key] = summary

    def _report_earlier_jobs(self) -> None:
        if count := self._earlier.total():
            line = describe_finished(count, self._earlier[False], " before this run")
            what = "it" if count == 1 else "them"
            self._progress.print(f"{line}: `voicedrop list` shows {what}.")

    def _say(self, key: str, what: str, line: str, *, repeat: float = math.inf) -> None:
        """Print a line about an object unless the same was said last, less than `repeat` seconds
        ago; always show it as status."""
        self._progress.update_status(f"{key}: {line}")
        said, at = self._said.get(key, ("", 0.0))
        if said != what or time.monotonic() - at > repeat:
            self._said[key] = what, time.monotonic()
            self._progress.print(f"{key}: {line}")


def _is_clip(key: str) -> bool:
    return object_kind(key) == "clip" and not key.endswith(".json")


def _job_summary(result: Result) -> dict[str, Any]:
    summary = {"job": result.job_id, "totals": msgspec.to_builtins(result.totals)}
    if result.cost:
        summary["cost"] = msgspec.to_builtins(result.cost)
    if result.estimate:
        summary["estimate"] = msgspec.to_builtins(result.estimate)
    return summary
