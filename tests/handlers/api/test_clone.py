"""POST /clone, and what becomes of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from openai import BadRequestError, OpenAI, UnprocessableEntityError

from core.documents import signed
from core.job.runtime import Runtime
from core.result.document import Result
from core.storage.object_keys import event_key, result_key
from tests.support.http_service import ADDRESS, CONSENT, RECORDING, Running, running_service
from tests.support.runtime import finish_job

WAIT = {"Prefer": "wait=60"}
AUDIO = {"Accept": "audio/wav"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(tmp_path_factory.mktemp("api")) as running:
        yield running


def manifest_of(api: Running, job: dict[str, Any]) -> dict[str, Any]:
    stored = api.runtime.inbox.get(job["manifest"], limit=1 << 20).data
    manifest: dict[str, Any] = json.loads(stored)
    return manifest


def read_signed(runtime: Runtime, job_id: str) -> Result:
    data = runtime.results.get(result_key(job_id), limit=1 << 20).data
    return signed.read(data, Result, runtime.keys.verifying)


@pytest.mark.slow
def test_a_form_becomes_a_job_like_any_other(api: Running) -> None:
    answer = api.clone(headers=WAIT)
    job = answer.json()
    assert (answer.status_code, job["status"]) == (200, "succeeded")
    assert answer.headers["location"] == f"/jobs/{job['job']}"
    voice = manifest_of(api, job)["voices"]["voice"]
    assert voice["reference"] == f"refs/{hashlib.sha256(RECORDING).hexdigest()}.flac"
    assert api.runtime.inbox.get(voice["consent"], limit=1 << 20).data == CONSENT
    result = read_signed(api.runtime, job["job"])
    assert json.loads(signed_bytes(api, job)) == job["result"]
    assert result.items[0].watermark
    assert result.items[0].label
    assert api.runtime.results.head(event_key(result.job_id, result.finished))


def signed_bytes(api: Running, job: dict[str, Any]) -> bytes:
    return api.runtime.results.get(job["result_key"], limit=1 << 20).data


def test_a_document_may_contain_files_or_name_keys_of_the_inbox(api: Running) -> None:
    document: dict[str, Any] = {
        "text": "The first words, twice.",
        "language": "en",
        "recording": {"base64": base64.b64encode(RECORDING).decode(), "name": "a.flac"},
        "consent": {"base64": base64.b64encode(CONSENT).decode()},
    }
    first = api.client.post("/clone", json=document)
    assert first.status_code == 202
    voice = manifest_of(api, first.json())["voices"]["voice"]
    document |= {"recording": voice["reference"], "consent": voice["consent"]}
    assert api.client.post("/clone", json=document).status_code == 202


def test_a_whole_manifest_gets_the_files_of_the_request(api: Running) -> None:
    manifest = {
        "schema": "voicedrop/job/1",
        "voices": {"her": {"language": "en"}},
        "items": [{"id": "a", "text": "One sentence."}, {"id": "b", "text": "And another."}],
    }
    files = {"recording": ("a.flac", RECORDING), "consent": ("a.json", CONSENT)}
    form = {"manifest": json.dumps(manifest), "voice": "her"}
    answer = api.client.post("/clone", data=form, files=files, headers=WAIT)
    assert (answer.status_code, answer.json()["done"]) == (200, 2)
    assert api.client.post("/clone", data={"text": "More.", "voice": "her"}).status_code == 202
    unknown = api.client.post("/clone", data=form | {"voice": "him"}, files=files)
    assert unknown.json()["code"] == "VOICE_UNKNOWN"


def test_audio_is_opened_for_whoever_asks_for_it(api: Running) -> None:
    answer = api.clone(headers={"Accept": "audio/wav"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert answer.content.startswith(b"RIFF")
    item = f"{answer.headers['location']}/items/speech"
    assert api.client.get(item, headers={"Accept": "audio/*"}).content == answer.content
    stated = api.client.get(item).json()["item"]["output"]
    assert stated["plain_sha256"] == hashlib.sha256(answer.content).hexdigest()


def test_a_voice_is_kept_under_its_name(api: Running) -> None:
    assert api.clone(voice="alice").status_code == 202
    answer = api.client.post("/clone", json={"text": "Once more.", "voice": "alice"}, headers=WAIT)
    assert answer.json()["status"] == "succeeded"


def test_the_official_client_of_openai_makes_it_speak(api: Running) -> None:
    assert api.clone(voice="alice").status_code == 202
    client = OpenAI(base_url=f"{ADDRESS}/v1", api_key="any", http_client=api.client, max_retries=0)
    begins: dict[Literal["mp3", "wav", "flac", "opus"], bytes]
    begins = {"mp3": b"ID3", "wav": b"RIFF", "flac": b"fLaC", "opus": b"OggS"}
    for form, first in begins.items():
        answer = client.audio.speech.create(
            model="tts-1", voice="alice", input="Spoken for a client.", response_format=form
        )
        assert answer.content.startswith(first)
    result = read_signed(api.runtime, answer.response.headers["x-voicedrop-job"])
    assert result.items[0].watermark
    with pytest.raises(BadRequestError) as refused:
        client.audio.speech.create(model="tts-1", voice="alice", input="a", response_format="pcm")
    assert "Use one of flac, mp3, opus, wav" in str(refused.value)
    with pytest.raises(UnprocessableEntityError) as unknown:
        client.audio.speech.create(model="tts-1", voice="nobody", input="Words.")
    assert unknown.value.code == "VOICE_UNKNOWN"


def test_a_clip_is_traced_to_its_job(api: Running) -> None:
    made = api.clone("A sentence that is long enough to be traced, twice.", headers=AUDIO)
    answer = api.client.post("/trace", files={"clip": ("leak.wav", made.content)}, headers=WAIT)
    report = answer.json()["report"]
    assert (answer.status_code, report["marked"]) == (200, True)
    assert f"/jobs/{report['findings'][0]['job']}" == made.headers["location"]
    assert api.client.get(answer.headers["location"]).json() == answer.json()
    raw = api.client.post("/trace", content=made.content, headers={"Content-Type": "audio/wav"})
    assert raw.json() == answer.json()
    for body in ({"content": b"", "headers": {"Content-Type": "audio/wav"}}, {"data": {"x": "y"}}):
        assert 400 <= api.client.post("/trace", **body).status_code < 500
    assert api.client.get("/traces/" + "0" * 32).status_code == 404


def test_voices_are_listed_with_their_withdrawal(idle: Running) -> None:
    for name in ("anna", "bert", "carl"):
        assert idle.clone(voice=name).status_code == 202
    first = idle.client.get("/voices", params={"limit": 2}).json()
    rest = idle.client.get("/voices", params={"after": first["next"]}).json()
    voices = [*first["voices"], *rest["voices"]]
    assert [voice["name"] for voice in voices] == ["anna", "bert", "carl"]
    assert not any(voice["withdrawn"] for voice in voices)
    idle.runtime.consents.withdraw(CONSENT, idle.runtime.results.now())
    assert all(voice["withdrawn"] for voice in idle.client.get("/voices").json()["voices"])


def test_an_idempotency_key_has_one_job(api: Running) -> None:
    key = {"Idempotency-Key": "order-17"}
    first, again = api.clone(headers=key), api.clone(headers=key)
    assert first.json()["job"] == again.json()["job"]
    other = api.clone("Other words.", headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert api.clone().json()["job"] != first.json()["job"]


def test_a_text_that_fails_is_an_answer_with_its_code(api: Running) -> None:
    answer = api.clone("!silence", headers={"Accept": "audio/wav"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "OUTPUT_SILENT"


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Running]:
    """Nothing is carried out."""
    with running_service(tmp_path, works=False) as running:
        yield running


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"text": ""}, "TEXT_EMPTY", "/items/0/text"),
        ({"language": "xx"}, "LANGUAGE_UNSUPPORTED", "/items/0/language"),
        ({"language": "english"}, "REQUEST_INVALID", "/language"),
        ({"format": "ogg"}, "REQUEST_INVALID", "/format"),
        ({"speed": "fast"}, "REQUEST_INVALID", "/speed"),
        ({"speed": "9"}, "REQUEST_INVALID", "/speed"),
        ({"colour": "red"}, "REQUEST_INVALID", "/colour"),
        ({"manifest": "{}"}, "REQUEST_INVALID", "/text"),
        ({"files": {"recording": ("a.wav", RECORDING)}}, "CONSENT_MISSING", "/voices/voice"),
        (
            {"files": {"recording": ("a.wav", b"x"), "consent": ("c", CONSENT)}},
            "CONSENT_SCOPE",
            "/voices/voice/consent",
        ),
        (
            {"files": {"recording": ("a.wav", RECORDING), "consent": ("c", b"{}")}},
            "CONSENT_INVALID",
            "/voices/voice/consent",
        ),
        ({"files": {"recording": ("a.wav", b"")}}, "AUDIO_EMPTY", "/recording"),
        ({"files": {"other": ("a.wav", b"x")}}, "REQUEST_INVALID", "/other"),
        ({"files": {}}, "REQUEST_INVALID", "/recording"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_stored(
    idle: Running, fields: dict[str, Any], code: str, pointer: str
) -> None:
    answer = idle.clone(**fields)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem.get("pointer", "")) == (code, pointer)
    assert (problem["status"], 400 <= answer.status_code < 500) == (answer.status_code, True)
    assert not list(idle.runtime.inbox.list(""))


def test_a_file_of_the_inbox_that_is_not_there_is_named(idle: Running) -> None:
    document = {"text": "Words.", "language": "en", "recording": "refs/a", "consent": "consent/a"}
    problem = idle.client.post("/clone", json=document).json()
    assert [one["code"] for one in problem["errors"]] == ["REF_NOT_FOUND", "REF_NOT_FOUND"]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b'{"text": "a", "text": "b"}', 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"[]", 400),
        ("application/json", b'{"recording": {"base64": "!"}}', 400),
        ("application/json", b'{"text": "\\ud800", "language": "en"}', 400),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n", 400),
        ("text/plain", b"hello", 415),
        ("", b"hello", 415),
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem(
    idle: Running, kind: str, body: bytes, status: int
) -> None:
    answer = idle.client.post("/clone", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_cancelling_ends_a_job_and_its_result_says_so(idle: Running) -> None:
    location = idle.clone().headers["location"]
    answer = idle.client.delete(location)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    assert idle.client.get(location).json()["status"] == "cancelling"
    result = finish_job(answer.json()["manifest"], idle.runtime)
    assert (result.status, result.error and result.error.code) == ("failed", "JOB_CANCELLED")
    assert idle.client.get(location).json()["error"] == "JOB_CANCELLED"
    again = idle.client.delete(location)
    assert (again.status_code, again.json()["code"]) == (409, "JOB_FINISHED")


def test_jobs_are_listed_by_page_the_latest_first(idle: Running) -> None:
    made = [idle.clone().json()["job"] for _ in range(5)]
    seen, before = [], ""
    while True:
        page = idle.client.get("/jobs", params={"limit": 2, "before": before}).json()
        seen += [job["job"] for job in page["jobs"]]
        if (before := page["next"]) is None:
            break
    assert seen == made[::-1]
    assert idle.client.get("/jobs", params={"limit": 101}).status_code == 400
    assert idle.client.get("/jobs/" + "0" * 32, headers=WAIT).status_code == 404
    assert idle.client.get("/jobs/x").status_code == 404
