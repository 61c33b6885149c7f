"""Tickets: where in the inbox the manifest of a job is, or the clip of a trace.

The id of a job is a digest, from which nobody can tell the key of its manifest. So that a job
without a result is found without reading every manifest, its ticket is stored before its manifest.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from core.errors import Refused
from core.job.commit import RESULT_LIMIT
from core.result import document
from core.result.document import Result
from core.storage.object_keys import result_key, ticket_key
from core.storage.port import Store

LIMIT = 4096


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    object: str
    """Key of a manifest, or of a clip."""
    items: int = 0


def put_ticket(name: str, ticket: Ticket, inbox: Store) -> None:
    """`name`: the id of a job or trace."""
    inbox.put(ticket_key(name), msgspec.json.encode(ticket))


def read_ticket(name: str, inbox: Store) -> Ticket | None:
    with suppress(Refused, msgspec.DecodeError):
        return msgspec.json.decode(inbox.get(ticket_key(name), limit=LIMIT).data, type=Ticket)
    return None


def read_result(job_id: str, results: Store) -> tuple[bytes, Result] | None:
    """Return the result of a job as it is stored, and parsed; None if it has none. Does not verify
    the signature: whoever asks gets the signed document."""
    with suppress(Refused):
        data = results.get(result_key(job_id), limit=RESULT_LIMIT).data
        result = document.parse_result(data)
        return (data, result) if result.job_id == job_id else None
    return None


def find_manifest(job_id: str, inbox: Store, results: Store) -> str:
    """Return the key of the manifest of a job; empty if there is no such job."""
    if ticket := read_ticket(job_id, inbox):
        return ticket.object
    found = read_result(job_id, results)
    return found[1].manifest.key if found else ""
