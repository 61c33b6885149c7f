from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import watermark
from core.audio import decoding, encoding
from core.audio.waveform import Audio
from core.errors import Refused, Unavailable
from core.job.runtime import Runtime
from core.result.document import parse_result
from core.storage.local import LocalStore
from core.storage.object_keys import result_key
from core.storage.port import Body
from core.trace import registry
from core.trace.trace import read_report
from handlers.oss import handle
from tests.support.events import notification, published_events
from tests.support.runtime import REFERENCE, BuzzVoice, local_runtime, put_job, voice_of


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


@pytest.mark.slow
def test_a_manifest_that_arrives_is_carried_out_and_announced(runtime: Runtime) -> None:
    answer = handle(notification(put_job(runtime)), runtime)
    (event,) = published_events(runtime)
    assert answer["done"][0]["status"] == "succeeded"
    assert (event["type"], event["subject"]) == (
        "com.voicedrop.job.succeeded",
        "jobs/one.manifest.json",
    )
    result = runtime.results.get(event["data"]["result_key"], limit=10**6).data
    assert parse_result(result).job_id == answer["done"][0]["job"]


@pytest.mark.slow
def test_the_same_notification_again_changes_nothing(runtime: Runtime) -> None:
    body = notification(put_job(runtime))
    handle(body, runtime)
    before = {info.key: info.etag for info in runtime.results.list("")}
    for _ in range(3):
        handle(body, runtime)
    assert {info.key: info.etag for info in runtime.results.list("")} == before
    assert len(voice_of(runtime).spoken) == 1


def test_an_event_lost_in_a_crash_is_written_by_the_next_delivery_with_the_same_bytes(
    runtime: Runtime,
) -> None:
    body = notification(put_job(runtime))
    handle(body, runtime)
    (info,) = runtime.results.list("events/")
    first = runtime.results.get(info.key, limit=10**6).data
    runtime.results.delete(info.key)
    handle(body, runtime)
    assert runtime.results.get(info.key, limit=10**6).data == first


def test_a_rejected_manifest_is_announced_too(runtime: Runtime) -> None:
    runtime.inbox.put("jobs/x.manifest.json", b"{}")
    handle(notification("jobs/x.manifest.json"), runtime)
    assert [e["type"] for e in published_events(runtime)] == ["com.voicedrop.job.rejected"]


def test_a_recording_resumes_the_jobs_that_wait_for_it(runtime: Runtime) -> None:
    key = put_job(runtime, wait_s=600)
    runtime.inbox.delete("refs/alice.flac")
    answer = handle(notification(key), runtime)
    assert answer["done"][0]["status"] == "waiting"
    assert answer["done"][0]["for"] == ["refs/alice.flac"]
    runtime.inbox.put("refs/alice.flac", REFERENCE.read_bytes())
    answer = handle(notification("refs/alice.flac"), runtime)
    assert answer["done"][0]["status"] == "succeeded"
    assert handle(notification("refs/alice.flac"), runtime)["done"] == []


def test_a_manifest_that_is_gone_does_not_stop_the_others(runtime: Runtime) -> None:
    answer = handle(notification("jobs/gone.manifest.json", put_job(runtime)), runtime)
    assert [d.get("error") or d["status"] for d in answer["done"]] == ["MANIFEST_GONE", "succeeded"]


def test_other_events_are_ignored_and_counted(runtime: Runtime) -> None:
    body = notification("jobs/a.manifest.json", name="ObjectRemoved:DeleteObject")
    assert handle(body, runtime) == {"done": [], "ignored": {"event-type": 1}}


def test_an_invalid_notification_is_refused(runtime: Runtime) -> None:
    with pytest.raises(Refused, match="EVENT_INVALID"):
        handle(b"hello", runtime)


def test_a_key_that_arrives_url_encoded_is_decoded(runtime: Runtime) -> None:
    manifest = runtime.inbox.get(put_job(runtime), limit=10**6).data
    runtime.inbox.put("jobs/x y.manifest.json", manifest)
    answer = handle(notification("jobs/x+y.manifest.json"), runtime)
    assert answer["done"][0]["status"] == "succeeded"


def test_a_literal_percent_key_is_not_decoded(runtime: Runtime) -> None:
    manifest = runtime.inbox.get(put_job(runtime), limit=10**6).data
    runtime.inbox.put("jobs/x%2fy.manifest.json", manifest)
    answer = handle(notification("jobs/x%2fy.manifest.json"), runtime)
    assert answer["done"][0]["status"] == "succeeded"


@pytest.mark.slow
def test_a_retryable_error_is_raised_after_the_other_records(tmp_path: Path) -> None:
    class Away(LocalStore):
        def put_once(
            self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None
        ) -> bool:
            if b"bad" in data and key.startswith("marks/"):
                raise Unavailable("STORAGE_UNAVAILABLE")
            return super().put_once(key, data, metadata=metadata)

    (tmp_path / "results").mkdir()
    runtime = local_runtime(tmp_path, results=Away(tmp_path / "results"))
    bad = put_job(runtime, name="a", items=[{"id": "bad", "text": "This one meets an outage."}])
    good = put_job(runtime, name="b")
    with pytest.raises(Unavailable):
        handle(notification(bad, good), runtime)
    assert [e["subject"] for e in published_events(runtime)] == [good]


@pytest.mark.slow
def test_a_clip_under_audit_is_traced_to_its_job(runtime: Runtime) -> None:
    payload = registry.register(runtime.results, runtime.keys, "job-7", "hello")
    speech = decoding.decode_trusted(REFERENCE.read_bytes())
    key = next(iter(runtime.keys.watermark.values()))
    marked = watermark.embed(speech.samples, speech.rate, payload, key)
    runtime.inbox.put("audit/leak.mp3", encoding.encode(Audio(marked, speech.rate), "mp3").data)
    answer = handle(notification("audit/leak.mp3"), runtime)["done"][0]
    report = json.loads(runtime.results.get(f"audit/{answer['trace']}.json", limit=10**6).data)
    assert (report["marked"], report["findings"][0]["job"]) == (True, "job-7")
    assert "item hello of job job-7" in report["meaning"]
    (event,) = published_events(runtime)
    assert event["type"] == "com.voicedrop.trace.completed"
    assert event["data"]["jobs"] == ["job-7"]
    # Who can write to the bucket, but holds no key, denies the finding.
    forged = json.dumps(report | {"marked": False, "findings": []}).encode()
    runtime.results.put(f"audit/{answer['trace']}.json", forged)
    (announced,) = runtime.results.list("events/")
    runtime.results.put(announced.key, b"{}")
    again = handle(notification("audit/leak.mp3"), runtime)["done"][0]
    assert (again["trace"], again["marked"]) == (answer["trace"], True)
    signed = runtime.results.get(f"audit/{answer['trace']}.json", limit=10**6).data
    assert read_report(signed, answer["trace"], runtime.keys.verifying)
    assert [e["data"] for e in published_events(runtime) if e] == [event["data"]]
    handle(notification("audit/leak.mp3"), runtime)
    assert runtime.results.get(f"audit/{answer['trace']}.json", limit=10**6).data == signed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "marked", "word"),
    [
        pytest.param(REFERENCE.read_bytes(), False, "was not found", id="unmarked"),
        pytest.param(b"<html></html>", None, "AUDIO_NOT_AUDIO", id="unreadable"),
    ],
)
def test_a_clip_without_a_mark_or_sound_gets_a_report(
    runtime: Runtime, data: bytes, marked: bool | None, word: str
) -> None:
    runtime.inbox.put("audit/clip.wav", data)
    answer = handle(notification("audit/clip.wav"), runtime)["done"][0]
    report = json.loads(runtime.results.get(f"audit/{answer['trace']}.json", limit=10**6).data)
    assert report["marked"] is marked
    assert word in report["meaning"]


def test_a_mark_unknown_to_this_bucket_is_reported_as_unknown(runtime: Runtime) -> None:
    speech = decoding.decode_trusted(REFERENCE.read_bytes())
    key = next(iter(runtime.keys.watermark.values()))
    marked = watermark.embed(speech.samples, speech.rate, 0xABCD, key)
    runtime.inbox.put("audit/c.flac", encoding.encode(Audio(marked, speech.rate), "flac").data)
    answer = handle(notification("audit/c.flac"), runtime)["done"][0]
    assert "0000abcd" in answer["meaning"]
    assert "unregistered payload" in answer["meaning"]


@pytest.mark.slow
def test_the_engine_is_not_loaded_for_a_finished_job(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    body = notification(put_job(runtime))
    job = handle(body, runtime)["done"][0]["job"]

    class Absent(BuzzVoice):
        @property
        def fingerprint(self) -> str:
            raise AssertionError("loaded for nothing")

        @fingerprint.setter
        def fingerprint(self, value: str) -> None:
            pass

    second = local_runtime(tmp_path, voice=Absent(), keys=runtime.keys)
    assert handle(body, second)["done"][0]["job"] == job
    assert runtime.results.head(result_key(job))
