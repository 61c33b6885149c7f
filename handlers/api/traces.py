"""Clips that are traced: stored in the inbox like those of the storage road, and their reports."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import msgspec

from core.errors import Refused
from core.storage.object_keys import CLIPS, trace_key
from core.storage.port import Store
from core.trace import trace
from handlers.api.callers import Caller
from handlers.api.clone import Upload, extension_of
from handlers.api.tickets import Ticket, put_ticket, read_ticket


class TraceView(msgspec.Struct, frozen=True, kw_only=True):
    """How far the trace of a clip is."""

    trace: str
    """The id of the trace, the same for every copy of the clip."""
    status: str
    """accepted or finished."""
    report: Any = None
    """The signed report; null until it is there."""


def store_clip(clip: Upload, caller: Caller, inbox: Store) -> tuple[str, str]:
    """Store a clip; return the id of its trace, and its key. Raises Refused AUDIO_EMPTY."""
    if not clip.data:
        raise Refused("AUDIO_EMPTY", pointer="/clip")
    digest = hashlib.sha256(clip.data).hexdigest()
    key = f"{CLIPS}{caller.folder}{digest}{extension_of(clip.name)}"
    trace_id = trace.id_of_clip(digest)
    put_ticket(trace_id, Ticket(object=key), inbox)
    inbox.put_once(key, clip.data)
    return trace_id, key


def read_trace(trace_id: str, inbox: Store, results: Store) -> TraceView:
    """Raises Refused OBJECT_MISSING if no such clip was sent or traced."""
    with suppress(Refused):
        report = results.get(trace_key(trace_id), limit=trace.MAX_BYTES).data
        return TraceView(trace=trace_id, status="finished", report=msgspec.Raw(report))
    if read_ticket(trace_id, inbox) is None:
        raise Refused("OBJECT_MISSING", "There is no such trace.", pointer=trace_id, advice="")
    return TraceView(trace=trace_id, status="accepted")
