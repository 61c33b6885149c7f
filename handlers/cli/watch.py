"""`voicedrop watch`: a worker over folders or buckets that nobody notifies."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

import msgspec

from core.audio import sandbox
from core.batch import worker
from core.errors import Refused, Unavailable
from core.job.runtime import Runtime
from core.job.waiting import Shared, Waiting
from core.result.document import Result
from core.settings import Settings
from core.storage.object_keys import CLIPS, MANIFEST_SUFFIXES, MANIFESTS, result_key
from core.storage.port import Info
from events.incoming import object_kind
from handlers import wiring
from handlers.cli.screen import Progress, Report
from handlers.oss import carry_out, carry_out_shard, trace_object

EXIT_FAILED, EXIT_WAITING = 1, 3
SETTLED = 0.5
"""Seconds since the last write after which a file in a folder is taken for whole: a bucket shows
only whole objects, but `cp` into a folder writes while we look."""


def watch(settings: Settings, *, once: bool, poll: float, progress: Progress) -> Report:
    sandbox.start()  # beside the rest, instead of before the first recording
    credentials = wiring.CurrentCredentials(os.environ)
    engine = wiring.on_first_use(settings)
    runtime = wiring.runtime(settings, credentials, engine, progress)
    wiring.check_stores(runtime)
    looking = Watch(runtime, progress)
    while looking.look() or not once:
        for line in looking.lines:
            progress.say(line)
        looking.lines.clear()
        time.sleep(SETTLED if once else poll)
    lines = looking.lines or ["Nothing new in the inbox."]
    for key, state in looking.jobs.items():
        if state.get("status") == "waiting":
            lines.append(f"{key}: waits for {', '.join(state['for'])}")
    code = EXIT_FAILED if looking.failed else EXIT_WAITING if looking.waiting else 0
    return Report({"jobs": looking.jobs}, lines, code)


class Watch:
    """One look after another at the inbox, until nothing is left to do."""

    def __init__(self, runtime: Runtime, progress: Progress) -> None:
        self._runtime, self._progress = runtime, progress
        self._seen: dict[str, str] = {}
        self._shared: dict[str, Shared] = {}
        """ETag of a manifest -> how its job was cut; it is looked at again when it has a result."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lines: list[str] = []
        self.waiting = False
        self.failed = False

    def look(self) -> bool:
        """Carry out what has no result yet; say whether there is more to do."""
        again = self.waiting = False
        for info in self._new():
            if self._runtime.inbox.now() - info.modified < SETTLED:
                again = True
                continue
            try:
                if object_kind(info.key) == "clip":
                    self._note(info, trace_object(info.key, self._runtime))
                else:
                    self._finish(info, carry_out(info.key, self._runtime))
            except Waiting as exc:
                self.waiting = True
                self.jobs[info.key] = {"status": "waiting", "for": exc.references}
                self._progress.doing(str(exc))
            except Shared as exc:
                self._shared[info.etag] = exc
                self.jobs[info.key] = {"status": "shared", "shards": exc.shards}
                self._progress.say(f"{info.key}: cut into {exc.shards} shards")
            except Unavailable as exc:
                again = True
                self._progress.doing(f"{info.key}: {exc.message} Trying again.")
            except Refused as exc:
                self._note(info, {"status": "refused", "error": exc.code, "message": exc.message})
        return self._shards() or again

    def _shards(self) -> bool:
        """Make what is to be made of jobs that were cut, beside other watchers; say whether there
        is more to do."""
        again = False
        for job_id, infos in list(worker.left(self._runtime)):
            for info in worker.unfinished_shards(job_id, infos, self._runtime):
                again = True
                try:
                    carry_out_shard(info.key, self._runtime)
                except Unavailable as exc:
                    self._progress.doing(f"{info.key}: {exc.message} Trying again.")
                except Refused as exc:
                    self._progress.doing(f"{info.key}: {exc}")
        return again or any(self._unfinished(one) for one in self._shared.values())

    def _unfinished(self, shared: Shared) -> bool:
        return self._runtime.results.head(result_key(shared.job_id)) is None

    def _new(self) -> list[Info]:
        inbox = self._runtime.inbox
        found = [i for i in inbox.list(MANIFESTS) if i.key.endswith(MANIFEST_SUFFIXES)]
        found += [i for i in inbox.list(CLIPS) if not i.key.endswith(".json")]
        return [
            info
            for info in found
            if self._seen.get(info.key) != info.etag
            and not ((one := self._shared.get(info.etag)) and self._unfinished(one))
        ]

    def _finish(self, info: Info, finished: Result) -> None:
        self._note(info, {"status": finished.status, **_job_summary(finished)})
        self.failed |= finished.status not in ("succeeded", "validated")
        self.lines.append(f"{info.key}: {finished.status}, {_amount(finished)}")
        self.lines += [f"  {line}" for line in _complaints(finished)]
        self.lines.append(f"  result: {_place(self._runtime, finished)}")

    def _note(self, info: Info, summary: dict[str, Any]) -> None:
        self._seen[info.key] = info.etag
        self._shared.pop(info.etag, None)
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
