"""core.job.statement_check: a recorded statement is compared with the reference and its words.

The reference and the statement are the beginning and the end of one clip of six seconds, which
share 1.2 s; a stranger is another clip."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import watermark
from core.audio import encoding
from core.audio.waveform import Audio
from core.consent import records
from core.consent.records import StatementAudio, StatementCheck
from core.consent.statement import LANGUAGES, Statement
from core.job import statement_check
from core.job.runtime import Runtime
from core.result.document import Result
from tests.support.present import present
from tests.support.runtime import consent_record, local_runtime, put_job, run_job
from tests.support.speech import NAMES, RATE, cut_clip, load_clip

pytestmark = pytest.mark.usefixtures("memoised_audio")

SAID = "I agree that my voice is used for books."
KEY = "statements/alice.flac"


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path, hear_statement=lambda audio, language: SAID.lower())


REFERENCE, STATEMENT = cut_clip(0, 3.6), cut_clip(2.4, 6)


def run(runtime: Runtime, statement: bytes | None = STATEMENT, **changes: Any) -> Result:
    """Run a job with a record that names this statement; None: nothing is stored at its key."""
    key = put_job(runtime, reference=REFERENCE, items=[{"id": "a", "text": "Hello."}])
    digest = hashlib.sha256(statement or b"").hexdigest()
    fields = {
        "method": "recorded-statement",
        "statement_audio": StatementAudio(key=KEY, sha256=digest),
        "statement_text": SAID,
    }
    record = consent_record(REFERENCE, **(fields | changes))
    runtime.inbox.put("consent/alice.json", records.format_consent(record))
    if statement is not None:
        runtime.inbox.put(KEY, statement)
    return run_job(key, runtime)


def checked(done: Result) -> StatementCheck:
    return present(present(done.voices["alice"].consent).statement)


def notices(done: Result) -> set[str]:
    return {notice.code for notice in done.voices["alice"].notices}


def test_a_statement_of_the_same_voice_in_the_words_of_the_record_is_verified(
    runtime: Runtime,
) -> None:
    done = run(replace(runtime, consent="verified"))
    check = checked(done)
    assert (done.status, done.consent_policy) == ("succeeded", "verified")
    assert (check.verified, check.error_rate, check.reason) == (True, 0.0, "")
    assert check.similarity["ge2e"] > 0.755
    assert check.similarity["campplus"] > 0.580
    assert "STATEMENT_UNVERIFIED" not in notices(done)


@pytest.mark.parametrize(
    ("statement", "changes", "reason"),
    [
        pytest.param(cut_clip(0, 4, NAMES[1]), {}, "Another voice", id="a stranger"),
        pytest.param(STATEMENT, {"statement_text": "Quite other words."}, "differ", id="words"),
        pytest.param(STATEMENT, {"statement_text": ""}, "not compared", id="no text"),
        pytest.param(None, {}, "OBJECT_MISSING", id="missing"),
        pytest.param(b"RIFF", {}, "AUDIO_", id="no audio"),
        pytest.param(cut_clip(0, 1), {}, "AUDIO_TOO_SHORT", id="too short"),
        pytest.param(
            STATEMENT,
            {"statement_audio": StatementAudio(key=KEY, sha256="0" * 64)},
            "REF_HASH_MISMATCH",
            id="another file",
        ),
    ],
)
def test_why_a_statement_is_not_verified_is_in_the_result(
    runtime: Runtime, statement: bytes | None, changes: dict[str, Any], reason: str
) -> None:
    done = run(runtime, statement, **changes)
    check = checked(done)
    assert (done.status, check.verified) == ("succeeded", False)
    assert reason in check.reason
    assert "STATEMENT_UNVERIFIED" in notices(done)
    runtime = replace(runtime, consent="verified")
    key = "jobs/two.manifest.json"
    runtime.inbox.put(key, runtime.inbox.get("jobs/one.manifest.json", limit=10**6).data)
    error = present(run_job(key, runtime).items[0].error)
    assert (error.code, reason in error.message) == ("CONSENT_UNVERIFIED", True)


def test_all_the_speech_in_a_statement_must_be_in_the_voice(runtime: Runtime) -> None:
    """Somebody reads the statement and appends the recording of the person, or speaks beside it."""
    person, stranger = load_clip(), load_clip(NAMES[1])
    appended = np.concatenate([stranger * 0.1, np.zeros(RATE // 2, np.float32), person])
    beside = np.stack([stranger, stranger, person * 0.6, *[np.zeros_like(person)] * 3], axis=1)
    for samples in (appended, beside):
        statement = io.BytesIO()
        soundfile.write(statement, samples, RATE, format="FLAC")
        assert "Another voice" in checked(run(runtime, statement.getvalue())).reason


def test_what_was_not_compared_with_the_reference_is_not_heard(runtime: Runtime) -> None:
    """Words that are too quiet to count as speech are no words of the statement."""
    heard: list[Audio] = []

    def hear(audio: Audio, language: str) -> str:
        heard.append(audio)
        return SAID

    whispered = np.concatenate([load_clip(NAMES[1]) * 0.002, load_clip()])
    statement = encoding.encode(Audio(whispered, RATE), "flac").data
    assert checked(run(replace(runtime, hear_statement=hear), statement)).verified
    (audio,) = heard
    assert not audio.samples[: 5 * audio.rate].any()
    assert audio.samples[7 * audio.rate :].any()


def test_the_statement_must_be_in_the_voice_of_the_part_that_is_used(runtime: Runtime) -> None:
    """One channel of the recording is that of somebody who stated nothing."""
    both = io.BytesIO()
    sides = np.stack([load_clip(), load_clip(NAMES[1]) * 0.3], axis=1)
    soundfile.write(both, sides, RATE, format="FLAC")
    covered = [hashlib.sha256(both.getvalue()).hexdigest()]
    run(runtime, ref_audio_sha256=covered)
    runtime.inbox.put("refs/alice.flac", both.getvalue())
    manifest = json.loads(runtime.inbox.get("jobs/one.manifest.json", limit=10**6).data)
    manifest["mode"] = "validate"
    verified: list[bool] = []
    for channel in ("left", "right", "left"):
        manifest["voices"]["alice"]["channel"] = channel
        manifest["id"] = f"{channel}-{len(verified)}"
        runtime.inbox.put("jobs/two.manifest.json", json.dumps(manifest).encode())
        verified.append(checked(run_job("jobs/two.manifest.json", runtime)).verified)
    assert verified == [True, False, True]


def test_our_own_speech_is_no_statement(runtime: Runtime) -> None:
    key = next(iter(runtime.keys.watermark.values()))
    samples = watermark.embed(load_clip()[2 * RATE :], RATE, 7, key)
    done = run(runtime, encoding.encode(Audio(samples, RATE), "flac").data)
    assert "REF_IS_SYNTHETIC" in checked(done).reason


def test_without_a_recogniser_the_voice_alone_verifies_nothing(runtime: Runtime) -> None:
    check = checked(run(replace(runtime, hear_statement=None)))
    assert (check.verified, check.error_rate, len(check.similarity)) == (False, None, 2)


@pytest.mark.parametrize("method", ["public-domain", "own-voice"])
def test_a_record_without_a_recorded_statement_is_refused_where_one_is_demanded(
    runtime: Runtime, method: str
) -> None:
    done = run(replace(runtime, consent="verified"), method=method, statement_audio=None)
    assert present(done.items[0].error).code == "CONSENT_UNVERIFIED"


def test_the_outcome_is_kept_with_the_voice_and_believed_if_we_signed_it(
    runtime: Runtime, tmp_path: Path
) -> None:
    heard: list[str] = []

    def hear(audio: Audio, language: str) -> str:
        heard.append(language)
        return SAID

    runtime = replace(runtime, hear_statement=hear)
    run(runtime)
    (kept,) = [i.key for i in runtime.control.list("voices/") if "statement-" in i.key]
    again = "jobs/two.manifest.json"
    runtime.inbox.put(again, runtime.inbox.get("jobs/one.manifest.json", limit=10**6).data)
    assert checked(run_job(again, runtime)).verified
    assert heard == ["en"]
    data = runtime.control.get(kept, limit=10**6).data
    runtime.control.put(kept, data.replace(b'"error_rate":0.0', b'"error_rate":0.1'))
    again = "jobs/three.manifest.json"
    runtime.inbox.put(again, runtime.inbox.get("jobs/one.manifest.json", limit=10**6).data)
    assert checked(run_job(again, runtime)).error_rate == 0.0
    record = runtime.inbox.get("consent/alice.json", limit=10**6).data
    runtime.consents.withdraw(record, runtime.results.now())
    assert not list(runtime.control.list("voices/"))


def test_a_joined_file_needs_a_verified_statement_where_one_is_demanded(runtime: Runtime) -> None:
    first = run(runtime)
    runtime = replace(runtime, consent="verified")
    document = json.loads(runtime.inbox.get("jobs/one.manifest.json", limit=10**6).data)
    document |= {"retry_of": first.job_id, "output": {"concatenate": "book"}}

    def join(name: str) -> Result:
        runtime.inbox.put(f"jobs/{name}.manifest.json", json.dumps(document).encode())
        return run_job(f"jobs/{name}.manifest.json", runtime)

    done = join("kept")
    assert (done.status, done.totals.kept) == ("succeeded", 1)
    (outcome,) = [i.key for i in runtime.control.list("voices/") if "statement-" in i.key]
    runtime.control.delete(outcome)  # it is compared again
    assert join("compared").status == "succeeded"
    runtime.control.delete(outcome)
    runtime.inbox.put("refs/alice.flac", cut_clip(0, 4, NAMES[1]))
    document["voices"]["alice"]["sha256"] = hashlib.sha256(REFERENCE).hexdigest()
    error = present(join("replaced").chapters[0].error)
    assert (error.code, "REF_HASH_MISMATCH" in error.message) == ("CONSENT_UNVERIFIED", True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_language_of_a_statement_is_that_of_its_words(language: str) -> None:
    written = "zh" if language == "yue" else language  # the same characters
    said = Statement(
        name="Alice Müller", controller="Example", purposes=["books"], start=datetime.now(UTC)
    )
    assert statement_check.statement_language(said.write(language)) == written


@pytest.mark.parametrize(("name", "error"), [(NAMES[0], ""), (NAMES[1], "CONSENT_UNVERIFIED")])
def test_the_statement_must_be_in_the_voice_of_every_recording(
    runtime: Runtime, name: str, error: str
) -> None:
    """The voice would be learned from a recording of somebody who stated nothing."""
    second = cut_clip(1, 5, name)
    covered = [hashlib.sha256(data).hexdigest() for data in (REFERENCE, second)]
    run(runtime, ref_audio_sha256=covered)
    runtime.inbox.put("refs/second.flac", second)
    manifest = json.loads(runtime.inbox.get("jobs/one.manifest.json", limit=10**6).data)
    manifest["voices"]["alice"]["aux"] = ["refs/second.flac"]
    manifest["mode"] = "validate"
    for policy in ("verified", "required"):
        key = f"jobs/{policy}.manifest.json"
        runtime.inbox.put(key, json.dumps(manifest).encode())
        voice = run_job(key, replace(runtime, consent=policy)).voices["alice"]
        if policy == "verified":
            assert (voice.error.code if voice.error else "") == error
        else:
            remarks = [n.pointer for n in voice.notices if n.code == "STATEMENT_UNVERIFIED"]
            assert remarks == (["refs/second.flac"] if error else [])
