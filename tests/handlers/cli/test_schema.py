"""Every document that is written for others is valid in its published schema."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from core.job.erasure import erase_withdrawn
from core.text import lexicon
from handlers.cli.audit import AuditRequest, audit_results
from handlers.cli.open_result import open_results
from handlers.cli.schema import SCHEMAS
from handlers.cli.screen import Progress
from handlers.cli.watch import Watch
from handlers.jobs import integrate_log
from tests.e2e.recorded import ARCHIVES, unpack
from tests.support.runtime import local_runtime, local_settings, put_job

pytestmark = pytest.mark.slow
ITEMS: list[dict[str, Any]] = [
    {"id": "a", "text": "Some words of speech. And some more.", "subtitle": ["srt"]},
    {"id": "b", "text": "!bug", "meta": {"row": 7}},
    {"id": "c", "text": "The last words."},
]
Documents = dict[str, list[Any]]
"""Name of a schema -> the documents that it describes."""


def read_documents(folder: Path) -> Documents:
    """Return the JSON documents below a folder by the name of their schema."""
    found: Documents = defaultdict(list)
    for path in sorted(folder.rglob("*.json*")):
        is_public = ".meta" not in path.parts and "control" not in path.parts
        if is_public and path.suffix in (".json", ".jsonl"):  # subtitles are sealed
            for name, document in _read(path):
                found[name].append(document)
    return found


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".jsonl":
        name = "job-line" if path.name.endswith(".manifest.jsonl") else "error-line"
        for line in path.read_text().splitlines():
            yield name, json.loads(line)
        return
    document = json.loads(path.read_text())
    is_event = "specversion" in document
    yield "event" if is_event else document["schema"].split("/")[1], document


def invalid(documents: Documents) -> list[str]:
    validators = {name: jsonschema.Draft202012Validator(SCHEMAS[name]()) for name in documents}
    return [
        f"{name}: {error.message}"
        for name, listed in documents.items()
        for document in listed
        for error in validators[name].iter_errors(document)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    """What is in the folders after jobs of every kind, traces and an audit."""
    root = tmp_path_factory.mktemp("written")
    runtime, settings = local_runtime(root, shard_items=2), local_settings(root)
    put_job(runtime, name="cut", items=ITEMS)
    subtitles: dict[str, Any] = {"defaults": {"subtitle": ["srt", "vtt"], "lexicon": "lex.json"}}
    entry = lexicon.Entry(term="words", language="en", as_="syllables")
    runtime.inbox.put("lex.json", lexicon.dump([entry]))
    put_job(runtime, name="joined", items=ITEMS[2:], output={"concatenate": "book"}, **subtitles)
    put_job(runtime, name="dry", items=ITEMS[:2], mode="validate")
    put_job(runtime, name="refused", retry_of="0" * 32)
    manifest = json.loads(runtime.inbox.get("jobs/cut.manifest.json", limit=10**6).data)
    lines = [manifest | {"items": "jsonl"}, *manifest.pop("items")]
    data = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    runtime.inbox.put("jobs/lines.manifest.jsonl", data)
    watch(runtime)
    open_results(settings, ["joined.manifest.json"], root / "heard")
    shutil.copytree(root / "heard", root / "inbox/audit")
    runtime.inbox.put("audit/no-audio.wav", b"<html>")
    watch(runtime)
    integrate_log(runtime)
    record = (root / "inbox/consent/alice.json").read_bytes()
    runtime.consents.withdraw(record, runtime.results.now())
    erase_withdrawn(record, runtime)
    with Progress(quiet=True) as progress:
        audit_results(settings, AuditRequest(out=root / "report"), progress)
    return read_documents(root)


def watch(runtime: Any) -> None:
    looking = Watch(runtime, Progress(quiet=True))
    while looking.poll():
        pass


def test_documents_of_every_kind_are_written_and_valid(written: Documents) -> None:
    assert written.keys() == SCHEMAS.keys()
    assert invalid(written) == []
    types = {event["type"].removeprefix("com.voicedrop.") for event in written["event"]}
    assert types >= {"job.partial", "job.rejected", "job.validated", "trace.completed"}
    assert {trace["marked"] for trace in written["trace"]} == {True, None}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_document_with_a_field_of_the_wrong_type_is_invalid(
    written: Documents, name: str
) -> None:
    document = written[name][0]
    field = next(iter(document))
    assert invalid({name: [document | {field: ["wrong"]}]})


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_documents_of_earlier_releases_are_valid(archive: Path, tmp_path: Path) -> None:
    """Marks and reports of traces have another version since they are signed."""
    documents = read_documents(unpack(archive, tmp_path).root / "bucket/results")
    for name in ("mark", "trace"):
        assert documents.pop(name)[0]["schema"] == f"voicedrop/{name}/1"
    assert documents.keys() == {"result", "part", "error-line", "event"}
    assert invalid(documents) == []
