from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from core.errors import Unavailable
from core.job import commit
from core.job.runtime import Runtime
from core.storage.local import LocalStore
from core.storage.port import Body, Object, Store
from handlers.cli.screen import Progress
from handlers.cli.watch import SETTLING_SECONDS, Watch
from tests.support.runtime import REFERENCE, BuzzVoice, local_runtime, put_job


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def looking(runtime: Runtime) -> Watch:
    return Watch(runtime, Progress(Console(file=io.StringIO())))


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
    watch = looking(runtime)
    assert watch.poll() is False
    text = "\n".join(watch.lines)
    assert f"{key}: succeeded, 1 of 1 items" in text
    assert "voice alice, by ge2e: 0.50 unadapted -> 0.70 (the same person: 0.90)" in text
    assert "results/out/" in text
    watch.lines.clear()
    assert watch.poll() is False
    assert watch.lines == []


@pytest.mark.slow
def test_a_file_that_is_still_being_copied_waits_for_the_next_scan(runtime: Runtime) -> None:
    put_job(runtime)
    watch = looking(runtime)
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
    watch = looking(runtime)
    watch.poll()
    text = "\n".join(watch.lines)
    assert "item a: INTERNAL" in text
    assert "item 1: ID_INVALID" in text
    assert watch.failed


@pytest.mark.slow
def test_a_replaced_manifest_is_a_new_job(runtime: Runtime) -> None:
    put_job(runtime)
    settle(runtime)
    watch = looking(runtime)
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
    watch = looking(runtime)
    assert watch.poll() is True
    away.down = False
    assert watch.poll() is False
    assert not watch.failed


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
    watch = looking(vanishing)
    watch.poll()
    assert any("MANIFEST_GONE" in line for line in watch.lines)
    assert watch.failed


@pytest.mark.slow
def test_waiting_is_reported_and_ends_when_the_file_arrives(runtime: Runtime) -> None:
    key = put_job(runtime, wait_s=600)
    runtime.inbox.delete("refs/alice.flac")
    settle(runtime)
    watch = looking(runtime)
    watch.poll()
    waits = {"status": "waiting", "for": ["refs/alice.flac"]}
    assert (watch.waiting, watch.jobs[key]) == (True, waits)
    runtime.inbox.put("refs/alice.flac", REFERENCE.read_bytes())
    watch.poll()
    assert not watch.waiting
    assert commit.read_result(watch.jobs[key]["job"], runtime)
