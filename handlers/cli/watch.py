"""`voicedrop watch`: a worker that lists the inbox, for folders and buckets without events."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import msgspec

from core.audio import sandbox
from core.batch import worker
from core.errors import Refused, Unavailable
from core.job.runtime import Finished, Runtime, Sharded, Waiting
from core.result.document import Result
from core.settings import Settings
from core.storage.object_keys import CLIPS, MANIFEST_SUFFIXES, MANIFESTS, result_key
from core.storage.port import Info
from events.incoming import object_kind
from handlers import oss, wiring
from handlers.cli import exit_codes
from handlers.cli.screen import CommandOutput, Progress
from handlers.jobs import carry_out, carry_out_shard, trace_clip

SETTLING_SECONDS = 0.5
"""A file in a folder counts as complete so long after its last write. A bucket lists only complete
objects, but `cp` into a folder writes in steps."""


def watch_inbox(
    settings: Settings, *, once: bool, poll: float, progress: Progress
) -> CommandOutput:
    """Carry out manifests until interrupted; with `once`, until none is left. `poll`: seconds."""
    sandbox.start()  # it starts in parallel with what follows
    runtime = wiring.create_local_runtime(settings, progress)
    wiring.check_stores(runtime)
    watch = Watch(runtime, progress)
    while watch.poll() or not once:
        for line in watch.lines:
            progress.print(line)
        watch.lines.clear()
        time.sleep(SETTLING_SECONDS if once else poll)
    lines = watch.lines or ["Nothing new in the inbox."]
    for key, state in watch.jobs.items():
        if state.get("status") == "waiting":
            lines.append(f"{key}: waits for {', '.join(state['for'])}")
    return CommandOutput({"jobs": watch.jobs}, lines, watch.exit_code)


class Watch:
    """Carries out what is new in the inbox with every poll."""

    def __init__(self, runtime: Runtime, progress: Progress) -> None:
        self._runtime, self._progress = runtime, progress
        self._done: dict[str, str] = {}
        """Key -> ETag of the objects that were carried out."""
        self._sharded: dict[str, Sharded] = {}
        """ETag of a manifest -> its shards. It is carried out again when the job has a result."""
        self.jobs: dict[str, dict[str, Any]] = {}
        """Key -> what the output states about the job or trace."""
        self.lines: list[str] = []
        """Lines for people that were not printed yet."""
        self.waiting = False
        self.failed = False

    @property
    def exit_code(self) -> int:
        if self.failed:
            return exit_codes.FAILED
        return exit_codes.WAITING if self.waiting else exit_codes.DONE

    def poll(self) -> bool:
        """Carry out what has no result yet; return whether there is more to do."""
        has_more = self.waiting = False
        for info in self._new_objects():
            if self._runtime.inbox.now() - info.modified < SETTLING_SECONDS:
                has_more = True
                continue
            try:
                self._carry_out(info)
            except Unavailable as exc:
                has_more = True
                self._progress.update_status(f"{info.key}: {exc.message} Trying again.")
            except Refused as exc:
                self._finish(info, {"status": "refused", "error": exc.code, "message": exc.message})
        return self._make_shards() or has_more

    def _carry_out(self, info: Info) -> None:
        if object_kind(info.key) == "clip":
            self._finish(info, oss.summarise_trace(trace_clip(info.key, self._runtime)))
            return
        outcome = carry_out(info.key, self._runtime)
        if isinstance(outcome, Finished):
            self._finish_job(info, outcome.result)
        elif isinstance(outcome, Waiting):
            self.waiting = True
            self.jobs[info.key] = {"status": "waiting", "for": outcome.references}
            references = ", ".join(outcome.references)
            self._progress.update_status(f"{outcome.job_id} waits for {references}")
        else:
            self._sharded[info.etag] = outcome
            self.jobs[info.key] = {"status": "shared", "shards": outcome.shards}
            self._progress.print(f"{info.key}: cut into {outcome.shards} shards")

    def _make_shards(self) -> bool:
        """Make unfinished shards, beside other workers; return whether there is more to do."""
        has_more = False
        for job_id, infos in list(worker.list_cut_jobs(self._runtime)):
            for info in worker.unfinished_shards(job_id, infos, self._runtime):
                has_more = True
                try:
                    carry_out_shard(info.key, self._runtime)
                except Unavailable as exc:
                    self._progress.update_status(f"{info.key}: {exc.message} Trying again.")
                except Refused as exc:
                    self._progress.update_status(f"{info.key}: {exc}")
        return has_more or any(self._is_unfinished(job) for job in self._sharded.values())

    def _is_unfinished(self, job: Sharded) -> bool:
        return self._runtime.results.head(result_key(job.job_id)) is None

    def _new_objects(self) -> list[Info]:
        inbox = self._runtime.inbox
        infos = [info for info in inbox.list(MANIFESTS) if info.key.endswith(MANIFEST_SUFFIXES)]
        infos += [info for info in inbox.list(CLIPS) if not info.key.endswith(".json")]
        return [
            info
            for info in infos
            if self._done.get(info.key) != info.etag
            and not ((job := self._sharded.get(info.etag)) and self._is_unfinished(job))
        ]

    def _finish_job(self, info: Info, result: Result) -> None:
        self._finish(info, {"status": result.status, **_job_summary(result)})
        self.failed |= result.status not in ("succeeded", "validated")
        self.lines.append(f"{info.key}: {result.status}, {_describe_totals(result)}")
        self.lines += [f"  {line}" for line in _describe_problems(result)]
        key = result_key(result.job_id)
        self.lines.append(f"  result: {self._runtime.results.name}/{key}")

    def _finish(self, info: Info, summary: dict[str, Any]) -> None:
        self._done[info.key] = info.etag
        self._sharded.pop(info.etag, None)
        self.jobs[info.key] = summary
        if "meaning" in summary:
            self.lines.append(f"{info.key}: {summary['meaning']}")
        elif summary["status"] == "refused":
            self.failed = True
            self.lines.append(f"{info.key}: {summary['error']}: {summary['message']}")


def _job_summary(result: Result) -> dict[str, Any]:
    summary = {"job": result.job_id, "totals": msgspec.to_builtins(result.totals)}
    if result.estimate:
        summary["estimate"] = msgspec.to_builtins(result.estimate)
    return summary


def _describe_totals(result: Result) -> str:
    totals, estimate = result.totals, result.estimate
    if estimate:
        cost = "" if estimate.cost is None else f", cost {estimate.cost:g}"
        speech = f"about {estimate.audio_s:.1f} s of speech{cost}; nothing was spoken"
        return f"{estimate.items} of {totals.items} items can be made, {speech}"
    kept = f", {totals.kept} of them kept" if totals.kept else ""
    items = f"{totals.succeeded} of {totals.items} items{kept}"
    return f"{items}, {totals.audio_s:.1f} s of speech"


def _describe_problems(result: Result) -> list[str]:
    errors = [result.error, *(voice.error for voice in result.voices.values())]
    lines = [f"{e.code} {e.pointer}: {e.message}" for e in errors if e]
    for item in result.items:
        if item.error and item.error not in errors:
            lines.append(f"item {item.id or item.index}: {item.error.code}: {item.error.message}")
    counts: Counter[str] = Counter()
    for part in result.parts:
        counts.update(part.errors)
    lines += [f"{count} items: {code}" for code, count in counts.items()]
    if counts:
        lines.append(f"each of them: {result.attachments['errors'].key}")
    for name, voice in result.voices.items():
        for encoder, match in voice.match.items():
            lines.append(
                f"voice {name}, by {encoder}: {match.default:.2f} unadapted -> "
                f"{match.achieved:.2f} (the same person: {match.same_person:.2f})"
            )
    return lines
