"""Check the fields of a manifest, one JSON object at a time, and point to what is wrong."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from core.documents import violation
from core.documents.violation import Violation, ViolationKind
from core.errors import Refused
from core.manifest.fields import (
    MAX_VOICES,
    SCHEMA,
    UNSUPPORTED_FIELDS,
    UNSUPPORTED_VALUES,
    Defaults,
    Delivery,
    Item,
    Label,
    Manifest,
    Voice,
)

S = TypeVar("S", bound=msgspec.Struct)


def convert(value: Any, type_: type[S], pointer: str) -> S:
    """Return a JSON value as a Struct. Raises Refused, with a pointer to what is wrong:
    SCHEMA_TYPE, FIELD_MISSING, UNKNOWN_FIELD, FIELD_UNSUPPORTED, VALUE_RANGE, ID_INVALID,
    LANGUAGE_UNSUPPORTED, LABEL_CHARSET, TEXT_SURROGATE.
    """
    if isinstance(value, dict) and (
        not value.keys() <= _FIELD_NAMES[type_] or value.get("markup") is False
    ):
        value = _known_fields(value, type_, pointer)
    try:
        return msgspec.convert(value, type_, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError):  # a lone surrogate
        raise _to_refused(violation.find_violation(value, type_), pointer) from None


def convert_header(fields: dict[str, Any]) -> Manifest:
    """Return the document without its items.

    Raises as `convert` does. SCHEMA_UNSUPPORTED comes first, because another major version may have
    other fields.
    """
    if fields.get("schema") != SCHEMA:
        raise Refused("SCHEMA_UNSUPPORTED", pointer="/schema")
    fields = _known_fields(fields, Manifest, "")
    voices = fields.get("voices", {})
    if voices == {}:
        raise Refused("FIELD_MISSING", "Define at least one voice.", pointer="/voices")
    if isinstance(voices, dict) and len(voices) > MAX_VOICES:
        raise Refused("VALUE_RANGE", f"At most {MAX_VOICES} voices.", pointer="/voices")
    parts: dict[str, Any] = {
        "defaults": convert(fields.get("defaults", {}), Defaults, "/defaults"),
        "label": convert(fields.get("label", {}), Label, "/label"),
        "output": convert(fields.get("output", {}), Delivery, "/output"),
    }
    if isinstance(voices, dict):
        parts["voices"] = {
            name: convert(voice, Voice, join_pointer("/voices", name))
            for name, voice in voices.items()
        }
        fields["voices"] = {}
    rest = {name: value for name, value in fields.items() if name == "voices" or name not in parts}
    return msgspec.structs.replace(convert(rest, Manifest, ""), **parts)


def join_pointer(pointer: str, *names: object) -> str:
    """Append reference tokens to a JSON pointer (RFC 6901)."""
    tokens = (str(name)[:80].replace("~", "~0").replace("/", "~1") for name in names)
    return "/".join((pointer, *tokens))


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean ...?` if a known name is similar, or is the only one that continues
    this one; else an empty string."""
    return _suggest(name, tuple(known)) if len(name) <= 32 else ""


@lru_cache(maxsize=4096)  # one generator makes the same mistake in a hundred thousand items
def _suggest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    longer = [one for one in known if len(name) > 1 and one.startswith(name)]
    near = near or (longer if len(longer) == 1 else [])
    return f" Did you mean `{near[0]}`?" if near else ""


_FIELD_NAMES: dict[type[msgspec.Struct], frozenset[str]] = {
    type_: frozenset(type_.__struct_fields__) for type_ in UNSUPPORTED_FIELDS
}


def _known_fields(
    value: dict[str, Any], type_: type[msgspec.Struct], pointer: str
) -> dict[str, Any]:
    """Return the fields that the Struct has. Others are dropped if they are the producer's own or
    an unsupported field whose value changes nothing, and refused otherwise."""
    only = UNSUPPORTED_FIELDS[type_]
    kept = {}
    for name, field in value.items():
        if name in _FIELD_NAMES[type_]:
            if not any(field is value for value in only.get(name, ())):
                kept[name] = field
        elif name in only:
            _refuse_unless_accepted(name, field, only[name], join_pointer(pointer, name))
        elif not name.startswith("x-"):
            shown = ascii(name)[1:-1]
            message = _explain_unknown(name, type_) or f"There is no field `{shown[:80]}`."
            near = _suggest_field(name, type_)
            raise Refused("UNKNOWN_FIELD", f"{message}{near}", pointer=join_pointer(pointer, shown))
    return kept


_PLACES: Mapping[type[msgspec.Struct], str] = {
    Item: "in an item",
    Defaults: "in `defaults`",
    Voice: "in a voice",
    Label: "in `label`",
    Delivery: "in `output`",
    Manifest: "at the top level",
}
_SYNONYMS: Mapping[str, str] = {
    "speaker": "voice",
    "speakers": "voices",
    "content": "text",
    "sentence": "text",
    "name": "id",
    "audio": "reference",
    "file": "reference",
    "recording": "reference",
}
"""Names that other formats use -> the field that is meant. None of them looks like it."""


def _explain_unknown(name: str, type_: type[msgspec.Struct]) -> str:
    """Say where a field belongs that is not one of `type_`; empty if there is none of this name."""
    places = [place for other, place in _PLACES.items() if name in _FIELD_NAMES[other]]
    return f"`{name}` belongs {' or '.join(places)}, not here." if places else ""


def _suggest_field(name: str, type_: type[msgspec.Struct]) -> str:
    """Suggest a field of `type_`. If the name is a field elsewhere, it is most likely only in the
    wrong place, so nothing but its plural is suggested."""
    known = [*_FIELD_NAMES[type_], *UNSUPPORTED_FIELDS[type_]]
    if _SYNONYMS.get(name) in known:
        return f" Did you mean `{_SYNONYMS[name]}`?"
    if any(name in fields for fields in _FIELD_NAMES.values()):
        known = [field for field in known if field == f"{name}s"]
    return suggest(name, known)


def _refuse_unless_accepted(name: str, field: Any, accepted: tuple[Any, ...], pointer: str) -> None:
    # Compared as JSON, where true is not 1.
    if json.dumps(field, sort_keys=True) in {json.dumps(a, sort_keys=True) for a in accepted}:
        return
    only = f", only {json.dumps(accepted[0])}" if accepted else ""
    message = f"This version does not support `{name}`{only}: remove it."
    raise Refused("FIELD_UNSUPPORTED", message, pointer=pointer)


_PATTERN_CODES = {
    "id": "ID_INVALID",
    "voice": "ID_INVALID",
    "chapter": "ID_INVALID",
    "language": "LANGUAGE_UNSUPPORTED",
    "producer": "LABEL_CHARSET",
    "retry_of": "RETRY_UNKNOWN",
    "sha256": "VALUE_RANGE",
}


def _to_refused(found: Violation | None, pointer: str) -> Refused:
    if found is None:
        return Refused("SCHEMA_TYPE", pointer=pointer)
    pointer = join_pointer(pointer, *found.path)
    field = next((name for name in reversed(found.path) if isinstance(name, str)), "")
    if found.kind == "choice" and found.value in UNSUPPORTED_VALUES.get(field, ()):
        message = f"This version does not support {json.dumps(found.value)} yet."
        return Refused("FIELD_UNSUPPORTED", message, pointer=pointer)
    code = _PATTERN_CODES[field] if found.kind == "pattern" else _VIOLATION_CODES[found.kind]
    return Refused(code, f"{found.message}.", pointer=pointer)


_VIOLATION_CODES: Mapping[ViolationKind, str] = {
    "choice": "VALUE_RANGE",
    "missing": "FIELD_MISSING",
    "range": "VALUE_RANGE",
    "surrogate": "TEXT_SURROGATE",
    "type": "SCHEMA_TYPE",
    "unknown": "UNKNOWN_FIELD",
}
