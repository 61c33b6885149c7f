"""60 random histories; `python -m tests.acceptance.faults` plays 20,000."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.faults.broken_variants import VARIANTS, Variant
from tests.support.faults.history import play_history

HISTORIES = 60
FIRST_SEED = 1


@pytest.mark.repeats
@pytest.mark.slow
def test_random_histories_violate_no_invariant() -> None:
    """With crashes, freezes longer than the lease, outages, lost replies, lost and repeated
    notifications, wrong clocks, uploads in any order, changed and deleted files, and a sweeper."""
    played = [play_history(seed) for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES)]
    ended = Counter(result.status for one in played for result in one.results.values())
    assert ended["succeeded"] > HISTORIES * 0.8
    assert sum(one.faults for one in played) > HISTORIES
    assert sum(one.is_calm for one in played) > HISTORIES / 10
    assert sum(one.split_jobs for one in played) > HISTORIES / 10
    assert sum(one.helped for one in played) > 1
    assert max(one.sweep_rounds for one in played) > 2


@pytest.mark.repeats
@pytest.mark.slow
def test_a_seed_determines_its_history() -> None:
    first, second = play_history(77), play_history(77)
    assert (first.steps, first.faults, first.spoken) == (second.steps, second.faults, second.spoken)


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_broken_pipeline_is_detected(variant: Variant) -> None:
    with pytest.raises(AssertionError, match=r"^seed \d+: ") as seen, variant.apply():  # noqa: PT012
        for seed in range(2000):
            play_history(seed, variant.make_simulation)
    assert "INTERNAL" not in str(seen.value), "the variant itself does not run"
