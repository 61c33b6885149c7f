"""A recording whose voice is kept is not decoded again, unless something new is asked about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import watermark
from core.consent.gate import Gate
from core.consent.records import ConsentClaim
from core.crypto import sealing, voice_key
from core.crypto.keys import KeyProvider
from core.crypto.sealing import Context
from core.documents import signed
from core.job import kept_voice
from core.job.kept_voice import Examination, KeptVoice
from core.job.runtime import Runtime
from core.result.document import Result
from core.speech import reference
from core.storage.object_keys import cached_key
from tests.support.present import present
from tests.support.recordings.cases import long_speech
from tests.support.recordings.files import pack
from tests.support.recordings.files import speech as reading
from tests.support.runtime import local_runtime, put_job, run_job, voice_of

pytestmark = pytest.mark.slow

QUIET = pack(
    reading().samples * np.float32(0.02 / np.abs(reading().samples).max()), container="FLAC"
)
WORDS = [{"id": "words", "text": "Some words."}]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def run(name: str, runtime: Runtime, **fields: object) -> tuple[Result, bool]:
    """Run a new job; return its result, and whether a recording was decoded for it."""
    before = seconds_spent_on_recordings()
    done = run_job(put_job(runtime, name=name, items=WORDS, **fields), runtime)  # type: ignore[arg-type]
    return done, seconds_spent_on_recordings() > before


def seconds_spent_on_recordings() -> float:
    """Return the processor time of all confined processes that have ended."""
    server = reference._sandbox._server
    if server is None:
        return 0.0
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[13:15]))


@dataclass(frozen=True)
class Place:
    """Where a voice is kept, and what opens it."""

    runtime: Runtime
    recording: str
    name: str

    @property
    def key(self) -> str:
        return cached_key(self.recording, self.name)

    @property
    def context(self) -> Context:
        return Context(job="voiceprints", item=self.name, mt="application/msgpack")

    @property
    def gate(self) -> Gate:
        claim = ConsentClaim("consent/alice.json", self.recording, "")
        return self.runtime.consents.open_gate(claim)

    def read(self) -> KeptVoice:
        return present(kept_voice.read(self.context, self.gate, self.runtime))

    def keep(self, examination: Examination) -> None:
        made = KeptVoice(self.read().voiceprint, examination)
        kept_voice.keep(made, self.context, self.gate, self.runtime)

    def open(self) -> bytes:
        stored = self.runtime.control.get(self.key, limit=10**6)
        envelope = sealing.envelope_from_metadata(stored.info.metadata)
        return sealing.open_sealed(stored.data, envelope, self.voice_key)

    def seal(self, data: bytes) -> None:
        sealed = sealing.seal(data, self.context, self.voice_key)
        metadata = sealing.envelope_metadata(sealed.envelope)
        self.runtime.control.put(self.key, sealed.body, metadata=metadata)

    @property
    def voice_key(self) -> KeyProvider:
        runtime = self.runtime
        found = voice_key.find_voice_key(self.recording, runtime.control, runtime.keys)
        return present(found).wrapping


def places(runtime: Runtime) -> list[Place]:
    keys = [i.key for i in runtime.control.list("voices/") if i.key.endswith(".sealed")]
    return [Place(runtime, *key.removesuffix(".sealed").split("/")[1:]) for key in keys]


def place(runtime: Runtime) -> Place:
    (only,) = places(runtime)
    return only


def test_a_known_recording_is_not_decoded_and_its_notices_are_the_same(runtime: Runtime) -> None:
    first, decoded = run("one", runtime, reference=QUIET)
    assert decoded
    again, decoded = run("two", runtime, reference=QUIET)
    assert not decoded
    assert [notice.code for notice in again.voices["alice"].notices] == ["LOW_LEVEL"]
    assert again.voices == first.voices
    assert len(voice_of(runtime).enrolled) == 1


def test_the_transcript_of_a_trimmed_recording_makes_no_other_voice(runtime: Runtime) -> None:
    data = pack(long_speech())
    run("one", runtime, reference=data)
    voice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}
    done, decoded = run("two", runtime, reference=data, voices={"alice": voice})
    assert (done.status, decoded, voice_of(runtime).enrolled) == ("succeeded", False, [""])


def test_another_transcript_is_another_voice(runtime: Runtime) -> None:
    run("one", runtime)
    voice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}
    _, decoded = run("two", runtime, voices={"alice": voice | {"transcript": "Other words."}})
    assert decoded
    assert voice_of(runtime).enrolled == ["what she says", "Other words."]


def test_consent_to_a_known_recording_is_asked_for(runtime: Runtime) -> None:
    run("one", runtime)
    runtime.inbox.put("consent/alice.json.revoked", b"")
    done, _ = run("two", runtime)
    assert present(done.voices["alice"].error).code == "CONSENT_REVOKED"


def test_the_digest_of_a_known_recording_is_compared(runtime: Runtime) -> None:
    run("one", runtime)
    voice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}
    done, _ = run("two", runtime, voices={"alice": voice | {"sha256": "0" * 64}})
    assert present(done.voices["alice"].error).code == "REF_HASH_MISMATCH"


def test_the_mark_of_a_new_key_is_searched_in_a_known_recording(runtime: Runtime) -> None:
    """The recording was marked with a key that this worker did not have when it met it first."""
    key = bytes(range(32))
    marked = watermark.embed(reading().samples, 16_000, 7, key)
    data = pack(np.asarray(marked, np.float32), container="FLAC")
    first, _ = run("one", runtime, reference=data)
    assert first.status == "succeeded"
    more = replace(
        runtime, keys=replace(runtime.keys, watermark={**runtime.keys.watermark, "k": key})
    )
    done, decoded = run("two", more, reference=data)
    assert (decoded, present(done.voices["alice"].error).code) == (True, "REF_IS_SYNTHETIC")


def test_a_key_that_was_removed_asks_nothing_new(runtime: Runtime) -> None:
    watermarks = {**runtime.keys.watermark, "old": bytes(range(32))}
    both = replace(runtime, keys=replace(runtime.keys, watermark=watermarks))
    run("one", both)
    assert not run("two", runtime)[1]


@pytest.mark.parametrize("change", [{"detector": "0 fast"}, {"extensions": ["wav"]}])
def test_another_detector_or_extension_asks_again_and_learns_nothing_again(
    runtime: Runtime, change: dict[str, object]
) -> None:
    run("one", runtime)
    examination = present(place(runtime).read().examination)
    asked = msgspec.structs.replace(examination.asked, **change)
    place(runtime).keep(msgspec.structs.replace(examination, asked=asked))
    assert run("two", runtime)[1]
    assert len(voice_of(runtime).enrolled) == 1
    assert not run("three", runtime)[1]


def test_words_are_compared_when_a_recogniser_is_there(runtime: Runtime) -> None:
    run("one", runtime)
    listening = replace(runtime, transcribe=lambda audio, language: "nothing like it")
    for name, decoded in (("two", True), ("three", False)):
        done, was_decoded = run(name, listening)
        codes = [notice.code for notice in done.voices["alice"].notices]
        assert (was_decoded, codes) == (decoded, ["TRANSCRIPT_MISMATCH"])
    assert not run("four", runtime)[1]


def unsigned(place: Place) -> bytes:
    """Earlier versions kept a voiceprint alone."""
    return place.read().voiceprint.dump()


def signed_for_another_voice(place: Place) -> bytes:
    other = replace(place, name="other")
    kept_voice.keep(place.read(), other.context, place.gate, place.runtime)
    return other.open()


def signed_for_another_voiceprint(place: Place) -> bytes:
    file = msgspec.msgpack.decode(place.open())
    return msgspec.msgpack.encode(file | {"data": b"another"})


def signed_by_somebody_else(place: Place) -> bytes:
    file = msgspec.msgpack.decode(place.open())
    document = msgspec.json.decode(file["examination"])
    forged = signed.sign(document, Ed25519PrivateKey.generate())
    return msgspec.msgpack.encode(file | {"examination": forged})


@pytest.mark.parametrize(
    ("forge", "enrolled"),
    [
        (unsigned, 1),
        (signed_for_another_voice, 2),
        (signed_for_another_voiceprint, 2),
        (signed_by_somebody_else, 2),
    ],
)
def test_only_an_examination_that_we_signed_for_this_voice_is_believed(
    runtime: Runtime, forge: Callable[[Place], bytes], enrolled: int
) -> None:
    """Each is sealed under the right key for the right place."""
    run("one", runtime)
    it = place(runtime)
    it.seal(forge(it))
    done, decoded = run("two", runtime)
    assert (done.status, decoded) == ("succeeded", True)
    assert len(voice_of(runtime).enrolled) == enrolled
    assert not run("three", runtime)[1]


def test_the_file_of_another_voice_is_not_believed(runtime: Runtime) -> None:
    run("one", runtime)
    first = place(runtime)
    run("two", runtime, reference=QUIET)
    (other,) = (one for one in places(runtime) if one != first)
    stored = runtime.control.get(other.key, limit=10**6)
    runtime.control.put(first.key, stored.data, metadata=stored.info.metadata)
    assert run("three", runtime)[1]
    assert len(voice_of(runtime).enrolled) == 3
