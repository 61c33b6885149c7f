"""The published schemas and pages are current and agree with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec import inspect as types

from core import errors
from core.documents import canonical
from core.errors import Refused
from core.manifest import resolve
from core.result import document as result
from core.result import schemas
from docs import generate
from events import outgoing
from handlers.cli.schema import SCHEMAS
from tests.manifest.test_manifest_refused import FIELDS, UNSUPPORTED
from tests.manifest.test_parse import ITEMS
from tests.support.manifests import ITEM, VOICE, encode, manifest
from tests.support.results import FULL, rejected

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("path", generate.pages(), ids=lambda path: path.name)
def test_generated_files_are_current(path: Path) -> None:
    """If this fails, run `python docs/generate.py`."""
    assert path.read_text(encoding="utf-8") == generate.pages()[path]


def test_a_setting_without_a_chinese_explanation_is_reported() -> None:
    words = generate.READMES["README.zh-CN.md"]
    missing = {name: text for name, text in words["help"].items() if name != "price"}
    with pytest.raises(ValueError, match="must name the settings"):
        generate.settings_table({**words, "help": missing})


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_conform_to_json_schema(name: str) -> None:
    schema = SCHEMAS[name]()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert re.fullmatch(rf"urn:voicedrop:{name}:\d", schema["$id"])


LIBRARY = {
    "alternatives": (
        types.UnionType((types.NoneType(), types.StrType())),
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
    ),
    "choices": (types.LiteralType(("b", "a")), {"enum": ["a", "b"]}),
    "limits": (
        types.StrType(min_length=1, max_length=9, pattern=r"^a\Z"),
        {"type": "string", "pattern": "^a$", "maxLength": 9, "minLength": 1},
    ),
    "a range": (types.IntType(le=9, ge=1), {"type": "integer", "minimum": 1, "maximum": 9}),
    "limits of a list": (
        types.ListType(types.AnyType(), max_length=2, min_length=1),
        {"type": "array", "items": {}, "minItems": 1, "maxItems": 2},
    ),
}


@pytest.mark.parametrize(("kind", "expected"), LIBRARY.values(), ids=LIBRARY)
def test_the_order_of_a_schema_does_not_depend_on_msgspec(
    kind: types.Type, expected: dict[str, Any]
) -> None:
    assert json.dumps(schemas._schema(kind, {})) == json.dumps(expected)


def test_the_constraints_written_are_those_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")
    used: set[tuple[type[types.Type], str]] = set()
    write = schemas._constraints

    def watched(kind: types.Type) -> dict[str, Any]:
        used.update((type(kind), name) for name in names if getattr(kind, name, None) is not None)
        return write(kind)

    monkeypatch.setattr(schemas, "_constraints", watched)
    for make in SCHEMAS.values():
        make()
    assert used == {(kind, name) for kind, named in schemas._CONSTRAINTS.items() for name in named}


def test_the_layout_of_a_schema_does_not_depend_on_msgspec() -> None:
    """msgspec 0.23 keeps the indentation of a docstring, 0.22 does not, and Python 3.13 removes it
    before either sees it."""
    made = [
        msgspec.defstruct("Made", [("zeta", int), ("alpha", int, 7)], namespace={"__doc__": said})
        for said in ("Two lines:\n    the second.", "\n  Two lines:\n  the second.\n")
    ]
    one, other = (schemas.struct_schema("made", type_) for type_ in made)
    assert one == other
    assert list(one) == ["$schema", "$id", "title", "$ref", "$defs"]
    assert json.dumps(one["$defs"]["Made"]) == json.dumps(
        {
            "title": "Made",
            "description": "Two lines: the second.",
            "type": "object",
            "properties": {
                "zeta": {"type": "integer"},
                "alpha": {"type": "integer", "default": 7},
            },
            "required": ["zeta"],
        }
    )


def test_msgspec_writes_no_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("schema", "schema_components"):
        monkeypatch.delattr(msgspec.json, name)
    for path, content in generate.pages().items():
        assert path.read_text(encoding="utf-8") == content


def valid(document: Any, schema: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(document))


GOOD = [
    manifest(),
    manifest(items=[ITEM | {"x-row": 1, "meta": {"a": 1}, "seed": None, "ssml": False}]),
    manifest(mode="run", priority="normal", defaults={"format": "opus", "sample_rate": 48000}),
    manifest(label={"profile": "none", "waiver": "test", "cue": "morse-end"}, labels={"a": "b"}),
]


@pytest.mark.parametrize("document", GOOD)
def test_accepted_manifests_are_valid_in_the_schema(document: dict[str, Any]) -> None:
    assert not resolve.parse_job(encode(document)).errors
    assert valid(document, schemas.job_schema())


# Errors that a schema cannot express: they depend on another field, a limit or the bucket.
NOT_EXPRESSIBLE = {
    "two items with one id",
    "two ids that differ by case",
    "the id of a bad item repeated",
    "an undefined default voice",
    "a reference on the web",
    "a consent record outside the bucket",
    "a transcript with control characters",
    "a lone surrogate in a label",
    "a lone surrogate in the waiver",
    "no label and no waiver",
    "a number of 5,000 digits",
    "17 levels",
    "a wait of a fraction",
    "an unknown field that needs escapes",
}


CHANGES = {name: changes for name, (changes, _, _) in FIELDS.items()}
CHANGES |= {name: changes for name, (changes, _) in UNSUPPORTED.items()}


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in NOT_EXPRESSIBLE])
def test_refused_manifests_are_invalid_in_the_schema(name: str) -> None:
    assert not valid(manifest(**CHANGES[name]), schemas.job_schema())


CONTEXT = ("TEXT_", "VOICE_UNKNOWN", "NUMBER_RANGE", "JSON_TOO_DEEP")
OTHERS = {
    "a seed with a fraction",  # 1.0 is an integer to JSON Schema
    "a rate that Opus does not support",
    "meta of 5 KiB",
    "an id with a newline",  # this validator runs patterns in Python, where $ accepts a newline
}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (_, code, _) in ITEMS.items()
        if not code.startswith(CONTEXT) and name not in OTHERS
    ],
)
def test_a_refused_item_is_invalid_in_the_schema(name: str) -> None:
    assert not valid(manifest(items=[ITEM | ITEMS[name][0]]), schemas.job_schema())


@pytest.mark.parametrize("document", [FULL, rejected()], ids=["partial", "rejected"])
def test_results_and_their_events_are_valid(document: result.Result) -> None:
    assert valid(json.loads(canonical.dump(document)), schemas.result_schema())
    assert valid(json.loads(outgoing.job_event(document)), outgoing.schema())


def test_the_schema_of_the_data_of_an_event_is_found_by_its_uri() -> None:
    event = json.loads(outgoing.job_event(FULL))
    document, _, pointer = event["dataschema"].partition("#")
    schema = outgoing.schema()
    assert schema["$id"] == document
    part: Any = schema
    for name in pointer.split("/")[1:]:
        part = part[name]
    assert valid(event["data"], part | {"$defs": schema["$defs"]})


def test_the_page_of_errors_names_every_code_once() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z_0-9]+)` \|", page, flags=re.MULTILINE)
    tables = (errors.REFUSED, errors.FAILED, errors.MISCONFIGURED, errors.UNAVAILABLE)
    assert listed == [code for table in (*tables, errors.NOTICES) for code in table]


EXAMPLES = re.findall(
    r"```(json|jsonl)\n(.*?)```",
    (DOCS / "manifest.md").read_text(encoding="utf-8"),
    flags=re.DOTALL,
)


@pytest.mark.parametrize(("kind", "example"), EXAMPLES)
def test_examples_in_the_documentation_are_valid(kind: str, example: str) -> None:
    parsed = resolve.parse_job(example.encode(), lines=kind == "jsonl")
    assert parsed.items
    assert not parsed.errors


def test_every_field_is_documented() -> None:
    page = (DOCS / "manifest.md").read_text(encoding="utf-8")
    for name, definition in schemas.job_schema()["$defs"].items():
        for field in definition["properties"]:
            assert f"`{field}`" in page, f"{name}.{field}"


def test_the_sample_manifest_is_valid() -> None:
    """The tests above need a sample that is not refused for another reason."""
    assert VOICE["reference"] == resolve.parse_job(encode(manifest())).voices["alice"].reference
    with pytest.raises(Refused):
        resolve.parse_job(encode(manifest(voices={"alice": {}})))
