"""JSON Schemas (2020-12) of the public documents, generated from their Structs.

docs/schemas/ holds what these functions return, and a test compares the two. msgspec generates
schemas too, but their order and keywords change between its versions, so only the types of the
fields are taken from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect as types

from core.consent.records import MAX_RECORDINGS, Consent
from core.consent.records import SCHEMA as CONSENT
from core.manifest.fields import (
    ID_PATTERN,
    MAX_ITEMS,
    MAX_LABEL_NAME,
    MAX_LABELS,
    MAX_VOICES,
    SCHEMA,
    UNSUPPORTED_FIELDS,
    Manifest,
)
from core.result.document import SCHEMA as RESULT
from core.result.document import Result


def job_schema() -> dict[str, Any]:
    """Return the schema of a manifest as one JSON document. In JSON Lines the first line is this
    without `items`, and every other line is its `$defs/Item`."""
    schema = struct_schema(SCHEMA, Manifest)
    definitions = schema["$defs"]
    for type_, fields in UNSUPPORTED_FIELDS.items():
        thing = definitions[type_.__name__]
        thing["patternProperties"] = {"^x-": {}}
        known = thing["properties"]
        for name, only in fields.items():
            if only:
                accepted = {"enum": list(only)}
                known[name] = {"anyOf": [known[name], accepted]} if name in known else accepted
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
        "propertyNames": {"pattern": _to_ecma_pattern(ID_PATTERN)},
    }
    return schema


def job_line_schema() -> dict[str, Any]:
    """Return the schema of a line of a manifest in JSON Lines: the header, or an item."""
    definitions = job_schema()["$defs"]
    header = definitions["Manifest"]
    header["required"].remove("items")
    header["properties"]["items"] = {"const": "jsonl"}
    lines = [{"$ref": "#/$defs/Manifest"}, {"$ref": "#/$defs/Item"}]
    return _document("voicedrop/job-line/1", lines, definitions)


def result_schema() -> dict[str, Any]:
    return struct_schema(RESULT, Result)


def consent_schema() -> dict[str, Any]:
    schema = struct_schema(CONSENT, Consent)
    recordings = schema["$defs"]["Consent"]["properties"]["ref_audio_sha256"]
    recordings["maxItems"] = MAX_RECORDINGS
    return schema


def struct_schema(name: str, *kinds: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the schema of a document that is one of these Structs. `name`: as the document gives
    it in its field `schema`, such as `voicedrop/result/1`."""
    definitions: dict[str, Any] = {}
    made = [_schema(types.type_info(kind), definitions) for kind in kinds]
    return _document(name, made, definitions)


def schema_id(name: str) -> str:
    """Return the identifier of the schema of this name. It is a name, not an address: the schemas
    are published with the code."""
    return f"urn:{name.replace('/', ':')}"


def _document(
    name: str, alternatives: list[dict[str, Any]], definitions: dict[str, Any]
) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_id(name),
        "title": name,
        **(alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}),
        "$defs": definitions,
    }


def _schema(kind: types.Type, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; the Structs in it are added to the definitions."""
    match kind:
        case types.StructType() | types.DataclassType():
            made = _reference(kind, definitions)
        case types.UnionType():
            ordered = sorted(kind.types, key=lambda one: isinstance(one, types.NoneType))
            made = {"anyOf": [_schema(one, definitions) for one in ordered]}
        case types.LiteralType():
            made = {"enum": sorted(kind.values)}
        case types.ListType():
            made = {"type": "array", "items": _schema(kind.item_type, definitions)}
        case types.DictType():
            values = _schema(kind.value_type, definitions)
            made = {"type": "object"} | ({"additionalProperties": values} if values else {})
        case types.Metadata():
            made = (kind.extra_json_schema or {}) | _schema(kind.type, definitions)
        case _:
            made = _SIMPLE_TYPES[type(kind)]
    return made | _constraints(kind)


_SIMPLE_TYPES: Mapping[type[types.Type], dict[str, Any]] = {
    types.AnyType: {},
    types.NoneType: {"type": "null"},
    types.BoolType: {"type": "boolean"},
    types.IntType: {"type": "integer"},
    types.FloatType: {"type": "number"},
    types.StrType: {"type": "string"},
    types.DateTimeType: {"type": "string", "format": "date-time"},
}
_NUMBER_RANGE = {"ge": "minimum", "le": "maximum"}
_CONSTRAINTS: Mapping[type[types.Type], Mapping[str, str]] = {
    types.StrType: {"pattern": "pattern", "max_length": "maxLength", "min_length": "minLength"},
    types.IntType: _NUMBER_RANGE,
    types.FloatType: _NUMBER_RANGE,
    types.ListType: {"min_length": "minItems", "max_length": "maxItems"},
}


def _constraints(kind: types.Type) -> dict[str, Any]:
    names = _CONSTRAINTS.get(type(kind), {})
    found = {keyword: getattr(kind, name) for name, keyword in names.items()}
    return {
        keyword: _to_ecma_pattern(limit) if keyword == "pattern" else limit
        for keyword, limit in found.items()
        if limit is not None
    }


def _reference(
    kind: types.StructType | types.DataclassType, definitions: dict[str, Any]
) -> dict[str, Any]:
    name = kind.cls.__name__
    if name not in definitions:
        definitions[name] = {}  # comes before the Structs that it contains
        definitions[name] = _definition(kind, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _definition(
    kind: types.StructType | types.DataclassType, definitions: dict[str, Any]
) -> dict[str, Any]:
    made: dict[str, Any] = {"title": kind.cls.__name__}
    if said := " ".join((kind.cls.__doc__ or "").split()):
        made["description"] = said
    fields = {
        field.encode_name: _schema(field.type, definitions) | _default(field)
        for field in kind.fields
    }
    required = [field.encode_name for field in kind.fields if field.required]
    if isinstance(kind, types.StructType) and kind.array_like:
        listed = {"prefixItems": list(fields.values()), "minItems": len(required)}
        return made | {"type": "array"} | listed
    closed = isinstance(kind, types.StructType) and kind.forbid_unknown_fields
    named = {"type": "object", "properties": fields, "required": required}
    return made | named | ({"additionalProperties": False} if closed else {})


def _default(field: types.Field) -> dict[str, Any]:
    if field.required or field.default is field.default_factory:  # neither: left out if it is unset
        return {}
    made = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return {"default": msgspec.to_builtins(made)}


def _to_ecma_pattern(pattern: str) -> str:
    # Python's `$` accepts a final newline; ECMAScript's does not, and it has no \Z.
    return pattern.replace(r"\Z", "$")
