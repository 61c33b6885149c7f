"""Further recordings of a voice: checked like the reference, and learned where the engine can."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import watermark
from core import pipeline
from core.audio.waveform import Audio
from core.consent import records
from core.job.runtime import Runtime, Waiting
from core.result.document import Result
from core.voice import Voiceprint
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
    with_voice,
)

pytestmark = pytest.mark.slow

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


def run(name: str, runtime: Runtime, second: bytes = SECOND, *, covered: bool = True) -> Result:
    """Run a job whose voice has a second recording."""
    items = [{"id": "words", "text": "Some words."}]
    key = put_job(
        runtime, name=name, items=items, voices={"alice": ALICE | {"aux": ["refs/second.flac"]}}
    )
    runtime.inbox.put("refs/second.flac", second)
    recordings = [REFERENCE.read_bytes(), *([second] if covered else [])]
    digests = [hashlib.sha256(one).hexdigest() for one in recordings]
    record = consent_record(b"", ref_audio_sha256=digests)
    runtime.inbox.put("consent/alice.json", records.format_consent(record))
    return run_job(key, runtime)


def test_a_voice_is_learned_from_all_its_recordings(runtime: Runtime, voice: SeveralVoice) -> None:
    done = run("one", runtime)
    (used,) = done.voices["alice"].aux
    assert (used.reference, used.reference_sha256) == (
        "refs/second.flac",
        hashlib.sha256(SECOND).hexdigest(),
    )
    assert [len(recordings) for recordings in voice.heard] == [2]
    assert done.status == "succeeded"


def test_a_voiceprint_of_several_recordings_is_not_kept(
    runtime: Runtime, voice: SeveralVoice
) -> None:
    """It would outlast the withdrawal of all but one of them."""
    run("one", runtime)
    run("two", runtime)
    assert len(voice.heard) == 2
    assert not [info for info in runtime.control.list("voices/") if info.key.endswith(".sealed")]


def test_the_consent_record_must_cover_every_recording(runtime: Runtime) -> None:
    done = run("one", runtime, covered=False)
    assert present(done.voices["alice"].error).code == "CONSENT_SCOPE"


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
    done = run("one", with_voice(runtime, BuzzVoice()))
    assert present(done.voices["alice"].error).code == "AUX_UNSUPPORTED"


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
