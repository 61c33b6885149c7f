"""Carry out jobs, shards and traces up to their events, and extend the log, for all callers."""

from __future__ import annotations

import tempfile
from functools import partial

import msgspec

from core import pipeline
from core.audio.decoding import BYTES_LIMIT
from core.batch import worker
from core.documents import canonical
from core.job.lease import Lease
from core.job.runtime import Finished, Outcome, Runtime
from core.result.document import Result, format_timestamp
from core.storage.object_keys import event_key, trace_key
from core.storage.port import put_once_or_read
from core.tlog import log, signed_note
from core.trace import registry, trace
from core.trace.trace import Trace
from events import outgoing

CLIP_LIMIT = 1 << 30
"""Largest clip that is traced, in bytes: ten hours at 200 kbit/s."""


def carry_out(key: str, runtime: Runtime) -> Outcome:
    """Carry out the manifest at `key`, then write its event. Raises what `pipeline.run` raises."""
    outcome = pipeline.run(key, runtime)
    if isinstance(outcome, Finished):
        announce(outcome.result, runtime)
    return outcome


def carry_out_shard(key: str, runtime: Runtime) -> Result | None:
    """Make one shard; if that finishes the job, write its event and return its result.

    Raises what `worker.make_shard` raises.
    """
    result = worker.make_shard(key, runtime)
    if result:
        announce(result, runtime)
    return result


def announce(result: Result, runtime: Runtime) -> bool:
    """Write the event of a finished job unless it exists, then remove the job's shards.

    Returns whether the event is new. Raises Unavailable.
    """
    key = event_key(result.job_id, result.finished)
    is_new = runtime.results.put_once(key, outgoing.job_event(result))
    if result.parts:
        worker.remove_shards(result.job_id, runtime)
    return is_new


def trace_clip(key: str, runtime: Runtime) -> Trace:
    """Trace a clip of the inbox: write the report, then its event. Both are put once, so a repeated
    notification changes nothing."""
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
    report_key = trace_key(report.trace_id)
    data = canonical.dump(report) + b"\n"
    data = put_once_or_read(runtime.results, report_key, data, limit=BYTES_LIMIT)
    report = msgspec.json.decode(data, type=Trace)
    event = outgoing.trace_event(
        data,
        bucket=runtime.inbox.name,
        clip=report.clip.name,
        time=report.finished,
        data={
            "trace_id": report.trace_id,
            "report_key": report_key,
            "marked": report.marked,
            "jobs": sorted({finding.job for finding in report.findings if finding.job}),
        },
    )
    runtime.results.put_once(event_key(report.trace_id, report.finished), event)
    return report


def integrate_log(runtime: Runtime) -> signed_note.Checkpoint | None:
    """Add queued results to the log; return the new checkpoint, or None if nothing was ever logged.

    Raises Unavailable JOB_BUSY while another worker does this.
    """
    with Lease.acquire(runtime.control, "log", runtime.worker, runtime.lease_seconds):
        return log.integrate(
            runtime.control,
            runtime.results,
            runtime.keys.signing,
            f"voicedrop/{runtime.results.name}",
            earlier_keys=runtime.keys.verifying.values(),
        )
