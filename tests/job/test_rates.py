"""Dry runs estimate work and cost by the rates of items that were made here."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.errors import Misconfigured
from core.job.rates import INTERVAL_S, KEPT, Learned, Rates, Sample
from core.job.runtime import Runtime
from core.label import aigc
from core.label.aigc import Cue
from core.manifest import resolve
from core.result.cost import PriceTable
from core.result.document import Estimate, Result
from core.result.item_result import ItemResult, Output
from core.storage.local import LocalStore
from core.storage.object_keys import rates_key
from tests.support.manifests import encode, manifest
from tests.support.present import present
from tests.support.runtime import BuzzVoice, finish_job, local_runtime, put_job

WORDS = "These are the words of an item of the batch, and there are enough of them"
ITEMS = [
    {"id": f"i{n}", "text": f"{WORDS}. {WORDS}, number {n}.", "pause_ms": 90} for n in range(5)
]
PRICES = PriceTable("USD", {"instance": 1.0}, call=100.0, step=0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runtime, Estimate, Result]:
    """A runtime, an estimate that it made for a batch, and then the result of the batch."""
    runtime = local_runtime(
        tmp_path_factory.mktemp("rates"), identify_voice=lambda: BuzzVoice.fingerprint
    )
    return runtime, estimate(runtime), finish_job(put_job(runtime, items=ITEMS), runtime)


def estimate(runtime: Runtime, **fields: Any) -> Estimate:
    name = f"dry-{time.monotonic_ns()}"
    key = put_job(runtime, name=name, **({"mode": "validate", "items": ITEMS} | fields))
    return present(finish_job(key, runtime).estimate)


def test_before_anything_is_measured_an_estimate_says_that_it_is_none_of_this_machine(
    measured: tuple[Runtime, Estimate, Result],
) -> None:
    _, before, _ = measured
    assert (before.basis, before.voices, before.languages["en"].measured) == ("default", 1, 0)
    assert present(before.seconds) > 15, "a voice is to be learned"


def test_after_a_batch_the_same_batch_is_estimated_as_it_was(
    measured: tuple[Runtime, Estimate, Result],
) -> None:
    runtime, _, done = measured
    after = estimate(runtime)
    assert (after.basis, after.voices, after.languages["en"].measured) == ("measured", 0, 5)
    assert after.audio_s == pytest.approx(done.totals.audio_s, rel=0.02)
    work = sum(sum(item.timings.values()) for item in done.items)
    assert 0.5 * work < present(after.seconds) < 2 * work + 0.2


def test_a_language_that_was_not_measured_makes_the_estimate_a_default(
    measured: tuple[Runtime, Estimate, Result],
) -> None:
    items = [*ITEMS, {"id": "zh", "text": "你好，世界。", "language": "zh"}]
    found = estimate(measured[0], items=items)
    assert (found.basis, found.languages["en"].measured > 0) == ("default", True)
    assert found.languages["zh"].measured == 0


@pytest.mark.parametrize(
    ("price", "shard_items", "calls"),
    [(0.0, 200, 1), (6.0, 200, 1), (0.0, 2, 4)],
    ids=["table", "table before price", "cut"],
)
def test_measured_work_is_priced_by_the_table(
    measured: tuple[Runtime, Estimate, Result],
    price: float,
    shard_items: int,
    calls: int,
) -> None:
    runtime = replace(measured[0], price=price, prices=PRICES, shard_items=shard_items)
    found = estimate(runtime)
    assert found.currency == "USD"
    assert found.cost == pytest.approx(present(found.seconds) + 100 * calls, abs=0.06)


def test_the_price_of_a_minute_counts_until_the_work_is_measured(
    measured: tuple[Runtime, Estimate, Result],
) -> None:
    priced = replace(measured[0], price=6.0)
    found = estimate(priced)
    assert found.cost == pytest.approx(found.audio_s / 10)
    assert found.currency == ""
    fresh = replace(priced, prices=PRICES, rates=Rates("gpt_sovits"))
    found = estimate(fresh)
    assert found.cost == pytest.approx(found.audio_s / 10)
    assert found.basis == "default"
    assert estimate(replace(fresh, price=0.0)).currency == "USD"


def job_of(**fields: Any) -> resolve.Job:
    return resolve.parse_job(encode(manifest(**fields)))


def made(id_: str, seconds: float, **timings: float) -> ItemResult:
    output = Output(
        key="k",
        bytes=1,
        sealed_sha256="0" * 64,
        plain_sha256="0" * 64,
        media_type="audio/wav",
        duration_s=seconds,
        sample_rate=24_000,
    )
    return ItemResult(id=id_, index=0, status="succeeded", output=output, timings=timings)


def test_pauses_labels_and_speed_are_no_part_of_the_rate(tmp_path: Path) -> None:
    cue: Cue = "morse-both"
    items = [
        {"id": "a", "text": "x" * 40, "speed": 2.0, "pause_ms": 500},
        {"id": "b", "text": "y" * 20},
        {"id": "kept", "text": "z" * 90},
        {"id": "cached", "text": "z" * 90},
    ]
    job = job_of(items=items, label={"cue": cue, "profile": "cn"})
    extra = aigc.lead_seconds(cue) + aigc.trail_seconds(cue)
    runtime, rates = local_runtime(tmp_path), Rates()
    results = [
        made("a", 1.0 + 0.5 + extra, speak=3.0, encode=1.0),
        made("b", 1.0 + extra, speak=2.0),
        made("kept", 9.0),
        made("cached", 9.0, cache=0.5, encode=1.5),
    ]
    rates.measure_items(job, results, work_s=4.0)  # on two lanes
    rates.store(runtime.control, runtime.keys)
    learned = rates.read(runtime.control, runtime.keys)
    assert learned.items == {"en": 2}
    assert present(learned.characters_per_s("en")) == pytest.approx(60 / 3)
    assert present(learned.real_time_factor("en")) == pytest.approx(3.0 / 3)


def test_a_sample_that_was_disturbed_moves_nothing_and_old_ones_are_forgotten() -> None:
    usual, disturbed = Sample(1, 100, 10.0, 4.0), Sample(1, 100, 10.0, 400.0)
    assert Learned(engine="e", samples={"en": [usual, disturbed, usual]}).real_time_factor(
        "en"
    ) == pytest.approx(0.4)
    assert Learned(engine="e", voices_s=[30.0, 14.0, 15.0]).voice_s() == 15.0
    assert Learned(engine="e").voice_s() is None


def test_rates_are_stored_once_a_minute_and_only_the_newest_samples_count(tmp_path: Path) -> None:
    runtime, rates, job = local_runtime(tmp_path), Rates(), job_of()
    (item,) = job.items

    def measure(work_s: float) -> Learned:
        rates.measure_items(job, [made(item.id, 2.0, speak=1.0)], work_s)
        rates.store(runtime.control, runtime.keys)
        return rates.read(runtime.control, runtime.keys)

    first = measure(1.0)
    assert measure(1.0) == first
    for n in range(KEPT + 1):
        rates._next -= INTERVAL_S
        last = measure(n)
    (samples,) = last.samples.values()
    assert (last.items[item.language], len(samples)) == (KEPT + 3, KEPT)
    assert samples[-1].work_s == KEPT
    stored = runtime.control.get(rates_key("kokoro"), limit=10**6).data
    assert not {"alice", item.text, item.id} & {str(part) for part in msgspec.json.decode(stored)}


class Forbidden(LocalStore):
    def put(self, key: str, data: bytes, **more: Any) -> None:
        if key.startswith("rates/"):
            raise Misconfigured("BUCKET_FORBIDDEN")
        super().put(key, data, **more)


def test_a_job_does_not_fail_because_its_rates_cannot_be_stored(
    measured: tuple[Runtime, Estimate, Result], caplog: pytest.LogCaptureFixture
) -> None:
    runtime = measured[0]
    control = Forbidden(Path(runtime.control._root))  # type: ignore[attr-defined]
    forbidden = replace(runtime, control=control, rates=Rates())
    done = finish_job(put_job(runtime, name="forbidden", items=ITEMS[:1]), forbidden)
    assert done.status == "succeeded"
    assert "Rates are not stored." in caplog.messages
