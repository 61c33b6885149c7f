"""A few hundred random histories; `python -m tests.acceptance.faults` plays twenty thousand."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.faults.broken_variants import VARIANTS, Variant
from tests.support.faults.history import play

HISTORIES = 300
FIRST_SEED = 1


@pytest.mark.slow
def test_random_histories_break_no_invariant() -> None:
    """Crashes, freezes past the lease, outages, lost answers, lost and repeated notifications,
    clocks an hour off, uploads in any order, files replaced and deleted, a sweeper beside it."""
    played = [play(seed) for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES)]
    ended = Counter(result.status for one in played for result in one.results.values())
    assert ended["succeeded"] > HISTORIES * 0.8
    assert sum(one.faults for one in played) > HISTORIES
    assert sum(one.calm for one in played) > HISTORIES / 10
    assert sum(one.cut for one in played) > HISTORIES / 10
    assert max(one.swept for one in played) > 2


@pytest.mark.slow
def test_a_seed_fixes_its_history() -> None:
    first, second = play(77), play(77)
    assert (first.steps, first.faults, first.spoken) == (second.steps, second.faults, second.spoken)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_broken_pipeline_is_seen(variant: Variant) -> None:
    with pytest.raises(AssertionError, match=r"^seed \d+: ") as seen, variant.broken():  # noqa: PT012
        for seed in range(2000):
            play(seed, variant.setting)
    assert "INTERNAL" not in str(seen.value), "the variant itself does not run"
