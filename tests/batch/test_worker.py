from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from core.audio.waveform import Audio
from core.batch import parts, plan, worker
from core.crypto import sealing
from core.documents import signed
from core.errors import Refused, Unavailable
from core.job import commit, lease
from core.job.runtime import Runtime
from core.result import document as result
from core.result.document import Result, read_items
from core.result.item_result import ItemResult
from core.storage.object_keys import parse_shard_key, part_key, plan_key, result_key, shard_name
from core.voice import SpeechChunk, Voiceprint
from handlers import sweep
from handlers.cli.screen import Progress
from handlers.cli.watch import SETTLING_SECONDS, Watch
from handlers.jobs import carry_out_shard
from handlers.oss import handle
from tests.support.events import notification, published_events
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    finish_job,
    local_runtime,
    put_job,
    split_job,
    voice_of,
    with_voice,
)
from tests.support.shards import run_all_shards, shard_keys

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("memoised_audio")]

OTHER = REFERENCE.with_name("ref_1688.flac")
WORDS = "Some words of speech, this is number"


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path, shard_items=2)


def make_items(count: int) -> list[dict[str, str]]:
    return [{"id": f"i{n}", "text": f"{WORDS} {n}."} for n in range(count)]


def put_json_lines(runtime: Runtime, rows: list[bytes], **fields: Any) -> str:
    """Put the job of `put_job` as JSON Lines."""
    key = put_job(runtime, **fields)
    document = json.loads(runtime.inbox.get(key, limit=10**8).data)
    del document["items"]
    runtime.inbox.delete(key)
    runtime.inbox.put(f"{key}l", b"\n".join([json.dumps(document).encode(), *rows]))
    return f"{key}l"


def items(runtime: Runtime, done: Result) -> list[ItemResult]:
    return list(read_items(done, commit.part_reader(runtime)))


def test_a_job_of_many_items_is_made_by_shards_and_committed_by_the_last(runtime: Runtime) -> None:
    done = run_all_shards(
        runtime, put_job(runtime, items=make_items(5), id="book", labels={"team": "a"})
    )
    assert (done.status, done.items, done.totals.succeeded) == ("succeeded", [], 5)
    assert [part.items for part in done.parts] == [1, 2, 2]
    assert [item.id for item in items(runtime, done)] == [f"i{n}" for n in range(5)]
    assert [item.index for item in items(runtime, done)] == [0, 1, 2, 3, 4]
    assert (done.id, done.labels, present(done.engine).name) == ("book", {"team": "a"}, "buzz")
    assert present(done.voices["alice"].consent).id == "alice-1"
    assert len(voice_of(runtime).enrolled) == 1
    assert sorted(voice_of(runtime).spoken) == [f"{WORDS} {n}." for n in range(5)]
    (event,) = published_events(runtime)
    assert (event["data"]["outputs"], event["data"]["outputs_complete"]) == ([], False)
    assert list(runtime.control.list("work/")) == []
    assert [i.key for i in runtime.control.list("lease/")] == [f"lease/{done.job_id}"]


def test_a_job_of_few_items_is_not_split(runtime: Runtime) -> None:
    done = finish_job(put_job(runtime, items=make_items(2)), runtime)
    assert (len(done.items), done.parts, done.attachments) == (2, [], {})


def test_a_split_job_has_the_same_items_as_an_unsplit_one(runtime: Runtime, tmp_path: Path) -> None:
    rows = [
        b'{"id": "a", "text": "A fine sentence of some length."}',
        b'{"id": "b", "text": ""}',
        b"",
        b'{"id": "c", "id": "d", "text": "twice"}',
        b'{"id": "e", "text": "x", "meta": {"row": 17}, "language": "fr"}\r',
        b'{"id": "f", "txt": "misspelt"}',
        b'{"id": "g", "text": "Another fine sentence, quite long."}',
    ]
    whole = replace(runtime, shard_items=100)
    for form in ("lines", "document"):
        if form == "lines":
            key = put_json_lines(runtime, rows, name=form)
        else:
            written = b",\n ".join(row.strip() for row in rows if row)
            key = put_job(runtime, name=form)
            document = json.loads(runtime.inbox.get(key, limit=10**6).data) | {"items": ["@"]}
            data = json.dumps(document).encode().replace(b'"@"', written)
            runtime.inbox.put(key, data)
        split = run_all_shards(runtime, key)
        twin = f"jobs/twin-{key.removeprefix('jobs/')}"
        runtime.inbox.put(twin, runtime.inbox.get(key, limit=10**6).data)
        unsplit = finish_job(twin, whole)
        for one, other in zip(items(runtime, split), unsplit.items, strict=True):
            assert (one.id, one.index, one.error, one.meta) == (
                *(other.id, other.index, other.error, other.meta),
            )
        assert counts(split.totals) == counts(unsplit.totals)
        assert (split.status, split.notices) == (unsplit.status, unsplit.notices)


def counts(totals: result.Totals) -> tuple[int, int, int, int]:
    return totals.items, totals.succeeded, totals.failed, totals.characters


def test_the_tables_beside_the_result_list_every_item_and_every_error(runtime: Runtime) -> None:
    rows = [json.dumps(item).encode() for item in make_items(3)]
    rows[1] = b'{"id": "bad", "text": "x", "=cmd|calc": 1}'
    done = run_all_shards(runtime, put_json_lines(runtime, rows))
    tables = {}
    for name, named in done.attachments.items():
        tables[name] = runtime.results.get(named.key, limit=10**6).data
        assert hashlib.sha256(tables[name]).hexdigest() == named.sha256
        assert len(tables[name]) == named.bytes
    (error,) = map(json.loads, tables["errors"].splitlines())
    assert (error["line"], error["code"], error["id"]) == (3, "UNKNOWN_FIELD", "bad")
    table = list(csv.DictReader(io.StringIO(tables["items"].decode())))
    assert [row["id"] for row in table] == ["i0", "bad", "i2"]
    assert [row["status"] for row in table] == ["succeeded", "failed", "succeeded"]
    assert table[0]["key"] == present(items(runtime, done)[0].output).key


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_never_begins_like_a_formula(text: str) -> None:
    assert parts._cell(text) == f"'{text}"
    assert parts._cell("fine = 1") == "fine = 1"


def test_a_repeated_notification_of_a_manifest_or_shard_speaks_nothing_twice(
    runtime: Runtime,
) -> None:
    key = put_job(runtime, items=make_items(4))
    for _ in range(2):
        (answer,) = handle(notification(key), runtime)["done"]
        assert (answer["status"], answer["shards"]) == ("shared", 2)
    first, second = shard_keys(runtime)
    for _ in range(2):
        (answer,) = handle(notification(first), runtime)["done"]
        assert (answer["status"], answer["shard"]) == ("shared", 0)
    for shard_key in (second, second, first):
        (answer,) = handle(notification(shard_key), runtime)["done"]
        assert answer["status"] == "succeeded"
    assert handle(notification(key), runtime)["done"][0]["status"] == "succeeded"
    assert len(voice_of(runtime).spoken) == 4
    assert len(published_events(runtime)) == 1


def test_a_job_whose_manifest_is_deleted_after_sharding_is_finished(runtime: Runtime) -> None:
    key = put_job(runtime, items=make_items(4))
    split_job(key, runtime)
    runtime.inbox.delete(key)
    swept = sweep.run_sweep(runtime, grace=0.0)
    assert [f.action for f in swept.findings] == ["shard made", "carried out: succeeded"]
    assert sweep.run_sweep(runtime, grace=0.0).findings == []


def test_a_sweep_commits_a_job_whose_parts_are_all_there(runtime: Runtime) -> None:
    split_job(put_job(runtime, items=make_items(4)), runtime)
    for shard_key in shard_keys(runtime):
        worker._make_part(
            plan.read_shard(runtime.control, shard_key, runtime.keys.verifying), runtime
        )
    assert runtime.results.head(result_key(parse_shard_key(shard_keys(runtime)[0]).job_id)) is None
    swept = sweep.run_sweep(runtime, grace=0.0)
    assert [f.action for f in swept.findings] == ["carried out: succeeded"]


def test_a_sweep_leaves_fresh_and_running_shards_alone(runtime: Runtime) -> None:
    split_job(put_job(runtime, items=make_items(4)), runtime)
    assert [f.kind for f in sweep.run_sweep(runtime).findings] == ["fresh", "fresh"]
    job_id = parse_shard_key(shard_keys(runtime)[0]).job_id
    with lease.Lease.acquire(runtime.control, shard_name(job_id, 0), "live", 60, runtime.keys):
        swept = sweep.run_sweep(runtime, grace=0.0)
    assert [f.kind for f in swept.findings] == ["running", "unfinished"]


def test_an_incomplete_plan_is_completed_with_its_original_shard_size(
    runtime: Runtime,
) -> None:
    key = put_job(runtime, items=make_items(6))
    split_job(key, runtime)
    last = shard_keys(runtime)[-1]
    before = runtime.control.get(last, limit=10**6).data
    runtime.control.delete(last)
    assert split_job(key, replace(runtime, shard_items=1)).shards == 3
    assert runtime.control.get(last, limit=10**6).data == before


def test_the_rest_of_a_plan_that_cannot_be_finished_is_removed(runtime: Runtime) -> None:
    key = put_job(runtime, items=make_items(6))
    split_job(key, runtime)
    runtime.control.delete(shard_keys(runtime)[-1])
    runtime.inbox.delete(key)
    swept = sweep.run_sweep(runtime, grace=0.0)
    assert ("stale-work", "removed") in [(f.kind, f.action) for f in swept.findings]
    assert list(runtime.control.list("work/")) == []


class Killed(BaseException):
    """The process has died."""


class Deadly(BuzzVoice):
    """A voice that kills its process at one item."""

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        if text.endswith(" 1."):
            raise Killed
        return super().speak(text, voiceprint, language=language, speed=speed, seed=seed)


def test_an_item_that_kills_its_workers_fails_alone_in_a_shard(runtime: Runtime) -> None:
    """Each attempt starts one item later, so that the items behind it are reached."""
    deadly = with_voice(runtime, Deadly(), shard_items=4, max_attempts=2)
    split_job(put_job(runtime, items=make_items(8)), deadly)
    first, second = shard_keys(runtime)
    for _ in range(3):
        with pytest.raises(Killed):
            carry_out_shard(first, deadly)
    assert carry_out_shard(first, deadly) is None
    done = present(carry_out_shard(second, deadly))
    assert (done.status, done.totals.succeeded) == ("partial", 7)
    codes = {item.id: item.error.code for item in items(runtime, done) if item.error}
    assert codes == {"i1": "RETRIES_EXHAUSTED"}
    (letter,) = runtime.control.list("dead/")
    assert letter.key == f"dead/{done.job_id}.00000.json"
    retry_key = put_job(runtime, name="again", items=make_items(8), retry_of=done.job_id)
    assert run_all_shards(replace(runtime, shard_items=4), retry_key).totals.kept == 7


@pytest.mark.parametrize("lanes", [1, 4])
def test_an_item_that_kills_its_workers_fails_alone_in_an_unsplit_job(
    runtime: Runtime, lanes: int
) -> None:
    """Only the first attempt makes items at once, and may lose those beside the one that kills."""
    deadly = with_voice(runtime, Deadly(), shard_items=4, max_attempts=3, lanes=lanes)
    key = put_job(runtime, items=make_items(4))
    done = None
    for _ in range(8):
        with suppress(Killed):
            done = done or finish_job(key, deadly)
    assert done
    assert (done.status, done.error) == ("partial", None)
    outcomes = [item.error.code if item.error else item.status for item in done.items]
    assert outcomes == ["succeeded", "RETRIES_EXHAUSTED", "succeeded", "succeeded"]
    assert [i.key for i in runtime.control.list("dead/")] == [f"dead/{done.job_id}.json"]
    assert sweep.run_sweep(runtime, grace=0.0).findings == []


@pytest.mark.parametrize("what", ["shard", "plan"])
def test_a_shard_or_plan_with_an_invalid_signature_is_refused(runtime: Runtime, what: str) -> None:
    split_job(put_job(runtime, items=make_items(4)), runtime)
    shard_key = shard_keys(runtime)[0]
    key = shard_key if what == "shard" else plan_key(parse_shard_key(shard_key).job_id)
    data = runtime.control.get(key, limit=10**6).data
    changed = data.replace(b"number 0", b"number 7").replace(b"alice.flac", b"a.flac")
    runtime.control.put(key, changed)
    with pytest.raises(Refused, match="SIGNATURE_INVALID"):
        carry_out_shard(shard_key, runtime)
    assert voice_of(runtime).spoken == []


def test_a_part_that_was_changed_is_not_read(runtime: Runtime) -> None:
    done = run_all_shards(runtime, put_job(runtime, items=make_items(4)))
    key = done.parts[1].key
    runtime.results.put(key, runtime.results.get(key, limit=10**6).data + b" ")
    with pytest.raises(Refused, match="OBJECT_CHANGED"):
        items(runtime, done)


def test_a_part_of_another_division_of_the_job_is_not_gathered(runtime: Runtime) -> None:
    done = run_all_shards(runtime, put_job(runtime, items=make_items(4)))
    first = runtime.results.get(done.parts[0].key, limit=10**6).data
    other = msgspec.structs.replace(result.parse_part(first), of=3, signature=None)
    runtime.results.put(done.parts[0].key, signed.sign(other, runtime.keys.signing))
    assert parts.read_part_count(done.job_id, runtime) == 3
    with pytest.raises(Refused, match="another part, or a part of another job") as refusal:
        parts.gather_parts(done.job_id, 2, runtime)
    assert refusal.value.pointer == done.parts[0].key


def test_every_part_is_signed(runtime: Runtime) -> None:
    done = run_all_shards(runtime, put_job(runtime, items=make_items(4)))
    for part in done.parts:
        signed.verify(runtime.results.get(part.key, limit=10**6).data, runtime.keys.verifying)


def test_a_worker_without_the_lease_leaves_the_shard_to_the_other(runtime: Runtime) -> None:
    split_job(put_job(runtime, items=make_items(4)), runtime)
    shard_key = shard_keys(runtime)[0]
    with (
        lease.Lease.acquire(
            runtime.control, shard_name(*parse_shard_key(shard_key)), "live", 60, runtime.keys
        ),
        pytest.raises(Unavailable, match="JOB_BUSY"),
    ):
        carry_out_shard(shard_key, runtime)


def test_watch_says_which_shards_it_cannot_make(runtime: Runtime) -> None:
    split_job(put_job(runtime, items=make_items(4)), runtime)
    damaged = shard_keys(runtime)[0]
    runtime.control.put(damaged, b"{}")
    out = io.StringIO()
    console = Console(file=out, width=500)
    looking = Watch(runtime, Progress(console, console))
    assert looking.poll() is True
    assert f"{damaged}: SIGNATURE_INVALID" in out.getvalue()
    job = parse_shard_key(damaged).job_id
    assert parts.list_part_keys(job, runtime) == {part_key(job, 1)}


def test_a_sweep_removes_what_is_left_of_shards_of_a_finished_job(runtime: Runtime) -> None:
    key = put_job(runtime, items=make_items(4))
    split_job(key, runtime)
    shard = shard_keys(runtime)[0]
    data = runtime.control.get(shard, limit=10**6).data
    done = run_all_shards(runtime, key)
    runtime.control.put(shard, data)
    (finding,) = sweep.run_sweep(runtime, grace=0).findings
    assert (finding.kind, finding.action, finding.job) == ("stale-work", "removed", done.job_id)
    assert finding.detail == "Its job has a result."
    assert shard_keys(runtime) == []


def test_watch_carries_out_all_shards(runtime: Runtime) -> None:
    put_job(runtime, items=make_items(5))
    out = io.StringIO()
    looking = Watch(runtime, Progress(Console(file=io.StringIO()), Console(file=out)))
    time.sleep(SETTLING_SECONDS)
    while looking.poll():
        pass
    assert looking.jobs["jobs/one.manifest.json"]["status"] == "succeeded"
    assert "succeeded, 5 of 5 items" in out.getvalue()
    assert len(published_events(runtime)) == 1
    assert list(runtime.control.list("work/")) == []


# --- dry runs and retries


class Untouched(BuzzVoice):
    """A voice that must not be used."""

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        raise AssertionError

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        raise AssertionError


@pytest.mark.parametrize("count", [2, 45], ids=["whole", "cut"])
def test_a_dry_run_validates_and_estimates_and_speaks_nothing(runtime: Runtime, count: int) -> None:
    quiet = with_voice(runtime, Untouched(), price=0.6)
    rows = [*make_items(count - 1), {"id": "fr", "text": "Bonjour.", "language": "fr"}]
    done = finish_job(put_job(runtime, items=rows, mode="validate"), quiet)
    assert done.status == "invalid"
    outcomes = [item.error.code if item.error else item.status for item in items(runtime, done)]
    assert outcomes == ["validated"] * (count - 1) + ["LANGUAGE_UNSUPPORTED"]
    estimate = present(done.estimate)
    assert (estimate.items, done.totals.succeeded) == (count - 1, 0)
    assert estimate.languages["en"].characters == sum(len(row["text"]) for row in rows[:-1])
    assert estimate.cost == pytest.approx(estimate.audio_s / 60 * 0.6, abs=1e-3)
    assert [e["type"] for e in published_events(runtime)] == ["com.voicedrop.job.invalid"]
    assert [i.key for i in runtime.results.list("out/") if i.key.endswith(".sealed")] == []
    assert list(runtime.control.list("voices/")) == []


def test_a_dry_run_that_was_interrupted_keeps_its_division_into_parts(runtime: Runtime) -> None:
    key = put_job(runtime, items=make_items(45), mode="validate")
    first = finish_job(key, with_voice(runtime, Untouched()))
    runtime.results.delete(result_key(first.job_id))
    other = with_voice(runtime, Untouched(), shard_items=1)
    again = finish_job(key, other)
    assert [part.key for part in again.parts] == [part.key for part in first.parts]


def test_a_dry_run_says_that_a_voice_has_no_consent(runtime: Runtime) -> None:
    key = put_job(runtime, items=make_items(2), mode="validate")
    runtime.inbox.delete("consent/alice.json")
    done = finish_job(key, with_voice(runtime, Untouched()))
    assert {present(item.error).code for item in done.items} == {"CONSENT_MISSING"}


@pytest.mark.parametrize("count", [2, 5], ids=["whole", "cut"])
def test_a_retry_speaks_only_failed_items(runtime: Runtime, count: int) -> None:
    rows = make_items(count)
    first = [*rows[:-1], rows[-1] | {"text": "!silence"}]
    key = put_job(runtime, name="first", items=first)
    earlier = run_all_shards(runtime, key) if count > 2 else finish_job(key, runtime)
    assert earlier.status == "partial"
    voice_of(runtime).spoken.clear()
    retry_key = put_job(runtime, name="again", items=rows, retry_of=earlier.job_id)
    done = run_all_shards(runtime, retry_key) if count > 2 else finish_job(retry_key, runtime)
    assert (done.status, done.totals.kept, done.retry_of) == (
        *("succeeded", count - 1, earlier.job_id),
    )
    assert voice_of(runtime).spoken == [rows[-1]["text"]]
    kept = [item.kept_from for item in items(runtime, done)]
    assert kept == [earlier.job_id] * (count - 1) + [""]
    for item in items(runtime, done):
        body = runtime.results.get(present(item.output).key, limit=10**8).data
        plain = sealing.open_sealed(body, present(item.envelope), runtime.keys.wrapping)
        assert plain.startswith(b"RIFF")


@pytest.mark.parametrize(
    "change",
    [{"text": "Quite other words than these."}, {"speed": 1.25}, {"format": "flac"}, {"seed": 7}],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("count", [2, 5], ids=["whole", "cut"])
def test_an_item_that_was_changed_is_spoken_again(
    runtime: Runtime, change: dict[str, Any], count: int
) -> None:
    rows = make_items(count)
    make = run_all_shards if count > 2 else lambda runtime, key: finish_job(key, runtime)
    earlier = make(runtime, put_job(runtime, name="first", items=rows))
    rows[1] |= change
    done = make(runtime, put_job(runtime, name="again", items=rows, retry_of=earlier.job_id))
    kept = [bool(item.kept_from) for item in items(runtime, done)]
    assert kept == [True, False, *([True] * (count - 2))]
    assert (done.status, voice_of(runtime).spoken[-1]) == ("succeeded", rows[1]["text"])


@pytest.mark.parametrize(
    "change",
    [
        {"reference": OTHER.read_bytes()},
        {"defaults": {"pause_ms": 100}},
        {"label": {"cue": "morse-start"}},
    ],
    ids=["recording", "defaults", "cue"],
)
def test_nothing_is_kept_if_every_output_would_change(
    runtime: Runtime, change: dict[str, Any]
) -> None:
    """Nor by a retry of a retry that kept everything, and so used no recording itself."""
    earlier = finish_job(put_job(runtime, name="first", items=make_items(2)), runtime)
    kept = finish_job(
        put_job(runtime, name="kept", items=make_items(2), retry_of=earlier.job_id), runtime
    )
    assert kept.totals.kept == 2
    for before in (earlier, kept):
        rows, name = make_items(2), before.job_id
        key = put_job(runtime, name=name, items=rows, retry_of=before.job_id, **change)
        done = finish_job(key, runtime)
        assert (done.status, done.totals.kept) == ("succeeded", 0)


def test_items_are_kept_after_key_rotation_and_without_the_recording(
    runtime: Runtime,
) -> None:
    earlier = finish_job(put_job(runtime, name="first", items=make_items(2)), runtime)
    rotated = replace(runtime.keys, watermark={"new": bytes(32), **runtime.keys.watermark})
    retry_key = put_job(runtime, name="again", items=make_items(2), retry_of=earlier.job_id)
    runtime.inbox.delete("refs/alice.flac")
    done = finish_job(retry_key, replace(runtime, keys=rotated))
    assert done.totals.kept == 2
    unknown = replace(runtime.keys, watermark={"new": bytes(32)})
    put_job(runtime, name="other")
    runtime.inbox.put("jobs/third.manifest.json", runtime.inbox.get(retry_key, limit=10**6).data)
    done = finish_job("jobs/third.manifest.json", replace(runtime, keys=unknown))
    assert (done.status, done.totals.kept) == ("succeeded", 0)


def test_a_missing_output_is_spoken_again(runtime: Runtime) -> None:
    earlier = finish_job(put_job(runtime, name="first", items=make_items(2)), runtime)
    runtime.results.delete(present(earlier.items[0].output).key)
    retry_key = put_job(runtime, name="again", items=make_items(2), retry_of=earlier.job_id)
    done = finish_job(retry_key, runtime)
    assert [bool(item.kept_from) for item in done.items] == [False, True]


def test_a_retry_of_an_unknown_job_is_refused(runtime: Runtime) -> None:
    done = finish_job(put_job(runtime, retry_of="0" * 32), runtime)
    error = present(done.error)
    assert (done.status, error.code) == ("rejected", "RETRY_UNKNOWN")
    assert error.pointer == "/retry_of"


def test_a_retry_follows_a_job_that_is_being_carried_out(runtime: Runtime) -> None:
    key, name = put_job(runtime, retry_of="0" * 32), "0" * 32
    with lease.Lease.acquire(runtime.control, name, "another", 30, runtime.keys):
        for _ in range(runtime.max_attempts + 1):
            with pytest.raises(Unavailable, match="JOB_BUSY"):
                finish_job(key, runtime)
    assert present(finish_job(key, runtime).error).code == "RETRY_UNKNOWN"
