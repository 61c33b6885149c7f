"""The OpenAPI document (3.1) of the HTTP interface, generated from its Structs.

docs/schemas/openapi.json holds what this module returns, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from core.result import schemas
from core.result.document import Result
from core.trace.trace import Trace
from core.version import VERSION
from handlers.api.callers import Scope
from handlers.api.clone import CloneRequest
from handlers.api.job_views import MAX_PAGE, JobPage, JobView
from handlers.api.opened import OutputView
from handlers.api.problems import MEDIA_TYPE, ProblemDetails
from handlers.api.speech import SpeechRequest
from handlers.api.traces import TraceView
from handlers.api.voices import VoicePage

AUDIO = ("audio/wav", "audio/flac", "audio/mpeg", "audio/ogg")
_JSON, _FORM = "application/json", "multipart/form-data"
_BINARY: Mapping[str, Any] = {"type": "string", "contentMediaType": "application/octet-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route. `docs/http.md` has the same table, which a test compares."""

    method: str
    path: str
    does: str
    scopes: tuple[Scope, ...] = ()
    parameters: tuple[str, ...] = ()
    """Names of `_PARAMETERS`."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Media type -> schema."""
    answers: Mapping[int, Any] = field(default_factory=dict)
    """Status -> media type -> schema."""
    problems: tuple[int, ...] = ()
    """Further statuses that it may answer with a problem."""


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(name: str) -> dict[str, Any]:
    return {_JSON: _ref(name)}


_CLIP = {"type": "object", "required": ["clip"], "properties": {"clip": _BINARY}}
_OPENED = {kind: dict(_BINARY) for kind in AUDIO}
OPERATIONS = (
    Operation(
        method="post",
        path="/clone",
        does="Submits a job.",
        scopes=("clone",),
        parameters=("prefer", "idempotency"),
        body={
            _JSON: _ref("CloneRequest"),
            _FORM: _ref("CloneForm"),
            "application/x-www-form-urlencoded": _ref("CloneForm"),
        },
        answers={200: {**_json("JobView"), **_OPENED}, 202: _json("JobView")},
        problems=(400, 404, 406, 408, 409, 413, 415, 422, 429, 503),
    ),
    Operation(
        method="get",
        path="/jobs",
        does="Lists jobs, the latest first.",
        scopes=("read",),
        parameters=("limit", "before"),
        answers={200: _json("JobPage")},
        problems=(400,),
    ),
    Operation(
        method="get",
        path="/jobs/{job}",
        does="Says how far a job is; its signed result when it is finished.",
        scopes=("read",),
        parameters=("job", "prefer"),
        answers={200: _json("JobView")},
        problems=(404,),
    ),
    Operation(
        method="delete",
        path="/jobs/{job}",
        does="Cancels a job: what is finished stays.",
        scopes=("clone",),
        parameters=("job",),
        answers={202: _json("JobView")},
        problems=(404, 409),
    ),
    *(
        Operation(
            method="get",
            path=f"/jobs/{{job}}/{kind}/{{name}}",
            does=f"What the result states about {what}; its audio, opened, by Accept: audio/*.",
            scopes=("read",),
            parameters=("job", "name"),
            answers={200: {**_json("OutputView"), **_OPENED}},
            problems=(404, 406, 413, 422, 503),
        )
        for kind, what in (("items", "an item"), ("chapters", "a joined file"))
    ),
    Operation(
        method="get",
        path="/voices",
        does="Lists the voices that are kept under a name.",
        scopes=("read",),
        parameters=("limit", "after"),
        answers={200: _json("VoicePage")},
        problems=(400,),
    ),
    Operation(
        method="post",
        path="/trace",
        does="Traces a clip to the jobs that made it.",
        scopes=("trace",),
        parameters=("prefer",),
        body={_FORM: _CLIP, "application/octet-stream": _BINARY, "audio/*": _BINARY},
        answers={200: _json("TraceView"), 202: _json("TraceView")},
        problems=(400, 408, 413, 415, 422, 429),
    ),
    Operation(
        method="get",
        path="/traces/{trace}",
        does="Says how far a trace is; its signed report when it is finished.",
        scopes=("trace",),
        parameters=("trace", "prefer"),
        answers={200: _json("TraceView")},
        problems=(404,),
    ),
    Operation(
        method="post",
        path="/v1/audio/speech",
        does="Speaks a text in a voice that is kept under a name, as clients of OpenAI ask for it.",
        scopes=("clone", "listen"),
        body={_JSON: _ref("SpeechRequest")},
        answers={200: _OPENED},
        problems=(400, 404, 406, 408, 413, 415, 422, 429, 503),
    ),
    Operation(
        method="get",
        path="/openapi.json",
        does="This document.",
        answers={200: {_JSON: {"type": "object"}}},
    ),
    Operation(
        method="get",
        path="/healthz",
        does="Name and version.",
        answers={200: {_JSON: {"type": "object"}}},
    ),
)
_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "job": {"name": "job", "in": "path", "required": True, "schema": _ID},
    "trace": {"name": "trace", "in": "path", "required": True, "schema": _ID},
    "name": {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 20},
    },
    "before": {"name": "before", "in": "query", "schema": {"type": "string"}},
    "after": {"name": "after", "in": "query", "schema": {"type": "string"}},
    "prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N`: wait up to N seconds for the result (RFC 7240).",
        "schema": {"type": "string"},
        "example": "wait=60",
    },
    "idempotency": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Requests with the same key and content have one job.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
}
_MEANINGS = {
    200: "Done.",
    202: "Accepted; the job is not finished.",
    400: "The request cannot be read.",
    401: "The caller is unknown.",
    403: "The caller may not do this, or another site asks for it.",
    404: "There is no such thing, or it is not the caller's.",
    406: "This server cannot open audio.",
    408: "The body did not arrive in time.",
    409: "The state of the job or inbox does not allow it.",
    413: "Too large.",
    415: "This media type is not read here.",
    422: "The request can be read, but the job would fail, or did.",
    429: "Too much is in progress, or a quota is used up; `Retry-After` says when to come again.",
    503: "It may succeed later.",
}


@cache
def document() -> bytes:
    """Return the document as JSON."""
    return msgspec.json.format(msgspec.json.encode(describe()), indent=1)


def describe() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "voicedrop",
            "version": VERSION,
            "summary": "Watermarked, sealed speech in the voice of a recording.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _components(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.does,
        "parameters": [dict(_PARAMETERS[name]) for name in operation.parameters],
        "responses": {},
    }
    if operation.scopes:
        made["description"] = f"Scopes: {', '.join(operation.scopes)}."
        made["security"] = [{"token": []}, {}]
    if operation.body:
        made["requestBody"] = {"required": True, "content": _content(operation.body)}
    for status, content in operation.answers.items():
        answer = {"description": _MEANINGS[status], "content": _content(content)}
        made["responses"][str(status)] = answer
    refused = {401, 403} if operation.scopes else {403}
    for status in sorted(refused | set(operation.problems)):
        content = {MEDIA_TYPE: _ref("ProblemDetails")}
        answer = {"description": _MEANINGS[status], "content": _content(content)}
        made["responses"][str(status)] = answer
    return made


def _operation_id(operation: Operation) -> str:
    words = [part.strip("{}") for part in operation.path.replace(".", "/").split("/") if part]
    return "_".join([operation.method, *words])


def _content(schemas_by_type: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in schemas_by_type.items()}


def _components() -> dict[str, Any]:
    """Return the schemas of everything that is sent or answered, by name."""
    made: dict[str, Any] = dict(schemas.job_schema()["$defs"])
    kinds = (CloneRequest, SpeechRequest, JobView, JobPage, OutputView, VoicePage, TraceView)
    for kind in (*kinds, Result, Trace, ProblemDetails):
        definitions = schemas.struct_schema(kind.__name__, kind)["$defs"]
        made |= {name: schema for name, schema in definitions.items() if name not in made}
    _say_what_is_inside(made, "JobView", "result", "Result")
    _say_what_is_inside(made, "TraceView", "report", "Trace")
    _say_what_is_inside(made, "CloneRequest", "manifest", "Manifest")
    made["CloneForm"] = _form_of(made["CloneRequest"])
    moved: dict[str, Any] = _move_references(made)
    return moved


def _say_what_is_inside(made: dict[str, Any], kind: str, field: str, inside: str) -> None:
    """Describe a field that holds a document as it is stored."""
    alternatives = [{"$ref": f"#/$defs/{inside}"}, {"type": "null"}]
    made[kind]["properties"][field] = {"anyOf": alternatives, "default": None}


def _form_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a form with the fields of a JSON request."""
    properties = dict(request["properties"])
    for name in ("recording", "consent", "statement_audio"):
        properties[name] = _BINARY
    properties["subtitle"] = {"type": "string", "description": "With commas between."}
    properties["manifest"] = {"type": "string", "contentMediaType": _JSON}
    for name, kind in (("text", "string"), ("voice", "string"), ("language", "string")):
        properties[name] = {"type": kind}
    for name, kind in (("sample_rate", "integer"), ("seed", "integer")):
        properties[name] = {"type": kind}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _move_references(value: Any) -> Any:
    if isinstance(value, dict):
        moved = {name: _move_references(inside) for name, inside in value.items()}
        if isinstance(reference := value.get("$ref"), str):
            moved["$ref"] = reference.replace("#/$defs/", "#/components/schemas/")
        return moved
    return [_move_references(inside) for inside in value] if isinstance(value, list) else value
