from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from rich.console import Console

from core.errors import Misconfigured, Unavailable
from core.job import commit
from core.job.lease import Lease
from core.job.runtime import Runtime
from core.storage.local import LocalStore
from core.storage.port import Body, Object, Store
from handlers.cli import exit_codes
from handlers.cli.screen import Progress
from handlers.cli.status import show_status
from handlers.cli.watch import SETTLING_SECONDS, Watch, watch_until_stopped
from tests.support.runtime import REFERENCE, BuzzVoice, local_runtime, local_settings, put_job
from tests.support.side_by_side import Together

pytestmark = pytest.mark.usefixtures("memoised_audio")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


class Looking(Watch):
    """A watch whose output and progress are kept."""

    def __init__(self, runtime: Runtime, **seconds: float) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        consoles = [Console(file=file, soft_wrap=True, width=500) for file in (self.out, self.err)]
        progress = Progress(consoles[1], consoles[0])
        super().__init__(replace(runtime, observe=progress), progress, **seconds)


def folder(store: Store) -> Path:
    assert isinstance(store, LocalStore)
    return store._root


def settle(runtime: Runtime) -> None:
    for path in folder(runtime.inbox).rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 60,) * 2)


@pytest.mark.slow
def test_a_finished_job_is_reported_once_with_its_voice_and_result(runtime: Runtime) -> None:
    key = put_job(runtime)
    settle(runtime)
    watch = Looking(runtime)
    assert watch.poll() is False
    text = watch.out.getvalue()
    assert f"{key}: succeeded, 1 of 1 items" in text
    assert "voice alice, by ge2e: 0.50 unadapted -> 0.70 (the same person: 0.90)" in text
    job = watch.jobs[key]["job"]
    assert f"open it: voicedrop open {job[:8]}" in text
    assert watch.poll() is False
    assert watch.out.getvalue() == text
    assert watch.closing_lines() == []


@pytest.mark.slow
def test_a_file_that_is_still_being_copied_waits_for_the_next_scan(runtime: Runtime) -> None:
    put_job(runtime)
    watch = Looking(runtime)
    assert isinstance(runtime.voice, BuzzVoice)
    assert watch.poll() is True
    assert runtime.voice.spoken == []
    time.sleep(SETTLING_SECONDS)
    assert watch.poll() is False
    assert len(runtime.voice.spoken) == 1


@pytest.mark.slow
def test_problems_of_items_and_voices_are_reported(runtime: Runtime) -> None:
    items = [
        {"id": "a", "text": "!bug"},
        {"id": "", "text": "x"},
        {"id": "c", "text": "Fine words."},
    ]
    put_job(runtime, items=items)
    settle(runtime)
    watch = Looking(runtime)
    watch.poll()
    text = watch.out.getvalue()
    assert "item a: INTERNAL" in text
    assert "item 2 of the list: ID_INVALID" in text
    assert watch.failed


@pytest.mark.slow
def test_a_replaced_manifest_is_a_new_job(runtime: Runtime) -> None:
    put_job(runtime)
    settle(runtime)
    watch = Looking(runtime)
    watch.poll()
    put_job(runtime, id="other")
    time.sleep(SETTLING_SECONDS)
    watch.poll()
    assert len(list(runtime.results.list("events/"))) == 2


@pytest.mark.slow
def test_an_outage_is_tried_again(tmp_path: Path) -> None:
    class Away(LocalStore):
        down = True

        def put_once(
            self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None
        ) -> bool:
            if self.down:
                raise Unavailable("STORAGE_UNAVAILABLE")
            return super().put_once(key, data, metadata=metadata)

    (tmp_path / "results").mkdir()
    away = Away(tmp_path / "results")
    runtime = local_runtime(tmp_path, results=away)
    put_job(runtime)
    settle(runtime)
    watch = Looking(runtime)
    assert watch.poll() is True
    away.down = False
    assert watch.poll() is False
    assert not watch.failed


class Full(LocalStore):
    """A folder on a disk that is full, except for what is as small as a lease."""

    def put(self, key: str, data: bytes, **more: Any) -> None:
        raise Unavailable("NO_SPACE", "No space left on device.")

    def put_once(self, key: str, data: Body, **more: Any) -> bool:
        raise Unavailable("NO_SPACE", "No space left on device.")


@pytest.mark.parametrize("name", ["results", "control"])
@pytest.mark.parametrize("shard_items", [200, 1], ids=["whole", "sharded"])
def test_a_full_disk_ends_a_run_and_uses_up_no_attempt(
    tmp_path: Path, name: str, shard_items: int
) -> None:
    runtime = local_runtime(tmp_path, shard_items=shard_items, max_attempts=1)
    items = [{"id": one, "text": "One of two items, said twice."} for one in "ab"]
    key = put_job(runtime, items=items)
    settle(runtime)
    full = replace(runtime, **{name: Full(tmp_path / name)})  # type: ignore[arg-type]
    for _ in range(3):
        watch = Looking(full)
        progress = watch._progress
        ended = watch_until_stopped(full, once=True, poll=0.0, progress=progress)
        assert ended.exit_code == exit_codes.LATER
        assert any("not done: NO_SPACE: No space left on device." in line for line in ended.lines)
        assert "make room" in watch.err.getvalue()
    again = watch_until_stopped(runtime, once=True, poll=0.0, progress=Looking(runtime)._progress)
    assert (again.exit_code, again.data["jobs"][key]["status"]) == (0, "succeeded")


def test_a_job_that_was_given_up_quotes_the_last_error(tmp_path: Path) -> None:
    class Away(LocalStore):
        def put_once(self, key: str, data: Body, **more: Any) -> bool:
            raise Unavailable("STORAGE_UNAVAILABLE", "No answer from the store.")

    runtime = local_runtime(tmp_path, max_attempts=1)
    key = put_job(runtime)
    settle(runtime)
    assert Looking(replace(runtime, results=Away(tmp_path / "results"))).poll() is True
    line, _ = show_status(local_settings(tmp_path), [key]).lines[-2:]
    assert "The last recorded error: STORAGE_UNAVAILABLE: No answer" in line
    watch = Looking(runtime)
    assert watch.poll() is False
    said = watch.out.getvalue()
    assert f"{key}: failed, nothing was made" in said
    assert "no progress. The last recorded error: STORAGE_UNAVAILABLE: No answer" in said


def test_what_does_not_end_is_said_again_and_not_waited_for_without_end(tmp_path: Path) -> None:
    class Away(LocalStore):
        def head(self, key: str) -> None:
            raise Unavailable("STORAGE_UNAVAILABLE", "No answer from the store.")

    runtime = local_runtime(tmp_path)
    put_job(runtime)
    settle(runtime)
    watch = Looking(replace(runtime, results=Away(tmp_path / "results")), repeat=0, patience=0.5)
    assert [watch.poll(), watch.poll()] == [True, True]
    assert watch.err.getvalue().count("No answer from the store.") == 2
    time.sleep(0.5)
    assert watch.poll() is False
    assert watch.exit_code == exit_codes.LATER


def test_a_manifest_that_disappears_is_reported(runtime: Runtime) -> None:
    """The manifest is deleted after it was listed and before it is read."""
    put_job(runtime)
    settle(runtime)

    class Vanishing(LocalStore):
        def get(self, key: str, *, limit: int, etag: str = "") -> Object:
            if key.startswith("jobs/"):
                self.delete(key)
            return super().get(key, limit=limit, etag=etag)

    inbox = folder(runtime.inbox)
    vanishing = local_runtime(inbox.parent, inbox=Vanishing(inbox), keys=runtime.keys)
    watch = Looking(vanishing)
    watch.poll()
    assert "MANIFEST_GONE" in watch.out.getvalue()
    assert watch.failed


def test_other_json_beside_the_manifests_is_ignored_without_a_word(runtime: Runtime) -> None:
    """A large one is not read, and one may be deleted after it was listed."""

    class Vanishing(LocalStore):
        def get(self, key: str, *, limit: int, etag: str = "") -> Object:
            self.delete(key)
            return super().get(key, limit=limit, etag=etag)

    inbox = folder(runtime.inbox)
    for name in ("large.json", "gone.json"):
        (inbox / name).write_text('{"schema": "voicedrop/job/1"}')
    os.truncate(inbox / "large.json", 1 << 40)
    settle(runtime)
    watch = Looking(local_runtime(inbox.parent, inbox=Vanishing(inbox), keys=runtime.keys))
    assert watch.poll() is False
    assert "is ignored" not in watch.out.getvalue() + watch.err.getvalue()
    assert not (inbox / "gone.json").exists()


@pytest.mark.slow
def test_waiting_is_reported_and_ends_when_the_file_arrives(runtime: Runtime) -> None:
    key = put_job(runtime, wait_s=600)
    runtime.inbox.delete("refs/alice.flac")
    settle(runtime)
    watch = Looking(runtime)
    watch.poll()
    waits = {"status": "waiting", "for": ["refs/alice.flac"]}
    assert (watch.waiting, watch.jobs[key]) == (True, waits)
    runtime.inbox.put("refs/alice.flac", REFERENCE.read_bytes())
    watch.poll()
    assert not watch.waiting
    assert commit.read_result(watch.jobs[key]["job"], runtime)


@pytest.mark.slow
def test_progress_counts_items_and_names_a_failure_when_it_happens(runtime: Runtime) -> None:
    texts = {"a": "Fine words.", "b": "!bug", "c": "More fine words."}
    put_job(runtime, items=[{"id": name, "text": text} for name, text in texts.items()])
    settle(runtime)
    watch = Looking(runtime)
    watch.poll()
    prepare, first, learned, speak, *items = watch.err.getvalue().splitlines()
    assert "learning the voice" in first
    assert "voice learned in " in learned
    for begun, stage in ((prepare, "preparing the reference"), (speak, "speaking")):
        assert begun.endswith(f": {stage} ..."), "in a pipe, each long step is announced once"
    assert [line[-8:] for line in items] == ["(1 of 3)", "(2 of 3)", "(3 of 3)"]
    assert "item b: INTERNAL: ZeroDivisionError" in items[1]


@pytest.mark.slow
def test_a_run_speaks_only_of_what_is_new(runtime: Runtime) -> None:
    put_job(runtime, name="bad", items=[{"id": "b", "text": "!bug"}])
    put_job(runtime, name="good")
    settle(runtime)
    first = Looking(runtime)
    first.poll()
    assert (first.exit_code, first.closing_lines()) == (1, ["2 jobs: 1 failed, 1 succeeded."])
    again = Looking(runtime)
    again.poll()
    assert (again.exit_code, again.out.getvalue()) == (0, "")
    assert again.closing_lines() == ["Nothing new in the inbox."]
    assert "2 jobs finished before this run, 1 of them not successfully" in again.err.getvalue()
    (folder(runtime.inbox) / "jobs/bad.manifest.json").touch()  # the same bytes again
    time.sleep(SETTLING_SECONDS)
    again.poll()
    assert "carried out before, as job" in again.out.getvalue()
    assert "voicedrop retry " in again.out.getvalue()
    assert again.exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [0, 1])
def test_jobs_of_one_item_are_made_at_once_and_their_voice_is_learned_once(
    tmp_path: Path, lanes: int
) -> None:
    voice = Together(expected=1 if lanes else 3)
    runtime = local_runtime(tmp_path, voice=voice, lanes=lanes)
    keys = [put_job(runtime, name=f"{n}") for n in range(5)]
    settle(runtime)
    watch = Looking(runtime)
    assert watch.poll() is False
    assert voice.most == (lanes or 3)
    assert len(voice.enrolled) == 1
    assert sorted(watch.jobs) == keys
    assert watch.closing_lines() == ["5 jobs: 5 succeeded."]


@pytest.mark.slow
def test_a_job_that_the_operator_must_correct_ends_the_jobs_beside_it(tmp_path: Path) -> None:
    def fail(text: str) -> None:
        if text == "Fail.":
            raise Misconfigured("MODEL_INVALID")

    voice = Together(then=fail, seconds_each=0.1)
    runtime = local_runtime(tmp_path, voice=voice)
    put_job(runtime, name="bad", items=[{"id": "a", "text": "Fail."}])
    put_job(runtime, name="good", items=[{"id": n, "text": "Good. " * 60} for n in "ab"])
    settle(runtime)
    with pytest.raises(Misconfigured):
        Looking(runtime).poll()
    assert [one.name for one in threading.enumerate() if one.name.startswith("lane")] == []
    assert voice.most == 3
    assert list(runtime.results.list("out/")) == []


@pytest.mark.slow
def test_remarks_that_change_what_is_heard_are_shown(runtime: Runtime) -> None:
    put_job(runtime, items=[{"id": "a", "text": "Fine words \N{GRINNING FACE}."}])
    alice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}
    voices = {"alice": alice | {"channel": "loudest"}}
    put_job(runtime, name="long", reference=long_telephone_recording(), voices=voices)
    settle(runtime)
    watch = Looking(runtime)
    watch.poll()
    shown = watch.out.getvalue()
    assert "item a: TEXT_DROPPED_CHARS: " in shown
    assert "voice alice (refs/alice.flac): TRIMMED: " in shown
    assert "voice alice (refs/alice.flac): LOW_BANDWIDTH: " in shown
    assert shown.count("voice alice: channel loudest, window best") == 1


def long_telephone_recording() -> bytes:
    samples, rate = soundfile.read(REFERENCE)
    narrow = soxr.resample(np.tile(samples, 4), rate, 8000)
    file = io.BytesIO()
    soundfile.write(file, narrow, 8000, format="WAV")
    return file.getvalue()


def test_what_looks_like_a_manifest_is_not_ignored_without_a_word(runtime: Runtime) -> None:
    manifest = b'{"schema": "voicedrop/job/1"}'
    ignored = [
        "jobs/my.json",
        "jobs/items.csv",
        "jobs/my.manifest.json.txt",
        "my.manifest.json",
        "jsbs/my.json",
    ]
    others = ["refs/a.json", "consent/alice.json", "jobs/read.me", "jobs/._my.manifest.json"]
    for key in [*ignored, *others]:
        runtime.inbox.put(key, manifest if key in ignored else b"{}")
    settle(runtime)
    watch = Looking(runtime)
    for _ in range(2):
        assert watch.poll() is False
    said = watch.err.getvalue().splitlines()
    assert sorted(line.split(" is ignored: ")[0] for line in said) == sorted(ignored)
    assert all("ends in .manifest.json" in line or "under jobs/" in line for line in said)
    assert watch.jobs == {}


def test_a_job_of_another_worker_is_spoken_of_once(runtime: Runtime) -> None:
    key = put_job(runtime)
    settle(runtime)
    job = commit.read_manifest(key, runtime).job_id
    watch = Looking(runtime)
    with Lease.acquire(runtime.control, job, "another", 60, runtime.keys):
        assert [watch.poll(), watch.poll()] == [True, True]
    assert watch.err.getvalue().count("another has the lease") == 1


def test_a_file_with_a_time_in_the_future_does_not_keep_a_run_from_ending(runtime: Runtime) -> None:
    key = put_job(runtime, colour="blue")
    os.utime(folder(runtime.inbox) / key, (time.time() + 3600,) * 2)
    watch = Looking(runtime)
    assert watch.poll() is False
    assert watch.jobs[key]["status"] == "rejected"
