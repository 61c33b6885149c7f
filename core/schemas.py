"""JSON Schemas (2020-12) of our documents, made from the Structs that read and write them.

docs/schemas/ holds what these functions return; a test compares them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from core.consent import SCHEMA as CONSENT
from core.consent import Consent
from core.manifest import (
    ACCEPTED_ONLY,
    ID_PATTERN,
    MAX_ITEMS,
    MAX_LABEL_NAME,
    MAX_LABELS,
    MAX_VOICES,
    SCHEMA,
    Manifest,
)
from core.result import SCHEMA as RESULT
from core.result import Result


def job() -> dict[str, Any]:
    """Of the manifest as one JSON document. In JSON Lines the first line is this without `items`,
    every other line is its `$defs/Item`."""
    schema = of(Manifest, SCHEMA)
    definitions = schema["$defs"]
    for type_, fields in ACCEPTED_ONLY.items():
        thing = definitions[type_.__name__]
        thing["patternProperties"] = {"^x-": {}}
        thing["properties"] |= {name: {"enum": list(only)} for name, only in fields.items() if only}
    manifest = definitions["Manifest"]
    manifest["required"].append("items")
    properties = manifest["properties"]
    properties["items"] |= {"minItems": 1, "maxItems": MAX_ITEMS}
    properties["items"].pop("default")
    properties["labels"] |= {
        "maxProperties": MAX_LABELS,
        "propertyNames": {"minLength": 1, "maxLength": MAX_LABEL_NAME},
    }
    properties["voices"] |= {
        "minProperties": 1,
        "maxProperties": MAX_VOICES,
        "propertyNames": {"pattern": _ecma(ID_PATTERN)},
    }
    return schema


def result() -> dict[str, Any]:
    return of(Result, RESULT)


def consent() -> dict[str, Any]:
    return of(Consent, CONSENT)


def of(type_: type[msgspec.Struct], title: str) -> dict[str, Any]:
    """The schema of one Struct."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    schema: dict[str, Any] = _translated(head | msgspec.json.schema(type_))
    return schema


def _translated(value: Any) -> Any:
    """With patterns as ECMA 262 writes them."""
    if isinstance(value, dict):
        return {
            name: _ecma(part) if name == "pattern" else _translated(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_translated(part) for part in value]
    return value


def _ecma(pattern: str) -> str:
    # Python's `$` would let a final newline pass; ECMA's does not, and knows no \Z.
    return pattern.replace(r"\Z", "$")
