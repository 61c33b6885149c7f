"""A withdrawn voice says nothing new by any road: another key, another record, `retry_of`, joining,
a shard, a worker that is speaking."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.batch import worker
from core.consent import records
from core.consent.records import ConsentClaim
from core.consent.withdrawal import find_withdrawals
from core.crypto import sealing
from core.crypto.voice_key import open_voice_key
from core.documents import signed
from core.errors import Misconfigured, Refused
from core.job import commit
from core.job.runtime import Runtime
from core.result.document import Result, read_items
from core.result.item_result import ItemResult
from core.storage.local import LocalStore
from core.storage.object_keys import LOG_QUEUE, WITHDRAWN, shards_prefix, withdrawal_key
from core.storage.port import Body, Object
from core.voice import SpeechChunk, Voiceprint
from handlers import oss, sweep
from handlers.jobs import integrate_log
from tests.support.events import notification
from tests.support.faults import cached_audio
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    consent_record,
    local_runtime,
    put_job,
    run_job,
    split_job,
    voice_of,
)

RECORD = "consent/alice.json"
ITEMS = [
    {"id": "a", "text": "The first sentence of it.", "format": "flac"},
    {"id": "b", "text": "And a second item.", "format": "flac"},
]
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(autouse=True, scope="module")
def _compute_audio_once() -> Iterator[None]:
    with cached_audio.memoised():
        yield


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def voices(consent: str | None = RECORD) -> dict[str, Any]:
    return {"alice": {"reference": "refs/alice.flac", "language": "en", "consent": consent}}


def put_record(runtime: Runtime, key: str, **changes: Any) -> bytes:
    data = records.format_consent(consent_record(REFERENCE.read_bytes(), **changes))
    runtime.inbox.put(key, data)
    return data


def withdraw(runtime: Runtime, key: str = RECORD) -> None:
    """Upload `<record>.revoked`, and deliver its notification."""
    runtime.inbox.put(f"{key}.revoked", b"")
    oss.handle(notification(f"{key}.revoked"), runtime)


def codes(items: list[ItemResult]) -> set[str]:
    return {item.error.code if item.error else "" for item in items}


def sealed(runtime: Runtime) -> list[str]:
    return [info.key for info in runtime.results.list("out/") if info.key.endswith(".sealed")]


def run_with(runtime: Runtime, consent: str | None, name: str = "two") -> Result:
    """Run another job with the recording under this record, whose keys stay as they are."""
    record = runtime.inbox.get(RECORD, limit=10**6).data
    key = put_job(runtime, name=name, items=ITEMS[:1], voices=voices(consent))
    runtime.inbox.put(RECORD, record)
    return run_job(key, runtime)


def test_the_same_record_under_another_key_is_withdrawn_too(runtime: Runtime) -> None:
    put_job(runtime)
    runtime.inbox.put("consent/copy.json", put_record(runtime, RECORD))
    withdraw(runtime)
    assert codes(run_with(runtime, "consent/copy.json").items) == {"CONSENT_REVOKED"}
    assert voice_of(runtime).spoken == []


def test_a_copy_is_withdrawn_although_nobody_noticed_the_withdrawal(runtime: Runtime) -> None:
    run_job(put_job(runtime, items=ITEMS[:1]), runtime)
    runtime.inbox.put("consent/copy.json", put_record(runtime, RECORD))
    runtime.inbox.put(f"{RECORD}.revoked", b"")
    assert codes(run_with(runtime, "consent/copy.json").items) == {"CONSENT_REVOKED"}
    assert kept(runtime) == []


def test_the_recording_is_withdrawn_under_every_earlier_record(runtime: Runtime) -> None:
    put_job(runtime)
    put_record(runtime, "consent/other.json", id="another-record")
    withdraw(runtime)
    assert codes(run_with(runtime, "consent/other.json").items) == {"CONSENT_REVOKED"}


def test_it_stays_withdrawn_when_everything_in_the_inbox_and_control_is_gone(
    runtime: Runtime, tmp_path: Path
) -> None:
    put_job(runtime)
    withdraw(runtime)
    for key in (RECORD, f"{RECORD}.revoked"):
        runtime.inbox.delete(key)
    runtime = replace(runtime, control=LocalStore(tmp_path / "new"))
    (tmp_path / "new").mkdir()
    put_record(runtime, RECORD, purposes=["something else"])
    assert codes(run_with(runtime, RECORD).items) == {"CONSENT_REVOKED"}


def test_only_a_record_valid_from_a_later_date_admits_the_voice_again(runtime: Runtime) -> None:
    put_job(runtime)
    withdraw(runtime)
    now = datetime.now(UTC)
    put_record(runtime, "consent/new.json", valid_from=now, id="new")
    assert run_with(runtime, "consent/new.json").status == "succeeded"
    withdraw(runtime, "consent/new.json")
    assert codes(run_with(runtime, "consent/new.json", "three").items) == {"CONSENT_REVOKED"}
    # The first record was withdrawn itself, so its date does not matter.
    assert codes(run_with(runtime, RECORD, "four").items) == {"CONSENT_REVOKED"}


def test_a_later_record_at_the_same_key_admits_the_voice_again(runtime: Runtime) -> None:
    put_job(runtime)
    withdraw(runtime)
    put_record(runtime, RECORD, valid_from=datetime.now(UTC), id="new")
    assert run_with(runtime, RECORD).status == "succeeded"


def test_a_record_can_be_withdrawn_before_it_begins(runtime: Runtime) -> None:
    put_job(runtime)
    put_at(runtime, RECORD, make_record(valid_from=TOMORROW), hour(0))
    withdraw(runtime)
    assert codes(run_with(runtime, RECORD).items) == {"CONSENT_REVOKED"}


def test_a_withdrawn_recording_is_refused_where_records_are_optional(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, consent="optional")
    put_job(runtime)
    withdraw(runtime)
    assert codes(run_with(runtime, None).items) == {"CONSENT_REVOKED"}


def test_a_sweep_notices_a_withdrawal_whose_notification_was_lost(runtime: Runtime) -> None:
    put_job(runtime, items=ITEMS[:1])
    runtime.inbox.put("elsewhere/copy.json", put_record(runtime, RECORD))
    runtime.inbox.put("elsewhere/copy.json.revoked", b"")
    swept = sweep.run_sweep(runtime, grace=0.0)
    assert [f.keys for f in swept.findings if f.kind == "withdrawn"] == [
        ["elsewhere/copy.json.revoked"]
    ]
    assert voice_of(runtime).spoken == []
    assert not [f for f in sweep.run_sweep(runtime).findings if f.kind == "withdrawn"]


@pytest.mark.parametrize("joined", ["none", "book"])
def test_an_output_is_not_kept_for_a_later_job(runtime: Runtime, joined: str) -> None:
    first = run_job(put_job(runtime, items=ITEMS), runtime)
    withdraw(runtime)
    before = sealed(runtime)
    key = put_job(
        runtime, name="two", items=ITEMS, retry_of=first.job_id, output={"concatenate": joined}
    )
    done = run_job(key, runtime)
    assert (done.status, codes(done.items)) == ("failed", {"CONSENT_REVOKED"})
    assert sealed(runtime) == before


def test_an_output_that_was_kept_before_is_not_kept_again(runtime: Runtime) -> None:
    """The second job made nothing, so that only the first one states the recording."""
    first = run_job(put_job(runtime, items=ITEMS), runtime)
    second = run_job(put_job(runtime, name="two", items=ITEMS, retry_of=first.job_id), runtime)
    assert second.totals.kept == 2
    withdraw(runtime)
    runtime.inbox.delete("refs/alice.flac")
    key = put_job(runtime, name="three", items=ITEMS, retry_of=second.job_id)
    assert codes(run_job(key, runtime).items) == {"CONSENT_REVOKED"}


@dataclass
class InterruptedVoice(BuzzVoice):
    """Something happens while the item with this text is spoken."""

    text: str = ""
    then: Callable[[], object] = lambda: None

    def speak(self, text: str, voiceprint: Voiceprint, **fields: Any) -> Iterator[SpeechChunk]:
        yield from super().speak(text, voiceprint, **fields)
        if text == self.text:
            self.then()


def test_what_was_being_spoken_is_not_stored(tmp_path: Path) -> None:
    voice = InterruptedVoice(text=ITEMS[1]["text"])
    runtime = local_runtime(tmp_path, voice=voice)
    voice.then = lambda: runtime.inbox.put(f"{RECORD}.revoked", b"")
    done = run_job(put_job(runtime, items=ITEMS), runtime)
    assert (done.status, codes(done.items)) == ("failed", {"CONSENT_REVOKED"})
    assert sealed(runtime) == []
    removed = [n.pointer for item in done.items for n in item.notices if n.code == "OUTPUT_REMOVED"]
    assert removed == [f"out/{done.job_id}/a.flac.sealed"]


def test_a_record_that_is_replaced_while_the_voice_speaks_counts(tmp_path: Path) -> None:
    voice = InterruptedVoice(text=ITEMS[0]["text"])
    runtime = local_runtime(tmp_path, voice=voice)
    voice.then = lambda: put_record(runtime, RECORD, scope=records.Scope(languages=["zh"]))
    done = run_job(put_job(runtime, items=ITEMS[:1]), runtime)
    assert codes(done.items) == {"CONSENT_SCOPE"}


class InterruptedStore(LocalStore):
    """Something happens in the moment in which an object whose key ends so is stored."""

    def __init__(self, root: Path, ending: str, then: Callable[[], None]) -> None:
        super().__init__(root)
        self._ending, self._then = ending, then

    def put_once(self, key: str, data: Body, **fields: Any) -> bool:
        if key.endswith(self._ending):
            self._then()
        return super().put_once(key, data, **fields)


@pytest.mark.parametrize("ending", ["a.flac.sealed", "b.flac.sealed", "book.flac.sealed"])
def test_what_is_stored_in_the_moment_of_the_withdrawal_is_removed_and_named(
    tmp_path: Path, ending: str
) -> None:
    runtime = local_runtime(tmp_path)
    mark = lambda: runtime.inbox.put(f"{RECORD}.revoked", b"")  # noqa: E731
    runtime = replace(runtime, results=InterruptedStore(tmp_path / "results", ending, mark))
    key = put_job(runtime, items=ITEMS, output={"concatenate": "book", "format": "flac"})
    done = run_job(key, runtime)
    assert (done.status, codes(done.items)) == ("failed", {"CONSENT_REVOKED"})
    assert sealed(runtime) == []
    named = {n.pointer for n in [*done.notices, *(n for i in done.items for n in i.notices)]}
    assert any(key.endswith(ending) for key in named)
    assert done.chapters[0].output is None


def test_what_a_dead_worker_left_is_removed_and_named(runtime: Runtime) -> None:
    key = put_job(runtime, items=ITEMS)
    done = run_job(key, runtime)
    runtime.results.delete(f"out/{done.job_id}/result.json")
    withdraw(runtime)
    done = run_job(key, runtime)
    assert sealed(runtime) == []
    assert {n.code for item in done.items for n in item.notices} == {"OUTPUT_REMOVED"}


def test_a_shard_in_flight_stops_and_an_earlier_part_stands(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, shard_items=1)
    job = split_job(put_job(runtime, items=ITEMS), runtime)
    first, second = [i.key for i in runtime.control.list(shards_prefix(job.job_id))][:2]
    assert worker.make_shard(first, runtime) is None
    withdraw(runtime)
    done = present(worker.make_shard(second, runtime))
    items = list(read_items(done, commit.part_reader(runtime)))
    assert [item.error.code if item.error else "" for item in items] == ["", "CONSENT_REVOKED"]
    assert sealed(runtime) == [f"out/{done.job_id}/a.flac.sealed"]


def test_an_exhausted_shard_does_not_adopt_what_a_withdrawn_voice_said(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, shard_items=1, max_attempts=1)
    job = split_job(put_job(runtime, items=ITEMS), runtime)
    first = next(i.key for i in runtime.control.list(shards_prefix(job.job_id)))
    worker.make_shard(first, runtime)
    runtime.results.delete(f"out/{job.job_id}/parts/00000.json")
    withdraw(runtime)
    worker.make_shard(first, runtime)
    part = runtime.results.get(f"out/{job.job_id}/parts/00000.json", limit=10**6).data
    assert json.loads(part)["items"][0]["error"]["code"] == "CONSENT_REVOKED"
    assert sealed(runtime) == []


def kept(runtime: Runtime) -> list[str]:
    return [info.key for name in ("voices/", "voiceprints/") for info in runtime.control.list(name)]


def test_what_is_kept_of_the_voice_is_destroyed_and_its_key_first(runtime: Runtime) -> None:
    run_job(put_job(runtime), runtime)
    recording = hashlib.sha256(REFERENCE.read_bytes()).hexdigest()
    assert len(kept(runtime)) == 2
    other = f"voices/{'0' * 64}/key.json"
    runtime.control.put(other, b"the key of another voice")
    withdraw(runtime)
    assert kept(runtime) == [other]
    put_record(runtime, "consent/new.json", valid_from=datetime.now(UTC), id="new")
    assert run_with(runtime, "consent/new.json").status == "succeeded"
    now = set(kept(runtime))
    assert f"voices/{recording}/key.json" in now
    sweep.run_sweep(runtime)
    assert set(kept(runtime)) == now, "consent was given again"


def test_a_voiceprint_opens_with_the_key_of_its_voice_alone(runtime: Runtime) -> None:
    run_job(put_job(runtime), runtime)
    (key,) = [key for key in kept(runtime) if key.endswith(".sealed")]
    stored = runtime.control.get(key, limit=10**6)
    envelope = sealing.envelope_from_metadata(stored.info.metadata)
    with pytest.raises(Misconfigured, match="KEY_DESTROYED"):
        sealing.open_sealed(stored.data, envelope, runtime.keys.wrapping)
    voice = key.split("/")[1]
    opened = open_voice_key(voice, (None, ""), runtime.control, runtime.keys)
    assert b"buzz" in sealing.open_sealed(stored.data, envelope, opened.wrapping)


@pytest.mark.parametrize("how", ["cut", "of another voice", "signed by somebody else"])
def test_a_voice_key_that_is_not_the_one_of_its_voice_is_not_used(
    runtime: Runtime, tmp_path: Path, how: str
) -> None:
    run_job(put_job(runtime), runtime)
    (key,) = [key for key in kept(runtime) if key.endswith("key.json")]
    stored = runtime.control.get(key, limit=10**6).data
    other = local_runtime(tmp_path / "other")
    open_voice_key("0" * 64, (None, ""), runtime.control, runtime.keys)
    open_voice_key(key.split("/")[1], (None, ""), other.control, other.keys)
    runtime.control.put(
        key,
        {
            "cut": stored[:-9],
            "of another voice": runtime.control.get(f"voices/{'0' * 64}/key.json", limit=9999).data,
            "signed by somebody else": other.control.get(key, limit=9999).data,
        }[how],
    )
    assert run_job(put_job(runtime, name="two"), runtime).status == "succeeded"
    assert len(voice_of(runtime).enrolled) == 2


def test_a_voice_learned_in_the_moment_of_the_withdrawal_is_not_kept(tmp_path: Path) -> None:
    class Voice(BuzzVoice):
        def enrol(self, *args: Any) -> Voiceprint:
            withdraw(used)
            return super().enrol(*args)

    used = local_runtime(tmp_path, voice=Voice())
    assert codes(run_job(put_job(used), used).items) == {"CONSENT_REVOKED"}
    assert kept(used) == []


def test_a_sweep_destroys_what_a_dead_worker_left_of_a_withdrawn_voice(runtime: Runtime) -> None:
    put_job(runtime)
    withdraw(runtime)
    recording = hashlib.sha256(REFERENCE.read_bytes()).hexdigest()
    open_voice_key(recording, (datetime(2026, 1, 1, tzinfo=UTC), ""), runtime.control, runtime.keys)
    sweep.run_sweep(runtime)
    assert kept(runtime) == []


def test_a_voiceprint_of_release_0_1_0_is_used_and_bound_to_its_voice(runtime: Runtime) -> None:
    run_job(put_job(runtime), runtime)
    (key,) = [key for key in kept(runtime) if key.endswith(".sealed")]
    stored = runtime.control.get(key, limit=10**6)
    envelope = sealing.envelope_from_metadata(stored.info.metadata)
    opened = open_voice_key(key.split("/")[1], (None, ""), runtime.control, runtime.keys)
    plain = sealing.open_sealed(stored.data, envelope, opened.wrapping)
    former = sealing.seal(plain, envelope.ctx, runtime.keys.wrapping)
    for name in kept(runtime):
        runtime.control.delete(name)
    metadata = sealing.envelope_metadata(former.envelope)
    runtime.control.put(f"voiceprints/{envelope.ctx.item}.sealed", former.body, metadata=metadata)
    assert run_job(put_job(runtime, name="two"), runtime).status == "succeeded"
    assert len(voice_of(runtime).enrolled) == 1
    assert not list(runtime.control.list("voiceprints/"))
    assert key in kept(runtime)


def test_a_note_of_somebody_else_neither_withdraws_nor_prevents_a_withdrawal(
    runtime: Runtime, tmp_path: Path
) -> None:
    other = local_runtime(tmp_path / "other")
    key = put_job(runtime, items=ITEMS[:1])
    data = runtime.inbox.get(RECORD, limit=10**6).data
    other.consents.withdraw(data, 0.0)
    (note,) = other.results.list(WITHDRAWN)
    runtime.results.put(note.key, other.results.get(note.key, limit=10**6).data)
    assert run_job(key, runtime).status == "succeeded"
    withdraw(runtime)
    assert codes(run_with(runtime, RECORD).items) == {"CONSENT_REVOKED"}


def test_a_note_counts_under_its_own_key_only(runtime: Runtime) -> None:
    """A note that was copied to the key of another recording withdraws nothing."""
    put_job(runtime)
    withdraw(runtime)
    (info,) = runtime.results.list(WITHDRAWN)
    note = runtime.results.get(info.key, limit=10**6).data
    signed.verify(note, runtime.keys.verifying)
    runtime.results.put(withdrawal_key("0" * 64, "1" * 64), note)
    assert find_withdrawals("0" * 64, runtime.results, runtime.keys.verifying) == []


@pytest.mark.parametrize("mode", ["run", "validate"])
def test_the_scope_is_that_of_the_language_which_is_spoken(runtime: Runtime, mode: str) -> None:
    items = [
        {"id": "zh", "text": "你好，这是一句完整的中文。", "language": "en"},
        {"id": "en", "text": "Nothing but plain English words here.", "language": "en"},
        {"id": "name", "text": "The word 你好 is a greeting.", "language": "en"},
        {"id": "silent", "text": "这 Æ Æ 是 Æ Æ 中 Æ Æ 文 Æ Æ。", "language": "en"},
        {"id": "ja", "text": "昨日東京の大学で", "language": "en"},
    ]
    key = put_job(runtime, items=items, mode=mode)
    put_record(runtime, RECORD, scope=records.Scope(languages=["en"]))
    done = run_job(key, runtime)
    assert [item.error.code if item.error else "" for item in done.items] == [
        "CONSENT_SCOPE",
        "",
        "",
        "CONSENT_SCOPE",
        "CONSENT_SCOPE",
    ]
    reasons = [item.error.message for item in done.items if item.error]
    assert [reason.rpartition(" in ")[2].partition(":")[0] for reason in reasons] == [
        "zh",
        "zh",
        "ja",
    ]


RECORDING = hashlib.sha256(REFERENCE.read_bytes()).hexdigest()
NOW = datetime.now(UTC).replace(microsecond=0)


def hour(number: int) -> datetime:
    """A time of yesterday or, from 24 on, of the future."""
    return NOW + timedelta(hours=number - 23)


def put_at(runtime: Runtime, key: str, data: bytes, at: datetime) -> None:
    """Upload an object at this time."""
    runtime.inbox.put(key, data)
    os.utime(runtime.inbox._root / key, (at.timestamp(), at.timestamp()))  # type: ignore[attr-defined]


def make_record(**changes: Any) -> bytes:
    return records.format_consent(consent_record(REFERENCE.read_bytes(), **changes))


def is_withdrawn(runtime: Runtime, key: str) -> bool:
    return runtime.consents.is_withdrawn(ConsentClaim(key, RECORDING, "/voices/alice/consent"))


def notes(runtime: Runtime) -> list[str]:
    return [info.key for info in runtime.results.list(WITHDRAWN) if info.key.endswith(".json")]


@pytest.mark.parametrize("noticed_by", ["sweep", "job", "command"])
def test_a_second_withdrawal_reaches_what_readmitted_the_voice_and_is_logged(
    runtime: Runtime, noticed_by: str
) -> None:
    record = make_record()
    put_at(runtime, RECORD, record, hour(0))
    put_at(runtime, f"{RECORD}.revoked", b"", hour(1))
    sweep.run_sweep(runtime)
    put_at(runtime, "consent/theirs.json", make_record(valid_from=hour(2)), hour(3))
    assert not is_withdrawn(runtime, "consent/theirs.json")
    if noticed_by == "command":
        runtime.consents.withdraw(record, hour(4).timestamp())
    else:
        put_at(runtime, f"{RECORD}.revoked", b"", hour(4))
        if noticed_by == "sweep":
            sweep.run_sweep(runtime)
        else:
            is_withdrawn(runtime, RECORD)
    assert is_withdrawn(runtime, "consent/theirs.json")
    assert len(notes(runtime)) == 2
    integrate_log(runtime)
    before = [info for info in runtime.results.list(WITHDRAWN)]
    assert len(before) == 4, "a proof beside each note"
    sweep.run_sweep(runtime)
    assert [info for info in runtime.results.list(WITHDRAWN)] == before
    assert list(runtime.control.list(LOG_QUEUE)) == []
    put_at(runtime, "consent/again.json", make_record(valid_from=hour(5)), hour(5))
    assert not is_withdrawn(runtime, "consent/again.json")


def test_a_note_of_a_second_withdrawal_that_somebody_else_stored_does_not_prevent_it(
    runtime: Runtime,
) -> None:
    runtime.consents.withdraw(make_record(), hour(1).timestamp())
    runtime.consents.withdraw(make_record(), hour(4).timestamp())
    first, second = notes(runtime)
    for junk in (b"", runtime.results.get(first, limit=9999).data):
        runtime.results.put(second, junk)
        assert len(find_withdrawals(RECORDING, runtime.results, runtime.keys.verifying)) == 1
        assert runtime.consents.withdraw(make_record(), hour(4).timestamp()) == [RECORDING]
        assert runtime.consents.withdraw(make_record(), hour(4).timestamp()) == []


def replaced_by_new_consent(runtime: Runtime, key: str) -> None:
    put_at(runtime, key, make_record(id="new", valid_from=hour(2)), hour(3))


def replaced_by_a_copy(runtime: Runtime, key: str) -> None:
    put_at(runtime, key, make_record() + b" ", hour(3))


def replaced_by_the_record_of_another_recording(runtime: Runtime, key: str) -> None:
    other = records.format_consent(consent_record(b"another recording"))
    put_at(runtime, key, other, hour(3))


def replaced_by_no_record(runtime: Runtime, key: str) -> None:
    put_at(runtime, key, b"{}", hour(3))


def deleted(runtime: Runtime, key: str) -> None:
    runtime.inbox.delete(key)


REPLACED = {
    # What the record covers that is there now tells which recording it was;
    replaced_by_new_consent: ["sweep", "job"],
    replaced_by_a_copy: ["sweep", "job"],
    # otherwise the voice tells under which record it was learned.
    replaced_by_the_record_of_another_recording: ["sweep", "use"],
    replaced_by_no_record: ["sweep", "use"],
    deleted: ["sweep", "use"],
}


@pytest.mark.parametrize(
    ("replace_record", "noticed_by"),
    [(how, by) for how, ways in REPLACED.items() for by in ways],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_withdrawal_that_nobody_noticed_before_its_record_was_replaced(
    runtime: Runtime, replace_record: Callable[[Runtime, str], None], noticed_by: str
) -> None:
    """The object `.revoked` counts for what it was placed beside, and so for copies of that."""
    key = "records/alice.json"
    put_at(runtime, key, make_record(), hour(0))
    put_at(runtime, "records/copy.json", make_record() + b"\n", hour(0))
    open_voice_key(RECORDING, (hour(0), key), runtime.control, runtime.keys)  # it was used
    put_at(runtime, f"{key}.revoked", b"", hour(1))
    replace_record(runtime, key)
    if noticed_by == "sweep":
        sweep.run_sweep(runtime)
    elif noticed_by == "job":
        is_withdrawn(runtime, key)
    else:
        runtime.consents.withdraw_marked(f"{key}.revoked", used=[RECORDING])
    assert is_withdrawn(runtime, "records/copy.json")
    assert kept(runtime) == []
    assert is_withdrawn(runtime, key) == (replace_record is not replaced_by_new_consent)
    before = notes(runtime)
    sweep.run_sweep(runtime)
    assert notes(runtime) == before


def test_what_was_learned_under_a_record_is_withdrawn_by_what_was_beside_it_alone(
    runtime: Runtime,
) -> None:
    """A key that was used for another voice before: its `.revoked` concerns the later record."""
    put_at(runtime, RECORD, records.format_consent(consent_record(b"another")), hour(1))
    open_voice_key(RECORDING, (hour(0), RECORD), runtime.control, runtime.keys)
    put_at(runtime, f"{RECORD}.revoked", b"", hour(2))
    sweep.run_sweep(runtime)
    put_at(runtime, "consent/other.json", make_record(), hour(0))
    assert not is_withdrawn(runtime, "consent/other.json")


def test_a_note_that_cannot_be_stored_admits_nobody_and_is_reported(
    runtime: Runtime, tmp_path: Path
) -> None:
    put_at(runtime, RECORD, make_record(), hour(0))
    put_at(runtime, f"{RECORD}.revoked", b"", hour(1))
    note = withdrawal_key(RECORDING, hashlib.sha256(make_record()).hexdigest())
    (tmp_path / "results" / note).mkdir(parents=True)
    assert is_withdrawn(runtime, RECORD)
    (finding,) = sweep.run_sweep(runtime).findings
    assert (finding.kind, finding.keys, bool(finding.error)) == (
        "foreign",
        [f"{RECORD}.revoked"],
        True,
    )


def test_a_voice_that_was_used_without_a_record_is_not_withdrawn_by_an_object_without_a_name(
    runtime: Runtime,
) -> None:
    open_voice_key(RECORDING, (None, ""), runtime.control, runtime.keys)
    put_at(runtime, ".revoked", b"", hour(1))
    put_at(runtime, "consent/.revoked", b"", hour(1))
    sweep.run_sweep(runtime)
    assert notes(runtime) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: json.dumps(json.loads(data), sort_keys=True).encode(),
        lambda data: data.replace(b"+00:00", b"Z").replace(b"alice-1", b"alice-2"),
        lambda data: json.dumps(json.loads(data) | {"purposes": ["more"]}).encode(),
    ],
    ids=["white space", "order", "id", "purposes"],
)
def test_a_copy_of_a_record_that_was_withdrawn_before_it_began_never_begins(
    runtime: Runtime, change: Callable[[bytes], bytes]
) -> None:
    record = make_record(valid_from=hour(12))
    runtime.consents.withdraw(record, hour(1).timestamp())
    put_at(runtime, "consent/copy.json", change(record), hour(2))
    assert is_withdrawn(runtime, "consent/copy.json")
    open_voice_key(RECORDING, (hour(12), "consent/copy.json"), runtime.control, runtime.keys)
    sweep.run_sweep(runtime)
    assert kept(runtime) == []


def test_a_withdrawn_record_of_the_far_future_blocks_nobody(runtime: Runtime) -> None:
    never = make_record(valid_from=datetime(9999, 1, 1, tzinfo=UTC))
    runtime.consents.withdraw(never, hour(1).timestamp())
    put_at(runtime, "consent/new.json", make_record(valid_from=hour(2)), hour(2))
    assert not is_withdrawn(runtime, "consent/new.json")


MANY = [hashlib.sha256(bytes([n])).hexdigest() for n in range(records.MAX_RECORDINGS)]


def test_a_record_that_names_too_many_recordings_is_refused_and_can_be_withdrawn(
    runtime: Runtime,
) -> None:
    fields = json.loads(make_record())

    def put(more: list[str]) -> None:
        data = json.dumps(fields | {"ref_audio_sha256": [RECORDING, *more]})
        runtime.inbox.put(RECORD, data.encode())

    claim = ConsentClaim(RECORD, RECORDING, "/voices/alice/consent")
    put(MANY[1:])
    runtime.consents.open_gate(claim).admit("en")
    put(MANY)
    with pytest.raises(Refused, match=r"/ref_audio_sha256: .* at most 100 .*101") as refused:
        runtime.consents.open_gate(claim).admit("en")
    assert (refused.value.code, refused.value.pointer) == ("CONSENT_INVALID", claim.pointer)
    runtime.inbox.put(f"{RECORD}.revoked", b"")
    assert len(runtime.consents.withdraw_marked(f"{RECORD}.revoked")) == 101
    runtime.inbox.put("consent/copy.json", make_record())
    assert is_withdrawn(runtime, "consent/copy.json")


class CountingStore(LocalStore):
    """Counts the objects that are read; those of one recording cannot be."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []
        self.closed = "nothing"

    def get(self, key: str, **fields: Any) -> Object:
        self.read.append(key)
        if self.closed in key:
            raise Misconfigured("BUCKET_FORBIDDEN", key)
        return super().get(key, **fields)


def test_a_sweep_reads_no_note_that_is_logged_and_goes_on_after_one_that_it_cannot_read(
    tmp_path: Path,
) -> None:
    runtime = local_runtime(tmp_path)
    results = CountingStore(tmp_path / "results")
    runtime = replace(runtime, results=results)
    runtime.consents.withdraw(make_record(ref_audio_sha256=MANY[:5]), hour(1).timestamp())
    integrate_log(runtime)
    results.read.clear()
    sweep.run_sweep(runtime)
    assert results.read == []
    for recording in MANY[:5]:
        open_voice_key(recording, (hour(0), RECORD), runtime.control, runtime.keys)
    results.closed = sorted(MANY[:5])[2]
    swept = sweep.run_sweep(runtime)
    assert [(f.kind, f.keys, f.error) for f in swept.findings] == [
        ("withdrawn", [f"withdrawn/{results.closed}/"], "BUCKET_FORBIDDEN")
    ]
    assert kept(runtime) == [f"voices/{results.closed}/key.json"]
