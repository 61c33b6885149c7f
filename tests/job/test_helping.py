"""A waiting worker makes items of a job that another one carries out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from core.job import attempt, cancellation, commit
from core.job.helping import help_with
from core.job.runtime import Runtime
from core.result.cost import parse_prices
from core.voice import SpeechChunk, Voiceprint
from tests.support.runtime import BuzzVoice, finish_job, local_runtime, put_job, with_voice

ITEMS = [{"id": f"i{n}", "text": f"Item number {n}."} for n in range(6)]


@dataclass
class PausingVoice(BuzzVoice):
    """Calls `pause` before it speaks item `at` for the first time."""

    at: int = 0
    pause: Callable[[], object] = lambda: None
    spoken: list[str] = field(default_factory=list)

    def speak(self, text: str, voiceprint: Voiceprint, **options: Any) -> Iterator[SpeechChunk]:
        if text == ITEMS[self.at]["text"] and text not in self.spoken:
            self.pause()
        yield from super().speak(text, voiceprint, **options)


def helped_while_paused(
    root: Path, helping: Callable[[str, Runtime], object], at: int = 1, **fields: Any
) -> tuple[Runtime, str]:
    """Carry out a job of six items, and call `helping` before item `at` is spoken. The worker has
    one lane."""
    runtime = local_runtime(root, lanes=1, prices=parse_prices("currency=USD unit=1 cpu=1*1"))
    key = put_job(runtime, items=ITEMS, **fields)
    voice = PausingVoice(at=at, pause=lambda: helping(key, runtime))
    return with_voice(runtime, voice), key


def in_a_worker_of_its_own(runtime: Runtime, voice: BuzzVoice) -> Runtime:
    return with_voice(runtime, voice, worker="helper", concurrency=type(runtime.concurrency)())


def test_a_helper_makes_the_last_items_which_the_result_names_in_order(tmp_path: Path) -> None:
    helper = BuzzVoice()

    def helping(key: str, runtime: Runtime) -> None:
        assert help_with(key, in_a_worker_of_its_own(runtime, helper), least_s=-1)
        assert not help_with(key, in_a_worker_of_its_own(runtime, helper), least_s=-1)

    runtime, key = helped_while_paused(tmp_path, helping)
    result = finish_job(key, runtime)
    assert [item.id for item in result.items] == [item["id"] for item in ITEMS]
    assert result.status == "succeeded"
    assert not {notice.code for item in result.items for notice in item.notices}
    assert helper.spoken == [item["text"] for item in reversed(ITEMS[1:])]
    assert helper.enrolled == []
    assert result.cost is not None
    alone = finish_job(key, helped_while_paused(tmp_path / "alone", lambda *_: None)[0])
    assert alone.cost is not None
    assert result.cost.calls == alone.cost.calls + 1


def test_items_that_a_helper_stored_stay_when_the_job_is_cancelled(tmp_path: Path) -> None:
    def helping(key: str, runtime: Runtime) -> None:
        job = commit.read_manifest(key, runtime).job_id
        voice = PausingVoice(at=4, pause=lambda: cancellation.cancel(runtime.inbox, key, job))
        assert help_with(key, in_a_worker_of_its_own(runtime, voice), least_s=-1)

    runtime, key = helped_while_paused(tmp_path, helping)
    result = finish_job(key, runtime)
    codes = [item.error.code if item.error else "" for item in result.items]
    assert codes == ["", "", "JOB_CANCELLED", "JOB_CANCELLED", "", ""]
    for item in result.items[4:]:
        assert item.output
        assert runtime.results.head(item.output.key)


def _with_a_dead_helper(runtime: Runtime, key: str) -> Runtime:
    name = f"{commit.read_manifest(key, runtime).job_id}.help"
    with attempt.begin(name, "", runtime):
        pass
    return runtime


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({}, lambda runtime, _: replace(runtime, shard_items=5)),
        ({"output": {"concatenate": "book"}}, lambda runtime, _: runtime),
        ({}, lambda runtime, _: with_voice(runtime, BuzzVoice(fingerprint="buzz/2"))),
        ({}, _with_a_dead_helper),
    ],
    ids=["cut", "joined", "another engine", "an item may have killed a helper"],
)
def test_nobody_helps_where_that_is_not_safe(
    tmp_path: Path, fields: dict[str, Any], change: Callable[[Runtime, str], Runtime]
) -> None:
    answers = []

    def helping(key: str, runtime: Runtime) -> None:
        helper = change(in_a_worker_of_its_own(runtime, BuzzVoice()), key)
        answers.append(help_with(key, helper, least_s=-1))

    runtime, key = helped_while_paused(tmp_path, helping, **fields)
    finish_job(key, runtime)
    assert answers == [False]


def test_nobody_helps_with_a_short_rest_or_a_job_that_nobody_carries_out(tmp_path: Path) -> None:
    answers = []
    runtime, key = helped_while_paused(
        tmp_path,
        lambda key, runtime: answers.append(
            help_with(key, in_a_worker_of_its_own(runtime, BuzzVoice()))
        ),
    )
    assert not help_with(key, runtime, least_s=-1)
    finish_job(key, runtime)
    assert not help_with(key, runtime, least_s=-1)
    assert answers == [False]


def test_one_worker_helps_at_a_time(tmp_path: Path) -> None:
    refused = threading.Event()

    def helping(key: str, runtime: Runtime) -> None:
        def ask() -> None:
            other = in_a_worker_of_its_own(runtime, BuzzVoice())
            if not help_with(key, replace(other, worker="third"), least_s=-1):
                refused.set()

        voice = PausingVoice(at=4, pause=ask)
        assert help_with(key, in_a_worker_of_its_own(runtime, voice), least_s=-1)

    runtime, key = helped_while_paused(tmp_path, helping)
    finish_job(key, runtime)
    assert refused.is_set()
