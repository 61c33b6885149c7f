from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import soxr

import watermark
from core import pipeline
from core.audio import decoding, encoding, waveform
from core.consent import records
from core.crypto import sealing
from core.documents import signed
from core.errors import Misconfigured, Refused, Unavailable
from core.job import commit
from core.job import lease as claim
from core.job.runtime import Runtime, Step, Waiting
from core.label import aigc
from core.result.document import Result, parse_result
from core.storage.local import LocalStore
from core.storage.object_keys import LOG_QUEUE, pending_key, result_key
from core.storage.port import Body, Info
from core.voice import SpeechChunk, Voiceprint
from tests.support.changed import change_last_byte
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    consent_record,
    find_mark,
    local_runtime,
    put_job,
    run_job,
    voice_of,
)
from tests.support.stores import head

pytestmark = pytest.mark.usefixtures("memoised_audio")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def outputs(runtime: Runtime) -> list[str]:
    return [info.key for info in runtime.results.list("out/")]


def opened(runtime: Runtime, done: Result, index: int = 0) -> bytes:
    item = done.items[index]
    body = runtime.results.get(present(item.output).key, limit=10**8).data
    return sealing.open_sealed(body, present(item.envelope), runtime.keys.wrapping)


@pytest.mark.slow
def test_a_job_ends_in_sealed_marked_speech_and_a_signed_result(runtime: Runtime) -> None:
    done = run_job(put_job(runtime), runtime)
    assert done.status == "succeeded"
    speech = decoding.decode_trusted(opened(runtime, done))
    detected = watermark.detect(speech.samples, speech.rate, *runtime.keys.watermark.values())
    item = done.items[0]
    payload = present(detected.payload)
    assert f"{payload:08x}" == present(item.watermark).payload
    mark = present(find_mark(runtime, payload))
    assert (mark.job, mark.item) == (done.job_id, "hello")
    assert present(item.output).duration_s == pytest.approx(speech.seconds, abs=0.01)
    document = runtime.results.get(result_key(done.job_id), limit=10**6).data
    signed.verify(document, runtime.keys.verifying)
    assert parse_result(document) == done


@pytest.mark.slow
def test_the_result_states_what_was_used_and_never_the_name_or_the_text(runtime: Runtime) -> None:
    done = run_job(put_job(runtime, id="book", labels={"team": "a"}), runtime)
    voice = done.voices["alice"]
    assert voice.reference_sha256 == hashlib.sha256(REFERENCE.read_bytes()).hexdigest()
    assert (present(voice.consent).id, done.consent_policy) == ("alice-1", "required")
    assert voice.match["ge2e"].achieved == 0.7
    assert (done.id, done.labels, present(done.engine).name) == ("book", {"team": "a"}, "buzz")
    document = runtime.results.get(result_key(done.job_id), limit=10**6).data
    assert b"first words" not in document
    assert {"enrol", "prepare", "speak", "watermark", "verify", "seal"} <= set(done.stages)


@pytest.mark.slow
def test_a_repeated_job_returns_its_first_result_without_speaking_again(runtime: Runtime) -> None:
    key = put_job(runtime)
    first = run_job(key, runtime)
    assert run_job(key, runtime) == first
    assert len(voice_of(runtime).spoken) == 1


@pytest.mark.slow
def test_the_same_voice_is_enrolled_once_for_all_jobs(runtime: Runtime) -> None:
    run_job(put_job(runtime, name="one"), runtime)
    run_job(put_job(runtime, name="two"), runtime)
    assert len(voice_of(runtime).enrolled) == 1


def kept_voiceprints(runtime: Runtime) -> list[Info]:
    return [i for i in runtime.control.list("voices/") if i.key.endswith(".sealed")]


@pytest.mark.slow
def test_a_stored_voiceprint_that_was_changed_is_enrolled_again(runtime: Runtime) -> None:
    run_job(put_job(runtime, name="one"), runtime)
    (voiceprint,) = kept_voiceprints(runtime)
    stored = runtime.control.get(voiceprint.key, limit=10**6)
    damaged = change_last_byte(stored.data)
    runtime.control.put(voiceprint.key, damaged, metadata=stored.info.metadata)
    run_job(put_job(runtime, name="two"), runtime)
    assert len(voice_of(runtime).enrolled) == 2


@pytest.mark.slow
def test_a_stored_voiceprint_of_another_voice_is_not_used(runtime: Runtime) -> None:
    run_job(put_job(runtime, name="one"), runtime)
    (voiceprint,) = kept_voiceprints(runtime)
    stored = runtime.control.get(voiceprint.key, limit=10**6)
    context = sealing.Context(job="voiceprints", item="other", mt="application/msgpack")
    sealed = sealing.seal(b"other", context, runtime.keys.wrapping)
    runtime.control.put(
        voiceprint.key, sealed.body, metadata=sealing.envelope_metadata(sealed.envelope)
    )
    run_job(put_job(runtime, name="two"), runtime)
    assert len(voice_of(runtime).enrolled) == 2
    assert stored.data != runtime.control.get(voiceprint.key, limit=10**6).data


# --- items


def test_a_dry_run_names_what_is_left_out_as_the_run_does(runtime: Runtime) -> None:
    items = [
        {"id": "a", "text": "Привет means hello, as you can hear."},
        {"id": "b", "text": "Привет, как дела?"},
        {"id": "c", "text": "Add ½ cup; x ≤ 5."},
    ]
    found = []
    for mode in ("validate", "run"):
        done = run_job(put_job(runtime, name=mode, items=items, mode=mode), runtime)
        found.append(
            [
                (item.error.code if item.error else "", [notice.code for notice in item.notices])
                for item in done.items
            ]
        )
    dropped, mismatch = "TEXT_DROPPED_CHARS", "LANGUAGE_MISMATCH"
    assert found[0] == [("", [dropped]), ("TEXT_UNSPEAKABLE", [mismatch]), ("", [])]
    assert found[1] == found[0]


@pytest.mark.slow
def test_a_bad_item_fails_alone_and_the_order_is_kept(runtime: Runtime) -> None:
    items = [
        {"id": "a", "text": "This one is quite fine, thank you."},
        {"id": "b", "text": ""},
        {"id": "c", "text": "!silence"},
        {"id": "d", "text": "!bug"},
        {"id": "e", "text": "Tout va bien, merci beaucoup.", "language": "fr"},
        {"id": "f", "text": "!unspeakable"},
        {"id": "g", "text": "And this one is fine as well, as you hear."},
    ]
    done = run_job(put_job(runtime, items=items), runtime)
    assert done.status == "partial"
    codes = [(item.id, item.error.code if item.error else None) for item in done.items]
    assert codes == [
        ("a", None),
        ("b", "TEXT_EMPTY"),
        ("c", "OUTPUT_SILENT"),
        ("d", "INTERNAL"),
        ("e", "LANGUAGE_UNSUPPORTED"),
        ("f", "TEXT_UNSPEAKABLE"),
        ("g", None),
    ]
    assert (done.totals.succeeded, done.totals.failed) == (2, 5)
    assert len(outputs(runtime)) == 3


def test_a_job_without_any_good_item_fails(runtime: Runtime) -> None:
    done = run_job(put_job(runtime, items=[{"id": "a", "text": "!silence"}]), runtime)
    assert done.status == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "magic"), [("wav", b"RIFF"), ("flac", b"fLaC"), ("mp3", b"ID3"), ("opus", b"OggS")]
)
def test_every_container_carries_the_mark(runtime: Runtime, form: str, magic: bytes) -> None:
    items = [{"id": "x", "text": "A sentence that is long enough to carry it.", "format": form}]
    done = run_job(put_job(runtime, items=items), runtime)
    assert done.items[0].error is None
    assert opened(runtime, done).startswith(magic)
    assert f"out/{done.job_id}/x.{form}.sealed" in outputs(runtime)


@pytest.mark.slow
def test_sample_rate_speed_and_pause_are_applied(runtime: Runtime) -> None:
    text = "A sentence that is long enough to carry it. Another one is as long as that."
    items: list[dict[str, Any]] = [
        {"id": "plain", "text": text},
        {"id": "fast", "text": text, "speed": 1.5},
        {"id": "low", "text": text, "sample_rate": 16000, "pause_ms": 500},
    ]
    done = run_job(put_job(runtime, items=items), runtime)
    plain, fast, low = (present(item.output) for item in done.items)
    assert fast.duration_s == pytest.approx(plain.duration_s / 1.5, abs=0.002)
    assert low.sample_rate == 16000
    assert low.duration_s == pytest.approx(plain.duration_s + 0.5, abs=0.05)


@pytest.mark.slow
def test_the_aigc_label_is_in_the_file_and_in_the_result(runtime: Runtime) -> None:
    done = run_job(put_job(runtime, label={"cue": "morse-start"}), runtime)
    plain = run_job(put_job(runtime, name="quiet"), runtime)
    (detected,) = aigc.read_labels(opened(runtime, done))
    assert detected.label == "1"
    assert detected.content_producer == runtime.producer
    assert detected.produce_id == present(done.items[0].label).produce_id == f"{done.job_id}/hello"
    cued, quiet = (present(one.items[0].output).duration_s for one in (done, plain))
    assert cued - quiet == pytest.approx(1.32 + 0.36, abs=0.05)


@pytest.mark.slow
def test_a_waived_label_is_omitted_and_the_result_states_the_waiver(runtime: Runtime) -> None:
    waived = {"profile": "none", "waiver": "heard by the tests only"}
    done = run_job(put_job(runtime, label=waived), runtime)
    assert aigc.read_labels(opened(runtime, done)) == []
    assert present(done.items[0].label).waiver == "heard by the tests only"
    assert [n.code for n in done.items[0].notices] == ["LABEL_WAIVED"]


def test_meta_and_notices_are_in_the_result(runtime: Runtime) -> None:
    items = [{"id": "a", "text": "Fine 😀 text, long enough to say.", "meta": {"row": 17}}]
    (item,) = run_job(put_job(runtime, items=items), runtime).items
    assert item.meta == {"row": 17}
    assert [n.code for n in item.notices] == ["TEXT_DROPPED_CHARS"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["Yes", "A bit more", "One and two, three and four"])
def test_even_a_single_word_carries_a_readable_mark(runtime: Runtime, text: str) -> None:
    done = run_job(put_job(runtime, items=[{"id": "a", "text": text}]), runtime)
    assert done.items[0].error is None
    assert present(done.items[0].watermark).score >= watermark.DETECTION_THRESHOLD


def test_silence_from_the_engine_is_not_stored(runtime: Runtime) -> None:
    """Digital silence cannot carry a mark, so that verification fails."""
    done = run_job(put_job(runtime, items=[{"id": "a", "text": "!zeros"}]), runtime)
    assert present(done.items[0].error).code in ("WATERMARK_VERIFY_FAILED", "OUTPUT_SILENT")
    assert outputs(runtime) == [result_key(done.job_id)]


# --- voices and consent


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"ref_audio_sha256": ["0" * 64]}, "CONSENT_SCOPE", id="other-recording"),
        pytest.param(
            {"valid_until": datetime.now(UTC) - timedelta(days=1),
             "valid_from": datetime.now(UTC) - timedelta(days=9)},
            "CONSENT_EXPIRED",
            id="expired",
        ),
        pytest.param({"scope": records.Scope(languages=["zh"])}, "CONSENT_SCOPE", id="language"),
    ],
)  # fmt: skip
def test_a_consent_record_that_does_not_cover_the_use_refuses_the_voice(
    runtime: Runtime, change: dict[str, Any], code: str
) -> None:
    key = put_job(runtime)
    consent = consent_record(REFERENCE.read_bytes(), **change)
    runtime.inbox.put("consent/alice.json", records.format_consent(consent))
    done = run_job(key, runtime)
    assert present(done.voices["alice"].error).code == code
    assert present(done.items[0].error).code == code
    assert voice_of(runtime).enrolled == []


def test_a_reference_that_must_be_converted_needs_a_new_record(runtime: Runtime) -> None:
    done = run_job(put_job(runtime, reference=b"wvpk" + bytes(100)), runtime)
    error = present(done.voices["alice"].error)
    assert (error.code, error.pointer) == ("AUDIO_CODEC_UNSUPPORTED", "refs/alice.flac")
    assert error.message.endswith(f"OUTPUT.flac`. {records.NEW_RECORD}")


def test_a_language_outside_the_consent_fails_only_its_items(runtime: Runtime) -> None:
    items = [
        {"id": "en", "text": "This is allowed, the record says so."},
        {"id": "zh", "text": "这一句没有得到许可。", "language": "zh"},
    ]
    key = put_job(runtime, items=items)
    limited = consent_record(REFERENCE.read_bytes(), scope=records.Scope(languages=["en"]))
    runtime.inbox.put("consent/alice.json", records.format_consent(limited))
    done = run_job(key, runtime)
    assert [item.status for item in done.items] == ["succeeded", "failed"]
    assert present(done.items[1].error).code == "CONSENT_SCOPE"


def test_a_withdrawn_consent_refuses_the_voice_even_where_it_is_optional(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, consent="optional")
    key = put_job(runtime)
    runtime.inbox.put("consent/alice.json.revoked", b"")
    assert present(run_job(key, runtime).items[0].error).code == "CONSENT_REVOKED"


def test_a_named_but_missing_consent_record_refuses_the_voice_under_any_policy(
    tmp_path: Path,
) -> None:
    runtime = local_runtime(tmp_path, consent="optional")
    key = put_job(runtime)
    runtime.inbox.delete("consent/alice.json")
    assert present(run_job(key, runtime).items[0].error).code == "CONSENT_MISSING"


def test_an_oversized_consent_record_is_invalid(runtime: Runtime) -> None:
    key = put_job(runtime)
    runtime.inbox.put("consent/alice.json", b" " * (records.MAX_BYTES + 1))
    assert present(run_job(key, runtime).items[0].error).code == "CONSENT_INVALID"


VOICE = {"reference": "refs/alice.flac", "language": "en"}


def test_without_a_record_the_voice_is_refused(runtime: Runtime) -> None:
    done = run_job(put_job(runtime, voices={"alice": VOICE}), runtime)
    assert present(done.items[0].error).code == "CONSENT_MISSING"


def test_optional_consent_is_noticed_in_every_result(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, consent="optional")
    done = run_job(put_job(runtime, voices={"alice": VOICE}), runtime)
    assert (done.status, done.consent_policy) == ("succeeded", "optional")
    assert "CONSENT_OPTIONAL" in [n.code for n in done.voices["alice"].notices]


def test_a_pinned_reference_with_other_bytes_is_refused(runtime: Runtime) -> None:
    voice = VOICE | {"consent": "consent/alice.json", "sha256": "0" * 64}
    done = run_job(put_job(runtime, voices={"alice": voice}), runtime)
    error = present(done.items[0].error)
    assert error.code == "REF_HASH_MISMATCH"
    assert error.pointer == "/voices/alice/sha256"


def test_a_clone_is_refused_as_a_reference(runtime: Runtime) -> None:
    """Own output is refused as a reference, so that consent cannot be circumvented."""
    key = next(iter(runtime.keys.watermark.values()))
    speech = decoding.decode_trusted(REFERENCE.read_bytes())
    marked = watermark.embed(speech.samples, speech.rate, 7, key)
    data = encoding.encode(waveform.Audio(marked, speech.rate), "flac").data
    done = run_job(put_job(runtime, reference=data), runtime)
    assert present(done.items[0].error).code == "REF_IS_SYNTHETIC"


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.97, 1.02, 1.03, 1.05, 1.1])
def test_a_clone_at_another_speed_is_refused_as_a_reference(runtime: Runtime, speed: float) -> None:
    key = next(iter(runtime.keys.watermark.values()))
    speech = decoding.decode_trusted(REFERENCE.read_bytes())
    marked = watermark.embed(speech.samples, speech.rate, 7, key)
    played = soxr.resample(marked, speech.rate, speech.rate / speed)
    data = encoding.encode(waveform.Audio(played, speech.rate), "flac").data
    done = run_job(put_job(runtime, reference=data), runtime)
    assert present(done.items[0].error).code == "REF_IS_SYNTHETIC"


@pytest.mark.slow
def test_two_speakers_in_a_recording_are_noticed(runtime: Runtime) -> None:
    both = (REFERENCE, REFERENCE.with_name("ref_1688.flac"))
    parts = [decoding.decode_trusted(path.read_bytes()) for path in both]
    done = run_job(
        put_job(runtime, reference=encoding.encode(waveform.join(parts), "flac").data), runtime
    )
    notices = {notice.code: notice.pointer for notice in done.voices["alice"].notices}
    assert notices["AUDIO_MULTI_SPEAKER"] == "refs/alice.flac"
    assert done.status == "succeeded"


@pytest.mark.slow
@pytest.mark.parametrize(("transcript", "remarked"), [("SAID, he whispers", False), ("else", True)])
def test_a_transcript_of_other_words_is_noticed(
    tmp_path: Path, transcript: str, remarked: bool
) -> None:
    """This needs a recogniser."""
    runtime = local_runtime(tmp_path, transcribe=lambda recording, language: "said he whispers")
    voice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}
    key = put_job(runtime, voices={"alice": voice | {"transcript": transcript}})
    notices = {one.code: one.pointer for one in run_job(key, runtime).voices["alice"].notices}
    assert ("TRANSCRIPT_MISMATCH" in notices) == remarked
    assert notices.get("TRANSCRIPT_MISMATCH", "/voices/alice/transcript").endswith("/transcript")


def test_an_unusable_recording_fails_its_voice(runtime: Runtime) -> None:
    done = run_job(put_job(runtime, reference=b"<html>gone</html>"), runtime)
    assert (done.status, present(done.items[0].error).code) == ("failed", "AUDIO_NOT_AUDIO")


def test_a_reference_above_the_limit_is_refused_before_it_is_read(
    runtime: Runtime, tmp_path: Path
) -> None:
    key = put_job(runtime)
    with (tmp_path / "inbox/refs/alice.flac").open("r+b") as file:
        file.truncate(decoding.BYTES_LIMIT + 1)
    assert present(run_job(key, runtime).items[0].error).code == "AUDIO_TOO_LARGE"


def test_a_voice_that_no_item_uses_is_not_fetched(runtime: Runtime) -> None:
    voices = {"alice": VOICE | {"consent": "consent/alice.json"}, "bob": VOICE | {"reference": "b"}}
    items = [{"id": "a", "text": "Only Alice speaks in this one.", "voice": "alice"}]
    runtime.inbox.put("b", b"no audio")
    done = run_job(put_job(runtime, voices=voices, items=items), runtime)
    assert done.status == "succeeded"
    assert list(done.voices) == ["alice"]


# --- manifests


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "MANIFEST_EMPTY", id="empty"),
        pytest.param(b"{", "JSON_SYNTAX", id="syntax"),
        pytest.param(b'{"schema":"voicedrop/job/9"}', "SCHEMA_UNSUPPORTED", id="schema"),
    ],
)
def test_a_manifest_that_cannot_be_used_ends_in_a_rejected_result(
    runtime: Runtime, data: bytes, code: str
) -> None:
    runtime.inbox.put("jobs/x.manifest.json", data)
    done = run_job("jobs/x.manifest.json", runtime)
    assert (done.status, present(done.error).code) == ("rejected", code)
    assert commit.read_result(done.job_id, runtime) == done


def test_a_manifest_that_is_gone_is_not_retried(runtime: Runtime) -> None:
    with pytest.raises(Refused, match="MANIFEST_GONE"):
        run_job("jobs/x.manifest.json", runtime)


def test_a_manifest_that_is_too_large_is_rejected_unread(runtime: Runtime, tmp_path: Path) -> None:
    key = "jobs/x.manifest.json"
    runtime.inbox.put(key, b"")
    with (tmp_path / "inbox" / key).open("r+b") as file:
        file.truncate(33 * 1024 * 1024)
    done = run_job(key, runtime)
    assert present(done.error).code == "MANIFEST_TOO_LARGE"
    assert run_job(key, runtime) == done


def test_json_lines_are_read_as_such(runtime: Runtime) -> None:
    put_job(runtime)
    header = {
        "schema": "voicedrop/job/1",
        "voices": {"alice": VOICE | {"consent": "consent/alice.json"}},
    }
    lines = [header, {"id": "a", "text": "The first of two lines, long enough."}]
    data = "\n".join(json.dumps(line) for line in lines) + "\nnot json\n"
    runtime.inbox.put("jobs/b.manifest.jsonl", data.encode())
    done = run_job("jobs/b.manifest.jsonl", runtime)
    assert [item.status for item in done.items] == ["succeeded", "failed"]
    assert present(done.items[1].error).pointer.startswith("line 3")


# --- orders of arrival


def test_a_job_waits_for_its_reference_and_resumes_when_it_arrives(runtime: Runtime) -> None:
    key = put_job(runtime, wait_s=60)
    runtime.inbox.delete("refs/alice.flac")
    for _ in range(runtime.max_attempts + 2):  # waiting uses up no attempt
        outcome = pipeline.run(key, runtime)
        assert isinstance(outcome, Waiting)
        assert outcome.references == ["refs/alice.flac"]
    (marker,) = runtime.control.list(pending_key("refs/alice.flac"))
    assert json.loads(runtime.control.get(marker.key, limit=999).data)["manifest"] == key
    runtime.inbox.put("refs/alice.flac", REFERENCE.read_bytes())
    assert run_job(key, runtime).status == "succeeded"
    assert list(runtime.control.list("pending/")) == []


def test_after_its_deadline_a_missing_reference_fails_its_items(runtime: Runtime) -> None:
    key = put_job(runtime, wait_s=0)
    runtime.inbox.delete("refs/alice.flac")
    done = run_job(key, runtime)
    error = present(done.items[0].error)
    assert (done.status, error.code) == ("failed", "REF_NOT_FOUND")
    assert error.pointer == "/voices/alice/reference"


@pytest.mark.slow
def test_a_manifest_replaced_by_other_bytes_is_another_job(runtime: Runtime) -> None:
    first = run_job(put_job(runtime), runtime)
    second = run_job(put_job(runtime, id="again"), runtime)
    assert first.job_id != second.job_id
    assert commit.read_result(first.job_id, runtime) == first


# --- repeated, interrupted, contested


@pytest.mark.slow
def test_one_of_twenty_simultaneous_deliveries_speaks(
    tmp_path: Path,
) -> None:
    runtime = local_runtime(tmp_path, voice=BuzzVoice(seconds_each=0.3))
    key = put_job(runtime)
    start = threading.Barrier(20)

    def deliver(_: int) -> str:
        start.wait()
        try:
            return run_job(key, runtime).job_id
        except Unavailable as exc:
            return exc.code

    with ThreadPoolExecutor(20) as pool:
        seen = list(pool.map(deliver, range(20)))
    assert set(seen) <= {run_job(key, runtime).job_id, "JOB_BUSY"}
    assert len(voice_of(runtime).spoken) == 1
    assert len(outputs(runtime)) == 2


@pytest.mark.slow
def test_items_of_a_dead_worker_are_adopted_not_spoken_again(runtime: Runtime) -> None:
    items = [{"id": f"i{n}", "text": f"Sentence number {n} of this long job."} for n in range(3)]
    key = put_job(runtime, items=items)
    first = run_job(key, runtime)
    runtime.results.delete(result_key(first.job_id))
    runtime.results.delete(present(first.items[2].output).key)
    repeated = run_job(key, runtime)
    assert len(voice_of(runtime).spoken) == 3 + 1
    kept = [(item.output, item.envelope, item.watermark) for item in first.items[:2]]
    assert [(item.output, item.envelope, item.watermark) for item in repeated.items[:2]] == kept
    assert repeated.status == "succeeded"


@pytest.mark.slow
def test_an_item_adopted_from_another_engine_version_is_noticed(runtime: Runtime) -> None:
    key = put_job(runtime)
    first = run_job(key, runtime)
    runtime.results.delete(result_key(first.job_id))
    voice_of(runtime).fingerprint = "buzz/2"
    repeated = run_job(key, runtime)
    assert "ENGINE_CHANGED" in [n.code for n in repeated.items[0].notices]
    assert repeated.items[0].output == first.items[0].output


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stranger", "garbled", "moved", "damaged", "swapped"])
def test_an_output_that_we_did_not_write_is_never_adopted(runtime: Runtime, how: str) -> None:
    items = [{"id": "a", "text": "The first of the two, long enough."},
             {"id": "b", "text": "The second of the two, long enough."}]  # fmt: skip
    key = put_job(runtime, items=items)
    first = run_job(key, runtime)
    runtime.results.delete(result_key(first.job_id))
    a, b = (runtime.results.get(present(item.output).key, limit=10**8) for item in first.items)
    runtime.results.delete(a.info.key)
    data, metadata = {
        "stranger": (a.data, {}),
        "garbled": (a.data, {**a.info.metadata, "vc-record": "A"}),
        "moved": (b.data, b.info.metadata),
        "damaged": (change_last_byte(a.data), a.info.metadata),
        "swapped": (b.data, {**b.info.metadata, "vc-record": a.info.metadata["vc-record"]}),
    }[how]
    runtime.results.put(a.info.key, data, metadata=metadata)
    repeated = run_job(key, runtime)
    assert present(repeated.items[0].error).code == "OUTPUT_EXISTS"
    assert repeated.items[1].status == "succeeded"


@pytest.mark.slow
def test_a_hundred_sentences_and_a_long_waiver_fit_into_the_metadata(runtime: Runtime) -> None:
    waiver = "\1" * 500
    item = {"id": "a", "text": ". ".join(["Yes"] * 100), "subtitle": ["srt"]}
    key = put_job(runtime, items=[item], label={"profile": "none", "waiver": waiver})
    first = run_job(key, runtime)
    assert first.status == "succeeded"
    assert present(first.items[0].label).waiver == waiver
    assert len(first.items[0].sentences) == 100
    runtime.results.delete(result_key(first.job_id))
    (again,) = run_job(key, runtime).items
    assert (again.output, again.label) == (first.items[0].output, first.items[0].label)
    assert again.notices == first.items[0].notices


def test_a_forged_result_is_refused(runtime: Runtime) -> None:
    key = put_job(runtime)
    order = commit.read_manifest(key, runtime)
    runtime.results.put(result_key(order.job_id), b'{"status":"succeeded"}')
    with pytest.raises(Refused, match="SIGNATURE_INVALID"):
        run_job(key, runtime)


def test_a_result_of_another_job_is_replaced_by_the_own_one(runtime: Runtime) -> None:
    """Somebody who can write to the results bucket, but holds no key, copies a genuine result."""
    other = run_job(put_job(runtime, name="other"), runtime)
    key = put_job(
        runtime, name="mine", items=[{"id": "x", "text": "Quite other words than those."}]
    )
    place = result_key(commit.read_manifest(key, runtime).job_id)
    runtime.results.put(place, runtime.results.get(result_key(other.job_id), limit=10**6).data)
    done = run_job(key, runtime)
    assert (done.status, [item.id for item in done.items]) == ("succeeded", ["x"])
    stored = runtime.results.get(place, limit=10**6).data
    assert signed.read(stored, Result, runtime.keys.verifying) == done
    (leaf,) = (i for i in runtime.control.list(LOG_QUEUE) if i.key.endswith(done.job_id))
    queued = runtime.control.get(leaf.key, limit=10**4).data
    assert hashlib.sha256(stored).hexdigest() in queued.decode()


class Racing(BuzzVoice):
    """A voice during which another worker carries out the whole job."""

    race: Callable[[], None]

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        self.spoken.append("racing")
        yield from BuzzVoice().speak(text, voiceprint, language=language, speed=speed, seed=seed)
        self.race()


@pytest.mark.slow
def test_the_output_and_result_of_the_first_worker_to_finish_are_kept(
    tmp_path: Path,
) -> None:
    voice = Racing()
    slow = local_runtime(tmp_path, voice=voice, lease_seconds=0.3)
    key = put_job(slow)

    def race() -> None:
        # The second worker regards the lease as expired and appends the next record.
        lease = f"lease/{order.job_id}"
        appended = False
        while not appended:  # the slow worker may renew it meanwhile
            size = head(slow.control, lease).size
            forced = claim.LeaseRecord(
                name=order.job_id, position=size, worker="other", expires=0.0, attempt=1, done=0
            )
            line = forced.sign(slow.keys.signing)
            appended = slow.control.append(lease, line, position=size)
        fast = local_runtime(tmp_path, keys=slow.keys)
        winner.append(run_job(key, fast))
        time.sleep(1)  # the slow worker fails to renew meanwhile

    order = commit.read_manifest(key, slow)
    winner: list[Result] = []
    voice.race = race
    with pytest.raises(Unavailable, match="LEASE_LOST"):
        run_job(key, slow)
    assert run_job(key, slow) == winner[0]
    output = present(winner[0].items[0].output)
    stored = slow.results.get(output.key, limit=10**8).data
    assert hashlib.sha256(stored).hexdigest() == output.sealed_sha256


class Away(LocalStore):
    """A store in which writes under a prefix fail."""

    prefix = "\0"

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        if key.startswith(self.prefix):
            raise Unavailable("STORAGE_UNAVAILABLE", "injected", pointer=key)
        return super().put_once(key, data, metadata=metadata)


def test_attempts_without_progress_end_in_a_failed_result_and_a_dead_letter(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    results = Away(tmp_path / "results")
    results.prefix = "marks/"
    runtime = local_runtime(tmp_path, results=results, max_attempts=2)
    key = put_job(runtime)
    for _ in range(2):
        with pytest.raises(Unavailable, match="injected"):
            run_job(key, runtime)
    done = run_job(key, runtime)
    assert (done.status, present(done.error).code) == ("failed", "RETRIES_EXHAUSTED")
    data = runtime.control.get(f"dead/{done.job_id}.json", limit=10**6).data
    letter = signed.verify(data, runtime.keys.verifying)
    assert letter["error"]["code"] == "STORAGE_UNAVAILABLE"
    assert letter["manifest"]["key"] == key


@pytest.mark.slow
def test_a_misconfiguration_uses_up_no_attempt(tmp_path: Path) -> None:
    class Keyless(BuzzVoice):
        def enrol(self, reference: waveform.Audio, transcript: str, language: str) -> Voiceprint:
            raise Misconfigured("MODEL_MISSING")

    runtime = local_runtime(tmp_path, voice=Keyless(), max_attempts=1)
    key = put_job(runtime)
    for _ in range(3):
        with pytest.raises(Misconfigured, match="MODEL_MISSING"):
            run_job(key, runtime)
    corrected = local_runtime(tmp_path, max_attempts=1, keys=runtime.keys)
    assert run_job(key, corrected).status == "succeeded"


def test_a_job_that_kills_its_worker_is_counted_and_given_up(runtime: Runtime) -> None:
    """A killed worker leaves its lease, which is written before anything is decoded."""
    key = put_job(runtime)
    order = commit.read_manifest(key, runtime)
    for _ in range(runtime.max_attempts):
        claim.Lease.acquire(runtime.control, order.job_id, "killed", -1.0, runtime.keys)
    done = run_job(key, runtime)
    assert present(done.error).code == "RETRIES_EXHAUSTED"
    assert voice_of(runtime).enrolled == []


def test_stages_are_reported_while_the_job_runs(tmp_path: Path) -> None:
    steps: list[Step] = []
    runtime = local_runtime(tmp_path, observe=steps.append)
    run_job(put_job(runtime), runtime)
    begun = [s.stage for s in steps if s.seconds is None]
    assert begun.index("consent") < begun.index("prepare") < begun.index("enrol")
    assert (
        begun.index("watermark")
        < begun.index("verify")
        < begun.index("seal")
        < begun.index("store")
    )
    assert any(s.stage == "speak" and s.audio_seconds > 1 for s in steps)
