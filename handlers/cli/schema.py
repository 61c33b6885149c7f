"""`voicedrop schema`: the JSON Schema of a document."""

from __future__ import annotations

from typing import Any

from core.errors import Refused
from core.result import schemas
from events import outgoing

_SCHEMAS = {
    "job": schemas.job_schema,
    "result": schemas.result_schema,
    "event": outgoing.schema,
    "consent": schemas.consent_schema,
}


def json_schema(name: str) -> dict[str, Any]:
    """Raises Refused VALUE_RANGE if there is no schema of that name."""
    if name not in _SCHEMAS:
        raise Refused("VALUE_RANGE", f"There is a schema of {', '.join(_SCHEMAS)}, not of {name}.")
    return _SCHEMAS[name]()
