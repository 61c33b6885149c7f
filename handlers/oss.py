"""Carry out the tasks of a notification.

A permanent error becomes part of a result or of the answer. An error that may pass is raised at the
end, so that the platform delivers the notification again.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

from core.errors import JobError, Refused
from core.job import waiting
from core.job.runtime import Finished, Outcome, Runtime, Sharded
from core.result.document import Result, format_timestamp
from core.storage.object_keys import parse_shard_key
from core.trace.trace import Trace
from events.incoming import CreatedObject, Notification, key_candidates, parse
from handlers import jobs, sweep

log = logging.getLogger("voicedrop.oss")


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a notification."""

    kind: Literal["manifest", "reference", "clip", "withdrawal", "shard", "timer"]
    key: str
    """Key of the object as the notification spells it; for a timer, its payload."""
    principal: str = ""
    """RAM principal that uploaded the object, for quotas; empty if unknown."""


def handle(body: bytes, runtime: Runtime) -> dict[str, Any]:
    """Carry out all tasks of a notification, and return a summary.

    An error does not stop the other tasks. Every error is logged, and the first one that is not
    permanent is raised at the end. Raises Refused EVENT_INVALID.
    """
    notification = parse(body, bucket=runtime.inbox.name, control=runtime.control.name)
    tasks, done, errors = deque(_list_tasks(notification)), [], []
    while tasks:
        task = tasks.popleft()
        try:
            if task.kind == "reference":
                tasks.extendleft(_list_waiting_manifests(task, runtime))
            else:
                done.append(_carry_out(task, runtime))
        except Refused as exc:
            log.warning("refused", extra={"key": task.key, "code": exc.code, "error": exc.message})
            done.append({"key": task.key, "error": exc.code, "message": exc.message})
        except Exception as exc:
            _log_error(task, exc)
            errors.append(exc)
    if errors:
        raise errors[0]
    return {"done": done, "ignored": dict(notification.ignored)}


def _list_tasks(notification: Notification) -> list[Task]:
    return [
        *(_task_of(created) for created in notification.created),
        *(Task("timer", payload) for payload in notification.timers),
    ]


def _task_of(created: CreatedObject) -> Task:
    if created.kind in ("manifest", "clip", "withdrawal", "shard"):
        return Task(created.kind, created.key, created.principal)
    return Task("reference", created.key)  # any other object may be one that a job waits for


def _list_waiting_manifests(task: Task, runtime: Runtime) -> list[Task]:
    keys = waiting.list_manifests(runtime.control, _find_stored_key(task.key, runtime))
    return [Task("manifest", key) for key in reversed(keys)]


def _carry_out(task: Task, runtime: Runtime) -> dict[str, Any]:
    if task.kind == "timer":
        return _run_timer(task.key, runtime)
    if task.kind == "shard":
        return _make_shard(task.key, runtime)
    key = _find_stored_key(task.key, runtime)
    if task.kind == "withdrawal":
        return {"withdrawal": key, "recordings": runtime.consents.withdraw_marked(key)}
    runtime = replace(runtime, quota=replace(runtime.quota, principal=task.principal))
    if task.kind == "clip":
        with runtime.concurrency.tracing:
            return summarise_trace(jobs.trace_clip(key, runtime))
    return summarise_outcome(jobs.carry_out(key, runtime))


def _make_shard(key: str, runtime: Runtime) -> dict[str, Any]:
    if result := jobs.carry_out_shard(key, runtime):
        return _summarise_result(result)
    job_id, number = parse_shard_key(key)
    return {"job": job_id, "status": "shared", "shard": number}


def _run_timer(payload: str, runtime: Runtime) -> dict[str, Any]:
    if payload == "sweep":
        return {"turn": payload, **sweep.summarise(sweep.run_sweep(runtime))}
    if payload == "integrate":
        integrated = jobs.integrate_log(runtime)
        size = integrated.checkpoint.size if integrated.checkpoint else 0
        refused = {"refused": len(integrated.refused)} if integrated.refused else {}
        return {"turn": payload, "logged": size, **refused}
    message = f"The payload of a timer is `integrate` or `sweep`, not {payload[:80]!r}."
    raise Refused("EVENT_INVALID", message)


def _find_stored_key(key: str, runtime: Runtime) -> str:
    """Return the spelling of a notified key under which an object is stored, or the first one."""
    candidates = key_candidates(key)
    if len(candidates) > 1:
        candidates.sort(key=lambda name: runtime.inbox.head(name) is None)
    return candidates[0]


def _log_error(task: Task, error: Exception) -> None:
    extra = {"key": task.key, "kind": task.kind}
    if isinstance(error, JobError):
        log.warning("failed", extra={**extra, "code": error.code, "error": error.message})
    else:
        log.error("failed", extra=extra, exc_info=error)


def summarise_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the entry for a job in the answer to a notification."""
    if isinstance(outcome, Finished):
        return _summarise_result(outcome.result)
    if isinstance(outcome, Sharded):
        return {"job": outcome.job_id, "status": "shared", "shards": outcome.shards}
    return {
        "job": outcome.job_id,
        "status": "waiting",
        "for": outcome.references,
        "until": format_timestamp(outcome.until),
    }


def summarise_trace(report: Trace) -> dict[str, Any]:
    """Return the entry for a traced clip in the answer to a notification."""
    return {
        "trace": report.trace_id,
        "marked": report.marked,
        "complete": report.complete,
        "meaning": report.meaning,
    }


def _summarise_result(result: Result) -> dict[str, Any]:
    return {
        "job": result.job_id,
        "status": result.status,
        "items": result.totals.items,
        "succeeded": result.totals.succeeded,
    }
