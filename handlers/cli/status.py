"""`voicedrop status` and `voicedrop list`: which jobs there are, and how far each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from core import sweep
from core.batch import parts, plan
from core.errors import JobError, Refused
from core.job import attempt, commit
from core.job.commit import ReceivedManifest
from core.job.runtime import Runtime
from core.result import tombstone
from core.result.document import Result, read_items
from core.result.item_result import Chapter, ItemResult
from core.result.tombstone import Tombstone
from core.settings import Settings
from core.storage.object_keys import (
    OUTPUTS,
    job_id_of,
    result_key,
    tombstone_key,
    tombstones_prefix,
)
from core.storage.port import Info
from handlers import wiring
from handlers.cli import exit_codes, screen
from handlers.cli.describe import (
    SHORT,
    SUCCESSFUL,
    count_jobs,
    describe_failures,
    describe_finished,
    describe_remarks,
    describe_totals,
)
from handlers.cli.find_job import find_job, submitted_manifests
from handlers.cli.foresee import CARRY_OUT, describe_waiting, missing_references
from handlers.cli.retry import next_command
from handlers.cli.screen import CommandOutput

UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """How far a job is."""

    job: str
    manifest: str
    """Its key in the inbox."""
    status: str
    """That of its result; `unreadable` if nobody can tell, because the result was changed or
    cannot be read; without a result `waiting`, `running`, `shared` or `unfinished`."""
    finished: str = ""
    """RFC 3339, UTC; empty without a result."""
    items: int = 0
    succeeded: int = 0
    validated: int = 0
    """Of a dry run: the items that can be made."""
    detail: str = ""
    """What it waits for, who works on it, why its result cannot be read, or that it was erased."""

    def line(self) -> str:
        count = f"{self.succeeded or self.validated}/{self.items}" if self.items else ""
        when = f"{self.finished[:16].replace('T', ' ')} UTC" if self.finished else ""
        detail = ": ".join(filter(None, (self.manifest, self.detail)))
        return f"{self.job[:SHORT]}  {self.status:<10}  {count:>7}  {when:<20}  {detail}"


def list_jobs(settings: Settings, limit: int) -> CommandOutput:
    """List the jobs without result, and the `limit` jobs that finished last.

    A result that cannot be read is listed with its error, which decides the exit code.
    """
    runtime = wiring.create_local_runtime(settings)
    results = _list_results(runtime)
    finished = _Finished.read(dict(list(results.items())[-limit:]), runtime)
    states = [*finished.states, *_unfinished(runtime, set(results))]
    lines = [state.line() for state in states] or [f"No jobs: {settings.inbox} has no manifests."]
    if (more := len(results) - limit) > 0:
        lines.insert(0, f"and {more} that finished before: --limit shows more.")
    data = {
        "jobs": [asdict(state) for state in states],
        "finished": len(results),
        "failed": finished.failed,
    }
    return CommandOutput(data, lines, finished.exit_code)


def show_status(settings: Settings, names: list[str]) -> CommandOutput:
    """Describe jobs, or without names how many there are and which are not finished.

    The error of one name is printed and does not stop the others. The exit code is that of the
    first job which did not succeed. Raises what `find_job` raises for the only name.
    """
    runtime = wiring.create_local_runtime(settings)
    if not names:
        return _summarise(settings, runtime)
    states, lines, code = [], [], exit_codes.DONE
    failed: list[dict[str, Any]] = []
    for name in names:
        try:
            job = find_job(name, runtime)
            result = commit.read_result(job, runtime)
            state = _finished(result) or _find_unfinished(job, runtime)
            described = list(_describe(state, result, runtime))
        except JobError as exc:
            if len(names) == 1:
                raise
            screen.print_error(exc)
            failed.append(screen.describe_error(exc))
            code = code or exit_codes.of_error(exc)
            continue
        states.append(state)
        lines += [f"job {job}", *(f"  {line}" for line in described)]
        code = code or _exit_code(state)
    data = {"jobs": [asdict(state) for state in states], "failed": failed}
    return CommandOutput(data, lines, code)


def _summarise(settings: Settings, runtime: Runtime) -> CommandOutput:
    results = _list_results(runtime)
    finished = _Finished.read(results, runtime)
    unreadable = [state for state in finished.states if state.status == UNREADABLE]
    unsuccessful = sum(state.status not in SUCCESSFUL for state in finished.states)
    states = list(_unfinished(runtime, set(results)))
    counted = describe_finished(len(results), unsuccessful)
    counted += ": `voicedrop list` shows them; " if unsuccessful else ", "
    lines = [f"{counted}{count_jobs(len(states))} not finished."]
    lines += [f"  {state.line()}" for state in [*unreadable, *states]]
    lines.append(f"Manifests arrive in {settings.inbox}, results in {settings.results}.")
    data = {
        "finished": len(results),
        "unsuccessful": unsuccessful,
        "jobs": [asdict(state) for state in [*unreadable, *states]],
        "failed": finished.failed,
    }
    return CommandOutput(data, lines, finished.exit_code)


@dataclass(frozen=True, slots=True)
class _Finished:
    """Jobs that have results."""

    states: list[JobState]
    failed: list[dict[str, Any]]
    """The errors of those whose results cannot be read."""
    exit_code: int

    @staticmethod
    def read(jobs: Mapping[str, str], runtime: Runtime) -> _Finished:
        """`jobs`: id -> what `_list_results` says about it."""
        states, failed, code = [], [], exit_codes.DONE
        for job, detail in jobs.items():
            try:
                state = _finished(commit.read_result(job, runtime), detail)
            except Refused as exc:
                code = exit_codes.of_error(exc)
                failed.append(screen.describe_error(exc))
                state = JobState(job=job, manifest="", status=UNREADABLE, detail=str(exc))
            if state:
                states.append(state)
        return _Finished(states, failed, code)


def _list_results(runtime: Runtime) -> dict[str, str]:
    """Return the ids of all finished jobs, in the order in which they finished, each with a remark
    if some of its outputs were erased."""
    found: list[tuple[float, str]] = []
    erased: set[str] = set()
    for info in runtime.results.list(OUTPUTS):
        job = job_id_of(info.key)
        if info.key == result_key(job):
            found.append((info.modified, job))
        elif info.key.startswith(tombstones_prefix(job)):
            erased.add(job)
    said = "outputs were erased: `voicedrop status {}` says which"
    return {job: said.format(job[:SHORT]) if job in erased else "" for _, job in sorted(found)}


def _finished(result: Result | None, detail: str = "") -> JobState | None:
    if result is None:
        return None
    return JobState(
        job=result.job_id,
        manifest=result.manifest.key,
        status=result.status,
        finished=result.finished,
        detail=detail,
        items=result.totals.items,
        succeeded=result.totals.succeeded,
        validated=result.estimate.items if result.estimate else 0,
    )


def _unfinished(runtime: Runtime, finished: set[str]) -> Iterator[JobState]:
    for manifest in submitted_manifests(runtime):
        if manifest.job_id not in finished:
            yield _inspect(manifest, runtime)


def _find_unfinished(job: str, runtime: Runtime) -> JobState:
    """Raises Refused OBJECT_MISSING."""
    for manifest in submitted_manifests(runtime):
        if manifest.job_id == job:
            return _inspect(manifest, runtime)
    raise Refused("OBJECT_MISSING", "No job has this id.", pointer=job)


def _inspect(manifest: ReceivedManifest, runtime: Runtime) -> JobState:
    """Return the state of a job without result."""
    job = manifest.job_id
    info = Info(manifest.ref.key, manifest.ref.size, "", manifest.stored)
    found = sweep.inspect_manifest(info, job, runtime, grace=0)
    status, detail = str(found.kind), found.detail
    if shards := plan.complete_shard_count(job, runtime):
        made = len(parts.list_part_keys(job, runtime))
        status, detail = "shared", f"{made} of {shards} shards are made."
    elif missing := missing_references(manifest, runtime):
        status, detail = "waiting", describe_waiting(missing)
    elif status == "unfinished" and (reason := attempt.read_reason(job, runtime)):
        detail += f" The last recorded error: {reason.code}: {reason.message}"
    return JobState(job=job, manifest=manifest.ref.key, status=status, detail=detail)


def _describe(state: JobState, result: Result | None, runtime: Runtime) -> Iterator[str]:
    yield f"manifest {state.manifest}"
    if result is None:
        yield state.detail if state.status == "waiting" else f"{state.status}: {state.detail}"
        if state.status == "unfinished":
            yield CARRY_OUT
        return
    items = list(read_items(result, commit.part_reader(runtime)))
    outputs: list[ItemResult | Chapter] = [*items, *result.chapters]
    if result.retry_of:
        yield f"a retry of {result.retry_of[:SHORT]}"
    yield f"{result.status}, {describe_totals(result)}; finished {result.finished}"
    yield from describe_failures(result, outputs)
    yield from describe_remarks(result)
    erased: set[str] = set()
    for one in _read_tombstones(result.job_id, runtime):
        erased.update(one.items)
        yield f"erased {', '.join(one.items)} at {one.erased}: {one.why}"
    if not erased or {item.id for item in items if item.output} - erased:
        yield next_command(result, runtime)


def _read_tombstones(job: str, runtime: Runtime) -> Iterator[Tombstone]:
    with suppress(Refused):  # there are no more
        for number in count():
            data = runtime.results.get(tombstone_key(job, number), limit=tombstone.LIMIT).data
            yield tombstone.parse_tombstone(data, job, number, runtime.keys.verifying)


def _exit_code(state: JobState) -> int:
    if state.finished:
        return exit_codes.DONE if state.status in SUCCESSFUL else exit_codes.FAILED
    return exit_codes.WAITING if state.status == "waiting" else exit_codes.LATER
