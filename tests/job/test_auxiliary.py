"""Further recordings of a voice: checked like the reference, and learned where the engine can."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import watermark
from core import pipeline
from core.audio.waveform import Audio
from core.batch import worker
from core.consent import records
from core.crypto.voice_key import open_voice_key
from core.job.runtime import Runtime, Waiting
from core.result.document import Result
from core.storage.local import LocalStore
from core.storage.object_keys import shards_prefix
from core.storage.port import Body
from core.voice import SpeechChunk, Voiceprint
from handlers.sweep import run_sweep
from tests.support.present import present
from tests.support.recordings.files import pack
from tests.support.recordings.files import speech as reading
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    consent_record,
    local_runtime,
    put_job,
    run_job,
    split_job,
    with_voice,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("memoised_audio")]

SECOND = pack(reading("ref_1688.flac").samples, container="FLAC")
ALICE = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}


@dataclass
class SeveralVoice(BuzzVoice):
    """Learns from several recordings."""

    heard: list[Sequence[Audio]] = field(default_factory=list)

    def enrol_several(
        self, recordings: Sequence[Audio], transcript: str, language: str
    ) -> Voiceprint:
        self.heard.append(recordings)
        return self.enrol(recordings[0], transcript, language)


@pytest.fixture
def voice() -> SeveralVoice:
    return SeveralVoice()


@pytest.fixture
def runtime(tmp_path: Path, voice: SeveralVoice) -> Runtime:
    return local_runtime(tmp_path, voice=voice)


def put(
    name: str,
    runtime: Runtime,
    second: bytes = SECOND,
    *,
    items: int = 1,
    covered: bool = True,
    **record: Any,
) -> str:
    """Put a job whose voice has a second recording; return the manifest's key."""
    texts = [{"id": f"words-{n}", "text": "Some words."} for n in range(items)]
    voices = {"alice": ALICE | {"aux": ["refs/second.flac"]}}
    key = put_job(runtime, name=name, items=texts, voices=voices)
    runtime.inbox.put("refs/second.flac", second)
    put_record(
        runtime,
        *([REFERENCE.read_bytes(), second] if covered else [REFERENCE.read_bytes()]),
        **record,
    )
    return key


def put_record(runtime: Runtime, *recordings: bytes, **fields: Any) -> None:
    digests = [hashlib.sha256(one).hexdigest() for one in recordings]
    record = consent_record(b"", ref_audio_sha256=digests, **fields)
    runtime.inbox.put("consent/alice.json", records.format_consent(record))


def run(name: str, runtime: Runtime, second: bytes = SECOND, *, covered: bool = True) -> Result:
    return run_job(put(name, runtime, second, covered=covered), runtime)


def test_a_voice_is_learned_from_all_its_recordings(runtime: Runtime, voice: SeveralVoice) -> None:
    done = run("one", runtime)
    (used,) = done.voices["alice"].aux
    assert (used.reference, used.reference_sha256) == (
        "refs/second.flac",
        hashlib.sha256(SECOND).hexdigest(),
    )
    assert [len(recordings) for recordings in voice.heard] == [2]
    assert done.status == "succeeded"


def test_neither_voiceprint_nor_speech_of_several_recordings_is_kept(
    runtime: Runtime, voice: SeveralVoice
) -> None:
    """They would outlast the withdrawal of all but one of them."""
    runtime = replace(runtime, speech_cache="bucket")
    recording = hashlib.sha256(REFERENCE.read_bytes()).hexdigest()
    open_voice_key(recording, (None, ""), runtime.control, runtime.keys)
    run("one", runtime)
    assert [item.cached for item in run("two", runtime).items] == [False]
    assert len(voice.heard) == 2
    assert not [info for info in runtime.control.list("voices/") if info.key.endswith(".sealed")]


def test_the_consent_record_must_cover_every_recording(runtime: Runtime) -> None:
    done = run("one", runtime, covered=False)
    error = present(done.voices["alice"].error)
    assert (error.code, error.pointer) == ("CONSENT_SCOPE", "/voices/alice/aux/0")
    assert "consent/alice.json does not cover refs/second.flac of `aux`" in error.message


def test_every_recording_is_examined(runtime: Runtime) -> None:
    key = next(iter(runtime.keys.watermark.values()))
    marked = watermark.embed(reading("ref_1688.flac").samples, 16_000, 7, key)
    error = present(run("one", runtime, pack(np.asarray(marked))).voices["alice"].error)
    assert (error.code, error.pointer) == ("REF_IS_SYNTHETIC", "refs/second.flac")
    quiet = reading("ref_1688.flac").samples * np.float32(0.02)
    done = run("two", runtime, pack(quiet, container="FLAC"))
    notices = [(one.code, one.pointer) for one in done.voices["alice"].notices]
    assert notices == [("LOW_LEVEL", "refs/second.flac")]


def test_an_engine_that_learns_from_one_recording_refuses_the_voice(runtime: Runtime) -> None:
    """It says so before it asks for consent to what it cannot use."""
    done = run("one", with_voice(runtime, BuzzVoice()), covered=False)
    error = present(done.voices["alice"].error)
    assert (error.code, error.pointer) == ("AUX_UNSUPPORTED", "/voices/alice/aux")


def test_a_job_waits_for_every_recording(runtime: Runtime) -> None:
    voices = {"alice": ALICE | {"aux": ["refs/late.flac"]}}
    key = put_job(runtime, voices=voices, wait_s=60)
    outcome = pipeline.run(key, runtime)
    assert isinstance(outcome, Waiting)
    assert outcome.references == ["refs/late.flac"]


def test_an_item_is_kept_only_if_no_recording_changed(runtime: Runtime) -> None:
    first = run("one", runtime)
    for second, kept in ((SECOND, 1), (pack(reading("ref_1688.flac").samples[:64_000]), 0)):
        key = f"jobs/again-{kept}.manifest.json"
        manifest = json.loads(runtime.inbox.get("jobs/one.manifest.json", limit=10**6).data)
        runtime.inbox.put("refs/second.flac", second)
        body = json.dumps(manifest | {"retry_of": first.job_id})
        runtime.inbox.put(key, body.encode())
        assert run_job(key, runtime).totals.kept == kept


def withdraw_second(runtime: Runtime) -> None:
    """Withdraw consent to the second recording alone, which another record covers too."""
    digest = hashlib.sha256(SECOND).hexdigest()
    record = consent_record(b"", id="second", ref_audio_sha256=[digest])
    runtime.consents.withdraw(records.format_consent(record), runtime.inbox.now())


def error_of(done: Result) -> str:
    return present(done.items[0].error).code


def sealed(runtime: Runtime) -> list[str]:
    return [info.key for info in runtime.results.list("out/") if info.key.endswith(".sealed")]


@pytest.mark.parametrize("moment", ["learned", "spoken", "stored"])
def test_consent_to_every_recording_is_read_again(tmp_path: Path, moment: str) -> None:
    @dataclass
    class Voice(SeveralVoice):
        def enrol_several(self, *args: Any) -> Voiceprint:
            if moment == "learned":
                withdraw_second(used)
            return super().enrol_several(*args)

        def speak(self, *args: Any, **fields: Any) -> Iterator[SpeechChunk]:
            yield from super().speak(*args, **fields)
            if moment == "spoken":
                withdraw_second(used)

    class Store(LocalStore):
        def put_once(self, key: str, data: Body, **fields: Any) -> bool:
            if moment == "stored" and key.endswith(".sealed"):
                withdraw_second(used)
            return super().put_once(key, data, **fields)

    used = local_runtime(tmp_path, voice=Voice())
    used = replace(used, results=Store(tmp_path / "results"))
    done = run("one", used)
    assert (done.status, error_of(done)) == ("failed", "CONSENT_REVOKED")
    assert sealed(used) == []


def test_an_output_without_result_is_removed_with_any_of_its_recordings(runtime: Runtime) -> None:
    """A worker that died left it."""
    done = run("one", runtime)
    runtime.results.delete(f"out/{done.job_id}/result.json")
    runtime.inbox.delete("jobs/one.manifest.json")
    withdraw_second(runtime)
    run_sweep(runtime, grace=-1)
    assert sealed(runtime) == []


@pytest.mark.parametrize("replaced", ["refs/second.flac", "refs/alice.flac"])
def test_what_a_withdrawn_recording_said_is_not_signed_for_another(
    runtime: Runtime, replaced: str
) -> None:
    """The first worker died, and the recording was replaced by one with consent."""
    done = run("one", runtime)
    runtime.results.delete(f"out/{done.job_id}/result.json")
    before = runtime.inbox.get(replaced, limit=10**7).data
    record = consent_record(before, id="other")
    runtime.consents.withdraw(records.format_consent(record), runtime.inbox.now())
    runtime.inbox.put(replaced, pack(reading("ref_367.flac").samples[:80_000], container="FLAC"))
    keys = ("refs/alice.flac", "refs/second.flac")
    put_record(runtime, *(runtime.inbox.get(key, limit=10**7).data for key in keys))
    assert error_of(run_job("jobs/one.manifest.json", runtime)) == "CONSENT_REVOKED"


def test_an_exhausted_shard_adopts_nothing_of_a_withdrawn_recording(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, voice=SeveralVoice(), shard_items=1, max_attempts=1)
    job = split_job(put("one", runtime, items=2), runtime)
    first = next(info.key for info in runtime.control.list(shards_prefix(job.job_id)))
    worker.make_shard(first, runtime)
    part = f"out/{job.job_id}/parts/00000.json"
    runtime.results.delete(part)
    withdraw_second(runtime)
    worker.make_shard(first, runtime)
    made = json.loads(runtime.results.get(part, limit=10**6).data)
    assert made["items"][0]["error"]["code"] == "CONSENT_REVOKED"
    assert sealed(runtime) == []
