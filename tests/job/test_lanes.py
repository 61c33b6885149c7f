"""Items that are made side by side: the same outputs, and nothing goes on after the job is left."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.crypto import sealing
from core.errors import Unavailable
from core.job.lanes import Lanes, Places, Stopped
from core.job.runtime import Runtime, Step
from core.voice import SpeechChunk, Voiceprint
from tests.support.present import present
from tests.support.runtime import local_runtime, put_job, run_job, with_voice
from tests.support.side_by_side import SECONDS, Together

ITEMS = [
    {
        "id": f"i{n}",
        "text": f"The words of item number {n}.",
        "format": ("wav", "flac", "mp3")[n % 3],
    }
    for n in range(6)
]


def opened(runtime: Runtime) -> dict[str, bytes]:
    """The outputs by key, without what differs between two seals of the same file."""
    found = {}
    for info in runtime.results.list("out/"):
        if info.key.endswith(".sealed"):
            stored = runtime.results.get(info.key, limit=10**8)
            envelope = sealing.envelope_from_metadata(stored.info.metadata)
            found[info.key] = sealing.open_sealed(stored.data, envelope, runtime.keys.wrapping)
    return found


def lanes_alive() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("lane")]


def test_side_by_side_the_outputs_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    items = [*ITEMS[:2], {"id": "bug", "text": "!bug"}, {"id": "empty", "text": ""}, *ITEMS[2:]]
    steps: list[Step] = []
    voice = Together()
    several = local_runtime(tmp_path / "several", voice=voice, observe=steps.append)
    single = local_runtime(tmp_path / "single", lanes=1, keys=several.keys)
    results = [run_job(put_job(runtime, items=items), runtime) for runtime in (single, several)]
    assert voice.most == 3
    assert len(opened(single)) == 6
    assert opened(several) == opened(single)
    listed = [[(i.id, i.status, i.error and i.error.code) for i in one.items] for one in results]
    assert listed[0] == listed[1]
    assert [one[0] for one in listed[0]] == [item["id"] for item in items]
    assert [step.done for step in steps if step.result] == list(range(1, 9))
    assert lanes_alive() == []


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_setting_limits_the_lanes(tmp_path: Path, lanes: int) -> None:
    voice = Together(callers=5, expected=lanes)
    runtime = local_runtime(tmp_path, voice=voice, lanes=lanes)
    assert run_job(put_job(runtime, items=ITEMS), runtime).status == "succeeded"
    assert voice.most == lanes


def test_an_outage_in_one_lane_ends_the_others_before_the_job_is_left(tmp_path: Path) -> None:
    @dataclass
    class Endless(Together):
        def speak(self, text: str, voiceprint: Voiceprint, **how: Any) -> Iterator[SpeechChunk]:
            ends = time.monotonic() + SECONDS
            for chunk in super().speak(text, voiceprint, **how):
                while time.monotonic() < ends:
                    time.sleep(0.01)
                    yield chunk

    def fail(text: str) -> None:
        if text == ITEMS[1]["text"]:
            raise Unavailable("STORAGE_UNAVAILABLE", "An outage.")

    runtime = local_runtime(tmp_path, voice=Endless(then=fail))
    key = put_job(runtime, items=ITEMS)
    with pytest.raises(Unavailable, match=r"An outage\."):
        run_job(key, runtime)
    assert lanes_alive() == []
    assert opened(runtime) == {}
    again = Together(expected=1)
    assert run_job(key, with_voice(runtime, again)).status == "succeeded"
    assert again.most == 1, "an attempt that is repeated makes one item at a time"


def test_ctrl_c_ends_every_lane_and_uses_up_no_attempt(tmp_path: Path) -> None:
    def interrupt(text: str) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    runtime = local_runtime(tmp_path, voice=Together(then=interrupt))
    key = put_job(runtime, items=ITEMS)
    with pytest.raises(KeyboardInterrupt):
        run_job(key, runtime)
    assert lanes_alive() == []
    voice = Together()
    assert run_job(key, with_voice(runtime, voice)).status == "succeeded"
    assert voice.most == 3


def test_ctrl_c_while_the_caller_waits_ends_after_the_other_lanes() -> None:
    said: list[str] = []

    def step() -> bool:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.1)  # until the main thread waits
            signal.pthread_kill(present(threading.main_thread().ident), signal.SIGINT)
            time.sleep(0.1)
            said.append("lane ended")
        return False

    with pytest.raises(KeyboardInterrupt):
        Lanes().repeat(step, 2, lambda: said.append("waiting"))
    assert said == ["waiting", "lane ended"]


def test_a_withdrawn_voice_speaks_no_more_than_what_was_begun(tmp_path: Path) -> None:
    voice = Together()
    runtime = local_runtime(tmp_path, voice=voice)
    voice.then = lambda text: runtime.inbox.put("consent/alice.json.revoked", b"")
    done = run_job(put_job(runtime, items=ITEMS), runtime)
    assert {present(item.error).code for item in done.items} == {"CONSENT_REVOKED"}
    assert len(voice.spoken) == 3
    assert opened(runtime) == {}


@dataclass
class Counting:
    """A step that is repeated until the numbers are used up."""

    numbers: list[int] = field(default_factory=lambda: list(range(40)))

    def __call__(self) -> bool:
        time.sleep(0.001)
        try:
            self.numbers.pop()
        except IndexError:
            return False
        return True


def test_lanes_end_with_the_work_and_a_lane_that_is_stopped_says_so() -> None:
    lanes, counting = Lanes(), Counting()
    lanes.repeat(counting, 4)
    assert counting.numbers == []

    def fail() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lanes.repeat(fail, 3)
    with pytest.raises(Stopped):
        lanes.check()
    assert lanes_alive() == []


def test_places_go_to_whoever_waits_longest() -> None:
    """A job of one item need not wait for the end of a long one."""
    places, order = Places(), list[str]()
    is_held, may_end = threading.Event(), threading.Event()

    def long_job() -> None:
        for number in range(3):
            with places.hold(1):
                order.append(f"long {number}")
                is_held.set()
                may_end.wait(SECONDS)

    def short_job() -> None:
        with places.hold(1):
            order.append("short")

    threads = [threading.Thread(target=job) for job in (long_job, short_job)]
    threads[0].start()
    is_held.wait(SECONDS)
    threads[1].start()
    while len(places._waiting) < 1:
        time.sleep(0.001)
    may_end.set()
    for thread in threads:
        thread.join()
    assert order == ["long 0", "short", "long 1", "long 2"]


def test_every_lane_has_the_context_of_its_caller() -> None:
    """So that its lines in the log state the request."""
    request: ContextVar[str] = ContextVar("request", default="none")
    barrier, seen = threading.Barrier(3, timeout=10), []

    def step() -> bool:
        barrier.wait()
        seen.append(request.get())
        return False

    token = request.set("r-1")
    Lanes().repeat(step, 3)
    request.reset(token)
    assert seen == ["r-1"] * 3
