"""50 random histories with a withdrawal; `python -m tests.acceptance.withdrawal` plays 1,000."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.faults.withdrawals import BROKEN, play_withdrawal

HISTORIES = 50


@pytest.mark.repeats
@pytest.mark.slow
def test_after_a_withdrawal_nothing_is_spoken_and_nothing_biometric_is_left() -> None:
    """With jobs, retries, shards, joining, sweeps, crashes and workers slower than their lease."""
    played = [play_withdrawal(seed) for seed in range(HISTORIES)]
    outcomes = Counter(outcome for one in played for outcome in one.outcomes)
    assert outcomes["CONSENT_REVOKED"] > HISTORIES
    assert outcomes["succeeded"] > HISTORIES / 4
    assert sum(one.split_jobs for one in played) > HISTORIES / 10
    assert sum(one.removed for one in played)
    assert sum(one.joined for one in played)
    assert sum(one.cached for one in played)


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("name", ["not-read-before-signing", "by-key-alone"])
def test_a_broken_pipeline_is_detected(name: str) -> None:
    with pytest.raises(AssertionError, match=r"^seed \d+: "), BROKEN[name]():  # noqa: PT012
        for seed in range(400):
            play_withdrawal(seed)
