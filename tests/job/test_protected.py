"""A protected voice is refused as a reference and withheld as speech, unless its owner is named.

The protected recording and another one of the same person are the beginning and the end of one clip
of six seconds, which share 1.2 s; a stranger is another clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from core.audio.waveform import Audio
from core.consent import protection, records
from core.consent.records import Subject
from core.crypto.keys import LocalKeys
from core.documents import signed
from core.errors import Misconfigured, Refused
from core.job import streamed
from core.job.runtime import Runtime
from core.result.document import Result
from core.speech import speaker
from core.speech.speaker import Speaker
from core.storage.object_keys import is_spoken_key, protection_key
from core.voice import SpeechChunk, Voiceprint
from handlers import sweep
from tests.support.listeners import Hearer, put_voice
from tests.support.present import present
from tests.support.runtime import (
    BuzzVoice,
    consent_record,
    create_keyring,
    local_runtime,
    put_job,
    run_job,
    with_voice,
)
from tests.support.speech import NAMES, RATE, cut_clip, load_clip

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("memoised_audio")]

PROTECTED, OTHER, STRANGER = cut_clip(0, 3.6), cut_clip(2.4, 6), cut_clip(0, 4, NAMES[1])
ID = hashlib.sha256(PROTECTED).hexdigest()
KEY = protection_key(ID)
OWNER = "Alice's agency"


@cache
def known() -> list[Speaker]:
    return speaker.describe_known(Audio(load_clip()[: round(3.6 * RATE)], RATE))


def protect(runtime: Runtime, recording: str = ID, owner: str = OWNER) -> None:
    protection.protect(
        recording, known(), runtime.control, runtime.keys, label="Alice", owner=owner
    )


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    made = local_runtime(tmp_path)
    protect(made)
    return made


def run(runtime: Runtime, reference: bytes = OTHER, name: str = "one", **consent: Any) -> Result:
    """Run a job with a consent record of these fields."""
    key = put_job(runtime, name=name, reference=reference, items=[{"id": "a", "text": "Hello."}])
    record = consent_record(reference, **consent)
    runtime.inbox.put("consent/alice.json", records.format_consent(record))
    return run_job(key, runtime)


def codes(done: Result) -> list[str]:
    """The error of the voice, or else its notices."""
    voice = done.voices["alice"]
    return [voice.error.code] if voice.error else [notice.code for notice in voice.notices]


def listed(runtime: Runtime) -> list[str]:
    """Everything that is stored of speech and voices."""
    stored = (*runtime.results.list("out/"), *runtime.results.list("marks/"))
    voices = runtime.control.list("voices/")
    return [i.key for i in (*stored, *voices) if not i.key.endswith("result.json")]


@pytest.mark.parametrize("reference", [PROTECTED, OTHER], ids=["same file", "another"])
def test_a_recording_of_a_protected_voice_is_refused_and_nothing_is_kept(
    runtime: Runtime, reference: bytes
) -> None:
    done = run(runtime, reference)
    error = present(done.items[0].error)
    assert (done.status, error.code, error.retryable) == ("failed", "VOICE_PROTECTED", False)
    assert ID[:8] in error.message
    assert OWNER not in error.message
    assert listed(runtime) == []


def test_a_dry_run_says_so(runtime: Runtime) -> None:
    key = put_job(runtime, reference=OTHER, mode="validate")
    assert codes(run_job(key, runtime)) == ["VOICE_PROTECTED"]


def test_another_speaker_is_accepted(runtime: Runtime) -> None:
    done = run(runtime, STRANGER)
    assert (done.status, codes(done)) == ("succeeded", [])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"protection_owner": OWNER}, ["PROTECTION_WAIVED"], id="owner"),
        pytest.param({"protection_owner": "Bob"}, ["VOICE_PROTECTED"], id="another owner"),
        pytest.param({"protection_owner": "Alice"}, ["VOICE_PROTECTED"], id="label"),
        pytest.param({"subject": Subject(name=OWNER)}, ["VOICE_PROTECTED"], id="subject"),
        pytest.param({"controller": OWNER, "created_by": OWNER}, ["VOICE_PROTECTED"], id="others"),
    ],
)
def test_only_a_record_that_names_the_owner_of_the_protection_admits_it(
    runtime: Runtime, fields: dict[str, Any], expected: list[str]
) -> None:
    assert codes(run(runtime, **fields)) == expected


def test_without_a_record_a_protected_voice_is_refused_under_every_policy(
    runtime: Runtime,
) -> None:
    voices = {"alice": {"reference": "refs/alice.flac", "language": "en"}}
    key = put_job(runtime, reference=OTHER, voices=voices)
    assert codes(run_job(key, replace(runtime, consent="optional"))) == ["VOICE_PROTECTED"]


def test_a_voice_with_two_owners_needs_both(runtime: Runtime) -> None:
    protect(runtime, "f" * 64, "somebody else")
    assert codes(run(runtime, protection_owner=OWNER)) == ["VOICE_PROTECTED"]


def test_further_recordings_of_a_voice_are_compared(runtime: Runtime) -> None:
    runtime.inbox.put("refs/second.flac", OTHER)
    voice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}
    voices = {"alice": voice | {"aux": ["refs/second.flac"]}}
    key = put_job(runtime, reference=STRANGER, voices=voices, mode="validate")
    digests = [hashlib.sha256(one).hexdigest() for one in (STRANGER, OTHER)]
    record = consent_record(STRANGER, ref_audio_sha256=digests)
    runtime.inbox.put("consent/alice.json", records.format_consent(record))
    error = present(run_job(key, runtime).voices["alice"].error)
    assert (error.code, "refs/second.flac" in error.message) == ("VOICE_PROTECTED", True)


@dataclass
class Parrot(BuzzVoice):
    """Whatever the text, it plays these seconds of a clip."""

    start: float = 2.4
    end: float = 6.0

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        return Voiceprint(fingerprint=self.fingerprint, data=b"parrot")

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        samples = load_clip()[round(self.start * RATE) : round(self.end * RATE)]
        yield SpeechChunk(samples, RATE, text)


def test_speech_in_a_protected_voice_is_withheld_and_not_stored(runtime: Runtime) -> None:
    """The reference is a stranger's, so that the output alone gives it away. What is kept of speech
    that was admitted is withheld too (the second voice would say something else)."""
    keeping = with_voice(runtime, Parrot(), speech_cache="bucket")
    done = run(keeping, STRANGER)
    error = present(done.items[0].error)
    assert (done.status, codes(done)) == ("failed", [])
    assert (error.code, error.pointer, error.retryable) == ("VOICE_PROTECTED", "/items/0", False)
    assert all(key.startswith("voices/") for key in listed(runtime))
    assert not any(map(is_spoken_key, listed(runtime)))
    admitted = run(keeping, STRANGER, "two", protection_owner=OWNER)
    assert (admitted.status, admitted.items[0].cached) == ("succeeded", False)
    kept = run(with_voice(keeping, BuzzVoice()), STRANGER, "three")
    assert present(kept.items[0].error).code == "VOICE_PROTECTED"


def test_speech_in_a_protected_voice_is_not_heard(runtime: Runtime) -> None:
    speaking, hearer = with_voice(runtime, Parrot(rate=RATE)), Hearer()
    manifest = put_voice(runtime, reference=STRANGER)
    done = streamed.speak("jobs/live.manifest.json", manifest, hearer, speaking)
    assert present(done.items[0].error).code == "VOICE_PROTECTED"
    assert (hearer.start, done.items[0].streamed) == (None, None)
    assert all(key.startswith("voices/") for key in listed(runtime))


def test_a_record_that_names_the_owner_no_longer_admits_no_more_items(runtime: Runtime) -> None:
    """The record is replaced while the second item is spoken, which does not sound like anybody."""

    @dataclass
    class Replaces(BuzzVoice):
        def speak(self, text: str, voiceprint: Voiceprint, **how: Any) -> Iterator[SpeechChunk]:
            if text == "second":
                record = records.format_consent(consent_record(OTHER))
                runtime.inbox.put("consent/alice.json", record)
            return super().speak(text, voiceprint, **how)

    items = [{"id": name, "text": name} for name in ("first", "second")]
    key = put_job(runtime, reference=OTHER, items=items)
    record = consent_record(OTHER, protection_owner=OWNER)
    runtime.inbox.put("consent/alice.json", records.format_consent(record))
    done = run_job(key, with_voice(runtime, Replaces()))
    found = [item.error.code if item.error else "" for item in done.items]
    assert found == ["", "VOICE_PROTECTED"]


def test_a_chapter_with_an_item_that_is_withheld_is_made_of_the_others(runtime: Runtime) -> None:
    items = [{"id": name, "text": name, "chapter": "c"} for name in ("buzz", "parrot")]

    @dataclass
    class Sometimes(Parrot):
        def speak(self, text: str, voiceprint: Voiceprint, **how: Any) -> Iterator[SpeechChunk]:
            if text == "parrot":
                return super().speak(text, voiceprint, **how)
            return BuzzVoice().speak(text, voiceprint, **how)

    joined = {"concatenate": "chapters"}
    key = put_job(runtime, reference=STRANGER, items=items, output=joined)
    done = run_job(key, with_voice(runtime, Sometimes()))
    assert [item.status for item in done.items] == ["succeeded", "failed"]
    assert done.status == "partial"


def test_a_known_recording_is_compared_again_when_protections_change(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    assert run(runtime).status == "succeeded"
    protect(runtime)
    assert codes(run(runtime, name="two")) == ["VOICE_PROTECTED"]
    assert codes(run(runtime, name="three", protection_owner=OWNER)) == ["PROTECTION_WAIVED"]
    assert codes(run(runtime, name="four")) == ["VOICE_PROTECTED"]
    runtime.control.delete(KEY)
    assert run(runtime, name="five").status == "succeeded"


def test_where_nothing_is_protected_no_encoder_is_loaded(tmp_path: Path) -> None:
    speaker.load_encoders.cache_clear()
    assert run(local_runtime(tmp_path)).status == "succeeded"
    assert speaker.load_encoders.cache_info().currsize == 0


def test_a_recording_is_protected_once_and_what_somebody_else_put_there_is_replaced(
    runtime: Runtime,
) -> None:
    with pytest.raises(Refused, match="FILE_EXISTS"):
        protect(runtime)
    runtime.control.put(KEY, b"{}")
    protect(runtime)
    assert [voice.owner for voice in runtime.protected_voices().voices] == [OWNER]


@pytest.mark.parametrize("owner", ["", "x" * 4001, "\ud800"])
def test_an_owner_that_no_record_could_name_is_refused(runtime: Runtime, owner: str) -> None:
    with pytest.raises(Refused, match="VALUE_RANGE"):
        protect(runtime, "f" * 64, owner)
    assert runtime.control.head(protection_key("f" * 64)) is None


def test_nothing_biometric_is_in_the_clear_and_nothing_is_left(runtime: Runtime) -> None:
    document = json.loads(runtime.control.get(KEY, limit=10**6).data)
    assert set(document) == {
        *("schema", "recording", "label", "owner", "created", "sealed", "envelope", "signature")
    }
    sealed = json.dumps(document["sealed"]).encode()
    for one in known():
        assert one.ge2e.tobytes()[:16] not in sealed
    stranger = replace(runtime.keys, wrapping=LocalKeys({"x": bytes(32)}))
    with pytest.raises(Misconfigured, match="KEY_DESTROYED"):
        protection.read_protected_voices(runtime.control, stranger)
    assert len(runtime.protected_voices().voices) == 1
    runtime.control.delete(KEY)
    assert runtime.protected_voices().voices == ()
    assert not protection._opened


def move(runtime: Runtime) -> None:
    data = runtime.control.get(KEY, limit=10**6).data
    runtime.control.put(protection_key("e" * 64), data)


def change(runtime: Runtime) -> None:
    document = json.loads(runtime.control.get(KEY, limit=10**6).data)
    runtime.control.put(protection_key("e" * 64), json.dumps(document | {"owner": "Bob"}).encode())


def sign_elsewhere(runtime: Runtime) -> None:
    document = json.loads(runtime.control.get(KEY, limit=10**6).data)
    other = create_keyring(Path(str(runtime.control._root)).parent / "others").signing  # type: ignore[attr-defined]
    forged = signed.sign(document | {"recording": "e" * 64}, other)
    runtime.control.put(protection_key("e" * 64), forged)


@pytest.mark.parametrize("forge", [move, change, sign_elsewhere])
def test_a_document_that_we_did_not_sign_for_its_place_is_ignored_and_reported(
    runtime: Runtime, forge: Any
) -> None:
    forge(runtime)
    runtime.control.delete(KEY)
    assert run(runtime).status == "succeeded"
    protect(runtime)
    (finding,) = (one for one in sweep.run_sweep(runtime).findings if one.kind == "foreign")
    assert finding.keys == [protection_key("e" * 64)]
    assert finding.keys[0] in sweep.describe(finding)
