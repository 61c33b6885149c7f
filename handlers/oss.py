"""Notification -> work. A permanent failure stands in a result; a retryable one is raised, so that
the platform delivers the notification again."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

import watermark
from core import pipeline
from core.audio import sandbox
from core.audio.decoding import BYTES_LIMIT
from core.batch import worker
from core.documents import canonical
from core.errors import Refused
from core.job import waiting as pending
from core.job.runtime import Runtime
from core.job.waiting import Shared, Waiting
from core.result.document import Result, format_timestamp
from core.settings import Settings
from core.storage.object_keys import event_key, parse_shard_key, trace_key
from core.storage.port import put_once_or_read
from core.trace import registry, trace
from core.trace.trace import Trace
from events import outgoing
from events.incoming import CreatedObject, key_candidates, parse

if TYPE_CHECKING:
    from core.storage.oss import Credentials
    from handlers.wiring import CurrentCredentials

CLIP_LIMIT = 1 << 30
"""Bytes of a clip to be traced: ten hours at 200 kbit/s."""


def carry_out(key: str, runtime: Runtime) -> Result:
    """The job of one manifest, and its event, last. Raises what `pipeline.run` raises."""
    finished = pipeline.run(key, runtime)
    announce(finished, runtime)
    return finished


def carry_out_shard(key: str, runtime: Runtime) -> Result | None:
    """One shard of a job; its result and event, if it was the last. Raises what `batch.work`
    raises."""
    finished = worker.work(key, runtime)
    if finished:
        announce(finished, runtime)
    return finished


def announce(finished: Result, runtime: Runtime) -> bool:
    """Write the event of a finished job unless it exists, then delete the job's shards.

    Returns whether the event is new. Raises Unavailable."""
    name = event_key(finished.job_id, finished.finished)
    new = runtime.results.put_once(name, outgoing.job_event(finished))
    if finished.parts:
        worker.clear(finished.job_id, runtime)
    return new


def handle(body: bytes, runtime: Runtime) -> dict[str, Any]:
    """Everything one notification asks for. One record that fails does not stop the others; the
    first error that a repetition may mend is raised at the end."""
    incoming = parse(body, bucket=runtime.inbox.name, control=runtime.control.name)
    done: list[dict[str, Any]] = []
    again: list[Exception] = []

    @contextmanager
    def noting(key: str) -> Iterator[None]:
        try:
            yield
        except (Waiting, Shared) as exc:
            done.append(_unfinished(exc))
        except Refused as exc:
            done.append({"key": key, "error": exc.code, "message": exc.message})
        except Exception as exc:
            again.append(exc)

    asked: list[tuple[str, Iterable[Callable[[], dict[str, Any]]]]] = [
        *((created.key, _work(created, runtime)) for created in incoming.created),
        *((turn, [partial(_run_timer, turn, runtime)]) for turn in incoming.timers),
    ]
    for key, works in asked:
        with noting(key):
            for work in works:
                with noting(key):
                    done.append(work())
    if again:
        raise again[0]
    return {"done": done, "ignored": dict(incoming.ignored)}


def _work(created: CreatedObject, runtime: Runtime) -> Iterator[Callable[[], dict[str, Any]]]:
    if created.kind == "shard":
        yield lambda: _shard(created.key, runtime)
        return
    key = _existing(created, runtime)
    if created.kind == "manifest":
        quota = replace(runtime.quota, principal=created.principal)
        yield lambda: _summary(carry_out(key, replace(runtime, quota=quota)))
    elif created.kind == "clip":
        yield lambda: trace_object(key, runtime)
    else:
        for waiting in pending.awakened(runtime.control, key):
            yield lambda waiting=waiting: _summary(carry_out(waiting, runtime))  # type: ignore[misc]


def _shard(key: str, runtime: Runtime) -> dict[str, Any]:
    finished = carry_out_shard(key, runtime)
    if finished:
        return _summary(finished)
    job_id, number = parse_shard_key(key)
    return {"job": job_id, "status": "shared", "shard": number}


def _run_timer(turn: str, runtime: Runtime) -> dict[str, Any]:
    """What a timer asks for. Refused EVENT_INVALID if it is nothing we do."""
    if turn == "sweep":
        from handlers.cli import sweep

        return {"turn": turn, **sweep.summary(sweep.run(runtime))}
    if turn != "integrate":
        raise Refused(
            "EVENT_INVALID", f"We know the turns `integrate` and `sweep`, not {turn[:80]!r}."
        )
    from handlers.cli import audit

    found = audit.sequence(runtime)
    return {"turn": turn, "logged": found.size if found else 0}


def _existing(created: CreatedObject, runtime: Runtime) -> str:
    """The spelling of the key that names an object; of one that is gone, the first."""
    candidates = key_candidates(created.key)
    if len(candidates) > 1:
        candidates.sort(key=lambda name: runtime.inbox.head(name) is None)
    return candidates[0]


def trace_object(key: str, runtime: Runtime) -> dict[str, Any]:
    """Trace a clip of the inbox: report, then event. A repeated notification finds them there."""
    with tempfile.TemporaryFile() as file:
        file.write(runtime.inbox.get(key, limit=CLIP_LIMIT).data)
        file.seek(0)
        report = trace.trace_recording(
            file,
            key,
            runtime.keys.watermark,
            partial(registry.resolve, runtime.results),
            format_timestamp(runtime.results.now()),
        )
    name = trace_key(report.trace_id)
    document = put_once_or_read(
        runtime.results, name, canonical.dump(report) + b"\n", limit=BYTES_LIMIT
    )
    report = msgspec.json.decode(document, type=Trace)
    event = outgoing.trace_event(
        document,
        bucket=runtime.inbox.name,
        clip=report.clip.name,
        time=report.finished,
        data={
            "trace_id": report.trace_id,
            "report_key": name,
            "marked": report.marked,
            "jobs": sorted({match.job for match in report.findings if match.job}),
        },
    )
    runtime.results.put_once(event_key(report.trace_id, report.finished), event)
    return {"trace": report.trace_id, "marked": report.marked, "meaning": report.meaning}


def _summary(finished: Result) -> dict[str, Any]:
    return {
        "job": finished.job_id,
        "status": finished.status,
        "items": finished.totals.items,
        "succeeded": finished.totals.succeeded,
    }


def _unfinished(why: Waiting | Shared) -> dict[str, Any]:
    if isinstance(why, Shared):
        return {"job": why.job_id, "status": "shared", "shards": why.shards}
    return {
        "job": why.job_id,
        "status": "waiting",
        "for": why.references,
        "until": format_timestamp(why.until),
    }


class Worker:
    """What the container server runs: one engine for its whole life, fresh credentials a call."""

    def __init__(self, settings: Settings, credentials: CurrentCredentials) -> None:
        self._settings, self._credentials = settings, credentials
        self._runtime: Runtime | None = None
        self._checked = False
        self._lock = threading.Lock()

    def warm(self) -> Runtime:
        """Load keys and models. Buckets are checked with the first notification, because the
        platform hands out credentials with calls, not with the start."""
        from handlers import wiring

        with self._lock:
            if self._runtime is None:
                sandbox.start()
                watermark.preload()
                engine = wiring.voice(self._settings)
                self._runtime = wiring.runtime(self._settings, self._credentials, engine)
            return self._runtime

    def handle(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        from handlers import wiring

        self._credentials.replace(credentials)
        try:
            runtime = self._runtime or self.warm()
            if not self._checked:
                wiring.check_stores(runtime)
                self._checked = True
            return json.dumps({"request": request_id, **handle(body, runtime)}).encode()
        finally:
            # Between calls an instance lies frozen in memory: without anybody's credentials.
            self._credentials.replace(None)

    def close(self) -> None:
        """Leases end with their jobs; a job that outlives the instance loses its lease by time."""
        with self._lock:
            self._runtime = None
