"""The format, the secrecy of the key and the false-positive bound of the watermark."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import watermark
from tests.support.speech import FOLDER, KEY, NAMES, OTHER_KEY, RATE, load_clip
from watermark import cells, search, warps
from watermark.layout import BANDS, PERIOD, TILE, derive_layout
from watermark.receiver import NO_WARP, PAYLOAD_COST, SYNC_COST, Warp, bound, make_receiver

ROOT = Path(__file__).parents[2]


def digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_the_layout_is_pinned() -> None:
    """The format must not change: released audio is marked with this layout."""
    layout = derive_layout(KEY)
    assert digest((layout.chips < 0).astype(np.uint8)) == "de593555c915c85b"
    assert digest(layout.bit_index.astype("<i4")) == "b8dac7e4fa3f2526"
    assert digest((layout.spread(0xDEADBEEF) < 0).astype(np.uint8)) == "f9ff07923e328995"
    assert [layout.derive_start(7, segment, b"host") for segment in range(3)] == [897, 78, 1753]


def test_the_embedder_is_pinned() -> None:
    """Within a tolerance, since transforms may differ in the last bit from machine to machine."""
    out = watermark.embed(load_clip()[:RATE], RATE, 7, KEY)
    change = np.sqrt(np.mean((out - load_clip()[:RATE]).reshape(20, -1) ** 2, axis=1)) * 1e5
    due = [
        697.7,
        403.57,
        220.71,
        194.27,
        128.44,
        134.53,
        1307.23,
        606.38,
        179.54,
        339.32,
        109.07,
        70.29,
        15.19,
        4.97,
        4.7,
        4.78,
        4.66,
        4.51,
        4.22,
        4.46,
    ]
    assert change.tolist() == pytest.approx(due, rel=0.01, abs=0.1)


def test_a_pinned_clip_still_reads() -> None:
    """The clip of 1.6 s was marked by the first release."""
    samples, rate = soundfile.read(FOLDER.parent / "watermark" / "marked-1.flac", dtype="float32")
    assert watermark.detect(samples, rate, KEY, thorough=False).payload == 0xDEADBEEF


def test_every_tile_holds_every_coded_bit_four_or_five_times() -> None:
    layout = derive_layout(KEY)
    counts = np.bincount(layout.bit_index[layout.bit_index >= 0], minlength=264)
    assert set(counts.tolist()) == {4, 5}
    assert int((layout.bit_index < 0).sum()) == 252


def test_a_layout_does_not_print_its_key() -> None:
    assert repr(KEY) not in repr(derive_layout(KEY))
    assert "key" not in repr(derive_layout(KEY))


@pytest.mark.slow
def test_importing_the_watermark_loads_nothing_slow() -> None:
    code = "import sys, watermark; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_chips_of_two_keys_are_uncorrelated() -> None:
    one, other = derive_layout(KEY), derive_layout(OTHER_KEY)
    assert abs(np.mean(one.chips * other.chips)) < 0.02


def test_hosts_and_payloads_have_different_starts() -> None:
    layout = derive_layout(KEY)
    starts = {
        layout.derive_start(payload, 0, bytes([host])) for payload in range(8) for host in range(8)
    }
    assert len(starts) > 60
    assert all(0 <= start < PERIOD for start in starts)


@pytest.mark.slow
def test_averaging_marked_clips_shows_no_signs() -> None:
    """An attacker without the key averages forty clips of one payload."""
    slots = 60
    average = np.zeros((BANDS, slots))
    for number in range(40):
        at = number % 10 * 4_000
        host = np.roll(load_clip(NAMES[number % 4]), number)[at : at + 2 * RATE]
        spectrogram = cells.compute_spectrogram(watermark.embed(host, RATE, 7, KEY), RATE)
        average += search.soft_value_grids(spectrogram, NO_WARP, 1)[0][:, :slots]
    chance = best_agreement(np.random.default_rng(1).normal(size=average.shape))
    assert best_agreement(average) < chance + 0.04


def best_agreement(average: NDArray[np.float64]) -> float:
    sync = derive_layout(KEY).sync
    slots = average.shape[1]
    shares = []
    for start in range(PERIOD):
        truth = sync[:, (start + np.arange(slots)) % PERIOD]
        shares.append(float(np.mean((np.sign(average) == truth)[truth != 0])))
    return max(shares)


@pytest.mark.slow
def test_z_on_unmarked_speech_has_the_tail_of_a_normal_distribution() -> None:
    tail = total = 0
    for number, name in enumerate(NAMES):
        spectrogram = cells.compute_spectrogram(load_clip(name), RATE)
        for salt in range(3):
            receiver = make_receiver(bytes([number, salt]) * 16)
            inner, energy = receiver.correlate(search.soft_value_grids(spectrogram, NO_WARP))
            z = inner / np.sqrt(energy)
            tail += int((z > 3).sum())
            total += z.size
    assert tail < 1.4 * total * math.erfc(3 / math.sqrt(2)) / 2


def test_correlation_by_fourier_transform_equals_the_direct_sum() -> None:
    soft = np.random.default_rng(0).normal(size=(1, BANDS, 50)).astype(np.float32)
    inner, energy = make_receiver(KEY).correlate(soft)
    sync = derive_layout(KEY).sync
    for start in (0, 5, PERIOD - 20):
        chips = sync[:, (start + np.arange(50)) % PERIOD]
        assert inner[0, start] == pytest.approx(float((soft[0] * chips).sum()), abs=1e-2)
        assert energy[0, start] == pytest.approx(float((soft[0] ** 2 * chips**2).sum()), rel=1e-4)


@pytest.mark.slow
def test_correlation_of_slices_equals_that_of_clips() -> None:
    soft = np.random.default_rng(0).normal(size=(2, BANDS, 24)).astype(np.float32)
    receiver = make_receiver(KEY)
    inner, energy = receiver.correlate_slices(soft, 8), receiver.slice_energies(soft, 8)
    whole = [make_receiver(KEY).correlate(soft[:, :, at : at + 8]) for at in (0, 8, 16)]
    assert inner == pytest.approx(np.stack([one for one, _ in whole]), abs=1e-3)
    assert energy == pytest.approx(np.stack([one for _, one in whole]), rel=1e-3)


def test_prior_probabilities_of_the_searches_sum_to_at_most_one() -> None:
    shares = [
        math.exp(-search.STAY_COST),
        2 * math.exp(-search.DRIFT_COST),
        search.SHORT_JUMP_HOPS * math.exp(-search.SHORT_COST),
        search.NEAR_JUMP_HOPS * math.exp(-search.NEAR_COST),
        search.STATES * math.exp(-search.FAR_COST),
    ]
    assert sum(shares) <= 1 + 1e-9
    assert math.exp(-SYNC_COST) + 2**32 * math.exp(-PAYLOAD_COST) <= 1 + 1e-9
    assert TILE * 64 == PERIOD


@pytest.mark.parametrize("seconds", [1, 3, 10, 60])
def test_prior_probabilities_of_the_warps_sum_to_at_most_one(seconds: int) -> None:
    """This holds for all warps that a search may select."""
    step = warps.tempo_step(seconds)
    searched = {
        warp
        for vocoded in (False, True)
        for pitch, tempos in warps.iterate_warps(step, vocoded=vocoded)
        for tempo in tempos
        for warp in warps.neighbouring_warps(Warp(tempo, pitch, vocoded), step)
    }
    assert len(searched) > 900
    assert sum(math.exp(-warps.warp_cost(warp)) for warp in searched) <= 1 + 1e-9


def test_the_bound_is_continuous_and_falls_with_cost() -> None:
    assert bound(30.001, 0) == pytest.approx(bound(29.999, 0), abs=0.1)
    assert bound(8, 5) == pytest.approx(bound(8, 0) - 5 / math.log(10))
    assert bound(1, 20) == 0


def test_the_bound_holds_for_few_and_unequal_signs() -> None:
    """All sums of twelve signed weights satisfy the inequality that the proof uses."""
    weights = np.array([5, 3, 3, 2, 1, 1, 1, 0.5, 0.5, 0.2, 0.1, 0.1])
    signs = 1 - 2 * (np.arange(4096)[:, None] >> np.arange(12) & 1)
    z = np.sort(signs @ weights / np.sqrt(np.sum(weights**2)))
    for limit in (0.5, 1, 1.5, 2, 2.5):
        assert np.mean(z >= limit) <= 10 ** -bound(limit, 0) + 1e-12
