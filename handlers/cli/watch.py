"""`voicedrop watch`: a worker over folders or buckets that nobody notifies."""

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
from handlers.cli.screen import Progress, Report
from handlers.jobs import carry_out, carry_out_shard, trace_clip

EXIT_FAILED, EXIT_WAITING = 1, 3
SETTLED = 0.5
"""Seconds since the last write after which a file in a folder is taken for whole: a bucket shows
only whole objects, but `cp` into a folder writes while we look."""


def watch(settings: Settings, *, once: bool, poll: float, progress: Progress) -> Report:
    sandbox.start()  # in parallel with what follows, instead of before the first recording
    runtime = wiring.local_runtime(settings, progress)
    wiring.check_stores(runtime)
    watching = Watch(runtime, progress)
    while watching.look() or not once:
        for line in watching.lines:
            progress.say(line)
        watching.lines.clear()
        time.sleep(SETTLED if once else poll)
    lines = watching.lines or ["Nothing new in the inbox."]
    for key, state in watching.jobs.items():
        if state.get("status") == "waiting":
            lines.append(f"{key}: waits for {', '.join(state['for'])}")
    code = EXIT_FAILED if watching.failed else EXIT_WAITING if watching.waiting else 0
    return Report({"jobs": watching.jobs}, lines, code)


class Watch:
    """Looks at the inbox again and again, until nothing is left to do."""

    def __init__(self, runtime: Runtime, progress: Progress) -> None:
        self._runtime, self._progress = runtime, progress
        self._done: dict[str, str] = {}
        """Key -> ETag of what was carried out."""
        self._sharded: dict[str, Sharded] = {}
        """ETag of a manifest -> its shards. It is carried out again when the job has a result."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lines: list[str] = []
        self.waiting = False
        self.failed = False

    def look(self) -> bool:
        """Carry out what has no result yet; return whether there is more to do."""
        has_more = self.waiting = False
        for info in self._new_objects():
            if self._runtime.inbox.now() - info.modified < SETTLED:
                has_more = True
                continue
            try:
                self._carry_out(info)
            except Unavailable as exc:
                has_more = True
                self._progress.doing(f"{info.key}: {exc.message} Trying again.")
            except Refused as exc:
                self._finish(info, {"status": "refused", "error": exc.code, "message": exc.message})
        return self._make_shards() or has_more

    def _carry_out(self, info: Info) -> None:
        if object_kind(info.key) == "clip":
            self._finish(info, oss.trace_summary(trace_clip(info.key, self._runtime)))
            return
        outcome = carry_out(info.key, self._runtime)
        if isinstance(outcome, Finished):
            self._finish_job(info, outcome.result)
        elif isinstance(outcome, Waiting):
            self.waiting = True
            self.jobs[info.key] = {"status": "waiting", "for": outcome.references}
            references = ", ".join(outcome.references)
            self._progress.doing(f"{outcome.job_id} waits for {references}")
        else:
            self._sharded[info.etag] = outcome
            self.jobs[info.key] = {"status": "shared", "shards": outcome.shards}
            self._progress.say(f"{info.key}: cut into {outcome.shards} shards")

    def _make_shards(self) -> bool:
        """Make unfinished shards, beside other workers; return whether there is more to do."""
        has_more = False
        for job_id, infos in list(worker.list_cut_jobs(self._runtime)):
            for info in worker.unfinished_shards(job_id, infos, self._runtime):
                has_more = True
                try:
                    carry_out_shard(info.key, self._runtime)
                except Unavailable as exc:
                    self._progress.doing(f"{info.key}: {exc.message} Trying again.")
                except Refused as exc:
                    self._progress.doing(f"{info.key}: {exc}")
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
        self.lines.append(f"{info.key}: {result.status}, {_amount(result)}")
        self.lines += [f"  {line}" for line in _complaints(result)]
        self.lines.append(f"  result: {_place(self._runtime, result)}")

    def _finish(self, info: Info, summary: dict[str, Any]) -> None:
        self._done[info.key] = info.etag
        self._sharded.pop(info.etag, None)
        self.jobs[info.key] = summary
        if "meaning" in summary:
            self.lines.append(f"{info.key}: {summary['meaning']}")
        elif summary["status"] == "refused":
            self.failed = True
            self.lines.append(f"{info.key}: {summary['error']}: {summary['message']}")


def _job_summary(finished: Result) -> dict[str, Any]:
    summary = {"job": finished.job_id, "totals": msgspec.to_builtins(finished.totals)}
    if finished.estimate:
        summary["estimate"] = msgspec.to_builtins(finished.estimate)
    return summary


def _amount(finished: Result) -> str:
    totals, expected = finished.totals, finished.estimate
    if expected:
        cost = "" if expected.cost is None else f", cost {expected.cost:g}"
        said = f"about {expected.audio_s:.1f} s of speech{cost}; nothing was spoken"
        return f"{expected.items} of {totals.items} items can be made, {said}"
    kept = f", {totals.kept} of them kept" if totals.kept else ""
    made = f"{totals.succeeded} of {totals.items} items{kept}"
    return f"{made}, {totals.audio_s:.1f} s of speech"


def _complaints(finished: Result) -> list[str]:
    told = [finished.error, *(voice.error for voice in finished.voices.values())]
    lines = [f"{e.code} {e.pointer}: {e.message}" for e in told if e]
    many: Counter[str] = Counter()
    for item in finished.items:
        if item.error and item.error not in told:
            lines.append(f"item {item.id or item.index}: {item.error.code}: {item.error.message}")
    for part in finished.parts:
        many.update(part.errors)
    lines += [f"{count} items: {code}" for code, count in many.items()]
    if many:
        lines.append(f"each of them: {finished.attachments['errors'].key}")
    for name, voice in finished.voices.items():
        for encoder, match in voice.match.items():
            lines.append(
                f"voice {name}, by {encoder}: {match.default:.2f} unadapted -> "
                f"{match.achieved:.2f} (the same person: {match.same_person:.2f})"
            )
    return lines


def _place(runtime: Runtime, finished: Result) -> str:
    return f"{runtime.results.name}/{result_key(finished.job_id)}"
