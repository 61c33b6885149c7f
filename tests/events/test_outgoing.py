"""Events: CloudEvents 1.0, the same bytes for the same result."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import msgspec
import pytest

from core.documents import canonical
from core.errors import Failed, Refused
from core.result import document
from core.result.item_result import Chapter, Problem
from core.storage.object_keys import event_key
from events import outgoing
from handlers.jobs import announce
from tests.support.results import FULL, GOOD, JOB, rejected
from tests.support.runtime import local_runtime


def test_the_event_of_a_job() -> None:
    event = json.loads(outgoing.job_event(FULL))
    assert event.pop("id")
    assert event == {
        "specversion": "1.0",
        "source": "/voicedrop/inbox",
        "type": "com.voicedrop.job.partial",
        "subject": "jobs/2026/书.manifest.json",
        "time": "2026-11-23T00:00:01.500Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:voicedrop:event:1#/$defs/JobData",
        "data": {
            "job_id": JOB,
            "status": "partial",
            "id": "book-42",
            "labels": {"team": "a"},
            "manifest_key": "jobs/2026/书.manifest.json",
            "manifest_sha256": "ab" * 32,
            "result_key": f"out/{JOB}/result.json",
            "totals": {
                "items": 2,
                "succeeded": 1,
                "failed": 1,
                "characters": 28,
                "audio_s": 1.25,
                "kept": 0,
            },
            "outputs": [f"out/{JOB}/hello.wav.sealed"],
            "chapters": [],
            "outputs_complete": True,
            "errors": {"ID_INVALID": 1},
            "error": "",
        },
    }


def test_the_example_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    example = page.partition("```json\n")[2].partition("```")[0]
    assert json.loads(example) == json.loads(outgoing.job_event(FULL))


def test_an_event_is_one_line() -> None:
    data = outgoing.job_event(FULL)
    assert data.endswith(b"}\n")
    assert data.count(b"\n") == 1


def test_the_same_result_gives_the_same_bytes() -> None:
    again = document.parse_result(canonical.dump(FULL))
    assert outgoing.job_event(again) == outgoing.job_event(FULL)


def test_different_results_have_different_ids() -> None:
    other = msgspec.structs.replace(FULL, finished="2026-11-23T00:00:01.501Z")
    ids = {json.loads(outgoing.job_event(r))["id"] for r in (FULL, other, rejected())}
    assert len(ids) == 3
    assert all(uuid.UUID(made).version == 5 for made in ids)


@pytest.mark.parametrize("status", ["succeeded", "partial", "failed", "rejected"])
def test_the_type_contains_the_status(status: document.Status) -> None:
    made = outgoing.job_event(msgspec.structs.replace(FULL, status=status))
    assert json.loads(made)["type"] == f"com.voicedrop.job.{status}"


def test_the_event_of_a_rejected_job_has_its_code() -> None:
    data = json.loads(outgoing.job_event(rejected()))["data"]
    assert (data["status"], data["error"], data["outputs"]) == ("rejected", "JSON_SYNTAX", [])


def test_the_event_of_a_big_job_fits_on_an_event_bus() -> None:
    """EventBridge takes 64 KiB."""
    failed = msgspec.structs.replace(
        GOOD, output=None, status="failed", error=Problem.from_error(Refused("TEXT_EMPTY"))
    )
    items = [GOOD] * 500 + [failed] * 9500
    assert GOOD.output
    output = msgspec.structs.replace(GOOD.output, key=f"out/{JOB}/chapters/{'c' * 64}.flac.sealed")
    chapters = [Chapter(id="c", status="succeeded", output=output)] * 200
    event = outgoing.job_event(msgspec.structs.replace(FULL, items=items, chapters=chapters))
    data = json.loads(event)["data"]
    assert len(event) < 64 * 1024
    assert (len(data["outputs"]), data["outputs_complete"]) == (outgoing.MAX_LISTED, False)
    assert data["errors"] == {"TEXT_EMPTY": 9500}


def test_joined_files_and_their_errors_are_listed() -> None:
    assert GOOD.output
    output = msgspec.structs.replace(GOOD.output, key=f"out/{JOB}/chapters/one.wav.sealed")
    chapters = [
        Chapter(id="one", status="succeeded", output=output),
        Chapter(id="two", status="failed", error=Problem.from_error(Failed("CHAPTER_EMPTY"))),
    ]
    event = outgoing.job_event(msgspec.structs.replace(FULL, items=[GOOD], chapters=chapters))
    data = json.loads(event)["data"]
    assert (data["chapters"], data["outputs_complete"]) == ([output.key], True)
    assert data["errors"] == {"CHAPTER_EMPTY": 1}
    many = msgspec.structs.replace(FULL, items=[], chapters=chapters[:1] * 101)
    assert not json.loads(outgoing.job_event(many))["data"]["outputs_complete"]


def test_a_slash_in_the_bucket_name_is_escaped() -> None:
    ref = msgspec.structs.replace(FULL.manifest, bucket="a/b c")
    made = outgoing.job_event(msgspec.structs.replace(FULL, manifest=ref))
    assert json.loads(made)["source"] == "/voicedrop/a%2Fb%20c"


def test_the_event_of_a_trace() -> None:
    report, time = b'{"trace":1}', "2026-11-22T00:00:00.000Z"
    found = outgoing.TraceData(trace_id="t", report_key="audit/t.json", marked=True, jobs=[JOB])
    made = outgoing.trace_event(report, bucket="inbox", clip="audit/a.mp3", time=time, data=found)
    event = json.loads(made)
    assert event["type"] == "com.voicedrop.trace.completed"
    assert event["dataschema"] == "urn:voicedrop:event:1#/$defs/TraceData"
    assert (event["subject"], event["data"]) == ("audit/a.mp3", msgspec.to_builtins(found))


def test_events_are_stored_by_day() -> None:
    assert event_key(JOB, FULL.finished) == f"events/dt=2026-11-23/{JOB}.json"


def test_an_event_is_published_once(tmp_path: Path) -> None:
    made = local_runtime(tmp_path)
    assert announce(FULL, made) is True
    assert announce(FULL, made) is False
    key = event_key(JOB, FULL.finished)
    assert made.results.get(key, limit=10**6).data == outgoing.job_event(FULL)
