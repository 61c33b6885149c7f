"""`voicedrop schema`: the JSON Schema of a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.audit.report import Report
from core.batch.parts import ErrorLine
from core.consent.withdrawal import WithdrawalNote
from core.errors import Refused
from core.result import schemas
from core.result.document import Part
from core.result.tombstone import Tombstone
from core.text import lexicon
from core.trace.registry import Index, SignedMark
from core.trace.trace import Trace
from events import outgoing

SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "job": schemas.job_schema,
    "job-line": schemas.job_line_schema,
    "consent": schemas.consent_schema,
    "lexicon": lambda: schemas.struct_schema(lexicon.SCHEMA, lexicon.Document),
    "withdrawal": lambda: schemas.struct_schema("voicedrop/withdrawal/1", WithdrawalNote),
    "result": schemas.result_schema,
    "tombstone": lambda: schemas.struct_schema("voicedrop/tombstone/1", Tombstone),
    "part": lambda: schemas.struct_schema("voicedrop/part/1", Part),
    "error-line": lambda: schemas.struct_schema("voicedrop/error-line/1", ErrorLine),
    "event": outgoing.schema,
    "mark": lambda: schemas.struct_schema("voicedrop/mark/2", SignedMark),
    "trace": lambda: schemas.struct_schema("voicedrop/trace/2", Trace),
    "audit": lambda: schemas.struct_schema("voicedrop/audit/1", Report),
    "index": lambda: schemas.struct_schema("voicedrop/index/1", Index),
}
"""Every document that producers write, or that is written for others to read, in the version that
is written now: docs/schemas/<name>-<version>.json."""


def json_schema(name: str) -> dict[str, Any]:
    """Raises Refused VALUE_RANGE if there is no schema of that name."""
    if name not in SCHEMAS:
        message = f"There is a schema of {', '.join(SCHEMAS)}, not of {name}."
        raise Refused("VALUE_RANGE", message, advice="")
    return SCHEMAS[name]()
