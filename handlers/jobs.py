"""Carry out jobs, shards and traces up to their events, and extend the log, for all callers."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from contextlib import suppress
from functools import partial

from core import pipeline
from core.audio.decoding import BYTES_LIMIT
from core.batch import worker
from core.documents import signed
from core.errors import Refused, Unavailable
from core.job import commit, streamed
from core.job.lease import Lease
from core.job.runtime import Finished, Outcome, Runtime
from core.job.streamed import Listener
from core.result.document import Result, format_timestamp
from core.storage.object_keys import event_key, trace_key
from core.storage.port import put_unless_genuine
from core.tlog import sequencer
from core.tlog.sequencer import Integrated
from core.trace import registry, trace
from core.trace.trace import Trace
from events import outgoing
from handlers import job_log, webhook

logger = logging.getLogger("voicedrop.jobs")

_JOB, _TRACE = "job-", "trace-"
"""Beginnings of the names of deliveries, before the id of the job or trace."""
EVENT_LIMIT = 1 << 20
"""Largest event that is read, in bytes. Event buses accept 64 KiB."""
CLIP_LIMIT = 1 << 30
"""Largest clip that is traced, in bytes: ten hours at 200 kbit/s."""


def carry_out(key: str, runtime: Runtime) -> Outcome:
    """Carry out the manifest at `key`, then write its event. Raises what `pipeline.run` raises."""
    outcome = pipeline.run(key, runtime)
    if isinstance(outcome, Finished):
        announce(outcome.result, runtime)
    return outcome


def carry_out_stream(key: str, manifest: bytes, listener: Listener, runtime: Runtime) -> Result:
    """Speak a manifest of one item to a listener, then write its event; return the result. Raises
    what `streamed.speak` raises."""
    result = streamed.speak(key, manifest, listener, runtime)
    announce(result, runtime)
    return result


def carry_out_shard(key: str, runtime: Runtime) -> Result | None:
    """Make one shard; if that finishes the job, write its event and return its result.

    Raises what `worker.make_shard` raises.
    """
    result = worker.make_shard(key, runtime)
    if result:
        announce(result, runtime)
    return result


def announce(result: Result, runtime: Runtime) -> bool:
    """Write the event of a finished job unless it exists, and log the job; then remove its shards.

    Returns whether the event is new. Raises Unavailable.
    """
    key, event = event_key(result.job_id, result.finished), outgoing.job_event(result)
    is_new = _put_event(key, event, runtime, f"{_JOB}{result.job_id}")
    if is_new:
        job_log.report(result)
    if result.parts:
        worker.remove_shards(result.job_id, runtime)
    return is_new


def is_announced(result: Result, runtime: Runtime) -> bool:
    """Return whether the event of a finished job is stored, with the content that it should have:
    another object at its key would keep consumers from hearing of the result."""
    key = event_key(result.job_id, result.finished)
    return _is_stored(key, outgoing.job_event(result), runtime)


def _put_event(key: str, event: bytes, runtime: Runtime, delivery: str) -> bool:
    """Write an event unless it is stored; return whether it was not. If there is a web server to be
    told about it, queue the delivery of this name first, and then try it."""
    if runtime.tell and not _is_stored(key, event, runtime):
        webhook.enqueue(runtime.control, delivery)
    is_new = runtime.results.put_once(key, event)
    if not is_new and not _is_stored(key, event, runtime):
        runtime.results.put(key, event)
        is_new = True
    if is_new and runtime.tell:
        extra = {"delivery": delivery}
        try:
            logger.info("webhook", extra=extra | {"outcome": runtime.tell(delivery, event)})
        except Unavailable as exc:
            logger.warning("webhook", extra=extra | {"outcome": exc.message})
    return is_new


def _is_stored(key: str, event: bytes, runtime: Runtime) -> bool:
    with suppress(Refused):
        return outgoing.is_same_event(runtime.results.get(key, limit=EVENT_LIMIT).data, event)
    return False


def read_event(delivery: str, runtime: Runtime) -> bytes | None:
    """Derive the event of a queued delivery from its signed document; None if there is no such
    document. Raises Refused SIGNATURE_INVALID, and what `Store.get` raises."""
    kind, _, name = delivery.partition("-")
    if not re.fullmatch("[0-9a-f]{32}", name):
        return None
    if f"{kind}-" == _JOB:
        result = commit.read_result(name, runtime)
        return outgoing.job_event(result) if result else None
    data = _stored_report(name, runtime)
    return _trace_event(data, runtime)[1] if data else None


def trace_clip(key: str, runtime: Runtime) -> Trace:
    """Trace a clip of the inbox: write the report, then its event. Both are put once, so a repeated
    notification changes nothing, and a copy of a clip is not searched again.

    Raises Refused QUOTA_EXCEEDED before the clip is read, and what `Store.get` raises.
    """
    if info := runtime.inbox.head(key):
        name = hashlib.sha256(f"{key}\0{info.etag}".encode()).hexdigest()[:32]
        runtime.quota.count_trace(runtime.control, runtime.keys, name, key, info.modified)
    clip = runtime.inbox.get(key, limit=CLIP_LIMIT).data
    trace_id = trace.id_of_clip(hashlib.sha256(clip).hexdigest())
    data = _stored_report(trace_id, runtime) or _search_clip(key, clip, runtime)
    report, event = _trace_event(data, runtime)
    _put_event(event_key(trace_id, report.finished), event, runtime, f"{_TRACE}{trace_id}")
    return report


def _trace_event(data: bytes, runtime: Runtime) -> tuple[Trace, bytes]:
    """Return the report that these bytes are, and its event."""
    report = signed.read(data, Trace, runtime.keys.verifying)
    event = outgoing.trace_event(
        data,
        bucket=runtime.inbox.name,
        clip=report.clip.name,
        time=report.finished,
        data=outgoing.TraceData(
            trace_id=report.trace_id,
            report_key=trace_key(report.trace_id),
            marked=report.marked,
            complete=report.complete,
            jobs=sorted({finding.job for finding in report.findings if finding.job}),
        ),
    )
    return report, event


def _stored_report(trace_id: str, runtime: Runtime) -> bytes:
    """Return the report of a trace if there is one that we signed, else nothing."""
    with suppress(Refused):
        data = runtime.results.get(trace_key(trace_id), limit=BYTES_LIMIT).data
        return data if trace.read_report(data, trace_id, runtime.keys.verifying) else b""
    return b""


def _search_clip(key: str, clip: bytes, runtime: Runtime) -> bytes:
    """Trace a clip and store the report, unless another worker has; return the stored one."""
    with tempfile.TemporaryFile() as file:
        file.write(clip)
        file.seek(0)
        report = trace.trace_recording(
            file,
            key,
            runtime.keys.watermark,
            partial(
                registry.resolve,
                runtime.results,
                verifying=runtime.keys.verifying,
                watermark=runtime.keys.watermark,
            ),
            format_timestamp(runtime.results.now()),
            seconds=runtime.trace_seconds,
        )
    verifying = runtime.keys.verifying
    return put_unless_genuine(
        runtime.results,
        trace_key(report.trace_id),
        signed.sign(report, runtime.keys.signing),
        limit=BYTES_LIMIT,
        is_genuine=lambda data: trace.read_report(data, report.trace_id, verifying) is not None,
    )


def integrate_log(runtime: Runtime) -> Integrated:
    """Add queued results and tombstones to the log.

    Raises Unavailable JOB_BUSY while another worker does this, Refused LOG_INVALID if the log is
    damaged.
    """
    seconds, keys = runtime.lease_seconds, runtime.keys
    with Lease.acquire(runtime.control, "log", runtime.worker, seconds, keys):
        integrated = sequencer.integrate(
            runtime.control,
            runtime.results,
            runtime.keys.signing,
            f"voicedrop/{runtime.results.name}",
            earlier_keys=runtime.keys.verifying.values(),
        )
    for leaf in integrated.refused:
        logger.warning("not logged", extra={"key": leaf.key, "error": leaf.reason})
    return integrated
