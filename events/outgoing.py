"""CloudEvents 1.0 for results and traces, each one JSON object on one line.

Everything in an event is derived from the document it announces. A worker that repeats an event
after a crash therefore writes the same bytes, and `source` and `id` together identify an event, so
consumers can drop repeats.

Source: CloudEvents 1.0.2, cloudevents.io; required attributes id, source, specversion, type.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec

from core.documents import canonical
from core.result import document, schemas
from core.result.document import Result, Status, Totals
from core.storage.object_keys import result_key

MAX_LISTED = 100
"""Most outputs, and most joined files, named in an event, because event buses accept 64 KiB. The
result names all of them."""
SCHEMA = "voicedrop/event/1"
_NAMESPACE = uuid.UUID("6f8f2a52-3f0e-5d0c-9a63-8d1f2f0c6f10")


class JobData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts by which a consumer decides whether to fetch the result."""

    job_id: str
    status: Status
    id: str
    """The producer's own name for the job."""
    labels: dict[str, str]
    manifest_key: str
    manifest_sha256: str
    result_key: str
    """Key in the results bucket."""
    totals: Totals
    outputs: Annotated[list[str], msgspec.Meta(max_length=MAX_LISTED)]
    """Keys of the first outputs; empty for a job that was divided into shards."""
    chapters: Annotated[list[str], msgspec.Meta(max_length=MAX_LISTED)]
    """Keys of the first joined files."""
    outputs_complete: bool
    """True if `outputs` and `chapters` name all of them."""
    errors: dict[str, int]
    """Code -> number of items and joined files that failed with it."""
    error: str
    """Error code of the job as a whole, or empty."""


class TraceData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts by which a consumer decides whether to fetch the report of a trace."""

    trace_id: str
    report_key: str
    """Key in the results bucket."""
    marked: bool | None
    """None: the clip could not be read."""
    complete: bool = True
    """False: the time for a trace was used up before everything was searched."""
    jobs: list[str]
    """Ids of the jobs whose marks were found."""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = ""
    """URI of the schema of `data`; missing in events of version 0.1.0."""
    data: Any


class JobEvent(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal[
        "com.voicedrop.job.succeeded",
        "com.voicedrop.job.partial",
        "com.voicedrop.job.failed",
        "com.voicedrop.job.rejected",
        "com.voicedrop.job.validated",
        "com.voicedrop.job.invalid",
    ]
    dataschema: Literal["urn:voicedrop:event:1#/$defs/JobData"] = (
        "urn:voicedrop:event:1#/$defs/JobData"
    )
    data: JobData


class TraceEvent(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["com.voicedrop.trace.completed"]
    dataschema: Literal["urn:voicedrop:event:1#/$defs/TraceData"] = (
        "urn:voicedrop:event:1#/$defs/TraceData"
    )
    data: TraceData


def job_event(finished: Result) -> bytes:
    """Return the event of a finished job, ending in a newline."""
    outputs = [item.output.key for item in finished.items if item.output]
    chapters = [chapter.output.key for chapter in finished.chapters if chapter.output]
    errors = Counter(document.count_errors([*finished.items, *finished.chapters]))
    for part in finished.parts:
        errors.update(part.errors)
    data = JobData(
        job_id=finished.job_id,
        status=finished.status,
        id=finished.id,
        labels=finished.labels,
        manifest_key=finished.manifest.key,
        manifest_sha256=finished.manifest.sha256,
        result_key=result_key(finished.job_id),
        totals=finished.totals,
        outputs=outputs[:MAX_LISTED],
        chapters=chapters[:MAX_LISTED],
        outputs_complete=max(len(outputs), len(chapters)) <= MAX_LISTED and not finished.parts,
        errors=dict(errors),
        error=finished.error.code if finished.error else "",
    )
    return build_event(
        JobEvent,
        identity=f"{finished.job_id} {finished.status} {finished.finished}",
        type_=f"com.voicedrop.job.{finished.status}",
        bucket=finished.manifest.bucket,
        subject=finished.manifest.key,
        time=finished.finished,
        data=data,
    )


def trace_event(report: bytes, *, bucket: str, clip: str, time: str, data: TraceData) -> bytes:
    """Return the event of a finished trace. `report`: the bytes of the trace report; `clip`: the
    key of the traced clip."""
    return build_event(
        TraceEvent,
        identity=hashlib.sha256(report).hexdigest(),
        type_="com.voicedrop.trace.completed",
        bucket=bucket,
        subject=clip,
        time=time,
        data=data,
    )


def build_event(
    kind: type[Event],
    *,
    identity: str,
    type_: str,
    bucket: str,
    subject: str,
    time: str,
    data: JobData | TraceData,
) -> bytes:
    """Return an event, ending in a newline. `bucket`: the inbox, which names the source; `subject`:
    the object that started the work; `identity`: text that is unique among the source's events."""
    cloud_event = kind(
        id=str(uuid.uuid5(_NAMESPACE, identity)),
        source=f"/voicedrop/{quote(bucket, safe='')}",
        type=type_,
        subject=subject,
        time=time,
        data=data,
    )
    return canonical.dump(cloud_event) + b"\n"


def is_same_event(stored: bytes, event: bytes) -> bool:
    """Return whether a stored object is this event, as this version or version 0.1.0 writes it."""
    if stored == event:
        return True
    older = canonical.load(event)
    del older["dataschema"]
    return stored == canonical.dump(older) + b"\n"


def schema() -> dict[str, Any]:
    """Return the JSON Schema 2020-12 of all events, which is docs/schemas/event-1.json."""
    return schemas.struct_schema(SCHEMA, JobEvent, TraceEvent)
