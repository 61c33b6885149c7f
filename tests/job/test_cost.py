"""Every result states what it cost: the seconds for which its attempts are charged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from core.errors import Unavailable
from core.job.meter import Meter
from core.job.runtime import Runtime
from core.result.cost import Cost, PriceTable
from core.result.document import Result, read_parts
from core.voice import SpeechChunk, Voiceprint
from tests.support.present import present
from tests.support.runtime import BuzzVoice, finish_job, local_runtime, put_job
from tests.support.shards import run_all_shards

PRICES = PriceTable("USD", {"instance": 1.0}, call=100.0, step=0)
THREE = [{"id": id_, "text": f"Some words, number {id_}."} for id_ in "abc"]


@dataclass
class Unsteady(BuzzVoice):
    """Its first attempts at speaking end, after some time, as if the store had failed."""

    failures: int = 0

    def speak(self, text: str, voiceprint: Voiceprint, **how: Any) -> Iterator[SpeechChunk]:
        if self.failures:
            self.failures -= 1
            time.sleep(0.3)
            raise Unavailable("STORAGE_UNAVAILABLE", "A test.")
        return super().speak(text, voiceprint, **how)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """One whose voice is known already."""
    runtime = local_runtime(tmp_path_factory.mktemp("cost"), prices=PRICES)
    finish_job(put_job(runtime, name="known"), runtime)
    return runtime


def timed(make: Callable[[], Result]) -> tuple[Cost, float]:
    start = time.monotonic()
    result = make()
    return present(result.cost), time.monotonic() - start


def test_a_result_costs_its_seconds_and_its_call(runtime: Runtime) -> None:
    key = put_job(runtime, name="one")
    cost, wall = timed(lambda: finish_job(key, runtime))
    assert wall / 2 < cost.seconds < wall
    assert (cost.calls, cost.by) == (1, {"instance": cost.seconds, "call": 100.0})


@pytest.mark.parametrize(
    "fields", [{"mode": "validate"}, {"voices": {}}], ids=["dry run", "rejected"]
)
def test_a_job_that_makes_nothing_states_its_cost_too(
    runtime: Runtime, fields: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    done = finish_job(put_job(runtime, name=request.node.callspec.id, **fields), runtime)
    assert present(done.cost).calls == 1


def test_without_a_price_table_nothing_is_stated(runtime: Runtime) -> None:
    key = put_job(runtime, name="free")
    assert finish_job(key, replace(runtime, prices=None)).cost is None


def test_failed_attempts_are_counted(runtime: Runtime) -> None:
    voice = Unsteady(failures=2)
    unsteady = replace(runtime, load_voice=lambda: voice)
    key = put_job(runtime, name="unsteady")
    for _ in range(2):
        with pytest.raises(Unavailable):
            finish_job(key, unsteady)
    cost = present(finish_job(key, unsteady).cost)
    assert (cost.calls, cost.seconds > 0.6) == (3, True)


def test_jobs_that_are_made_at_once_share_the_seconds_of_the_instance(runtime: Runtime) -> None:
    voice = BuzzVoice(seconds_each=0.5)
    slow = replace(runtime, load_voice=lambda: voice)
    keys = [put_job(runtime, name=f"at-once-{n}") for n in range(3)]
    start = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        costs = [present(done.cost) for done in pool.map(lambda key: finish_job(key, slow), keys)]
    wall = time.monotonic() - start
    assert all(cost.seconds > 0.5 / 3 for cost in costs)
    assert sum(cost.seconds for cost in costs) < wall


def test_a_job_that_was_cut_costs_its_parts_and_the_cutting(runtime: Runtime) -> None:
    cutting = replace(runtime, shard_items=2)
    result = run_all_shards(cutting, put_job(runtime, name="cut", items=THREE))
    of_parts = [
        present(part.cost)
        for part in read_parts(result, lambda key: runtime.results.get(key, limit=10**6).data)
    ]
    cost = present(result.cost)
    assert [one.calls for one in of_parts] == [1, 1]
    assert (cost.calls, cost.by["call"]) == (3, 300.0)
    assert cost.seconds > sum(one.seconds for one in of_parts)


def test_time_is_divided_among_those_who_are_active_in_it() -> None:
    meter = Meter()
    with meter.share() as one:
        time.sleep(0.1)
        before = one.seconds()
        with meter.share() as two:
            time.sleep(0.2)
            assert abs(two.seconds() - (one.seconds() - before)) < 0.02
        between = one.seconds()
        time.sleep(0.05)
        assert one.seconds() - between >= 0.05
    assert (two.seconds() >= 0.1, two.seconds()) == (True, two.charged)
    time.sleep(0.01)
    assert one.seconds() == one.charged
