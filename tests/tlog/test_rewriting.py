"""60 random sequences of writes by a holder of the signing key;
`python -m tests.acceptance.rewriting --runs 2000` plays more."""

from __future__ import annotations

import pytest

from tests.support.broken_verifiers import BROKEN
from tests.support.rewriting import play

SEQUENCES = 60
MOST = 400


@pytest.mark.repeats
@pytest.mark.slow
def test_whoever_kept_a_checkpoint_notices_what_a_holder_of_the_key_rewrites() -> None:
    """By `log verify` and by `audit`; neither objects to lawful work."""
    played = [play(seed) for seed in range(SEQUENCES)]
    assert [(one.seed, one.missed) for one in played if one.missed] == []
    assert sum(bool(one.rewritten) for one in played) > SEQUENCES / 5
    assert sum(bool(one.removed) for one in played) > SEQUENCES / 5
    assert sum(one.lawful for one in played) > SEQUENCES / 20


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_verifier_is_noticed(name: str) -> None:
    with BROKEN[name]():
        assert any(play(seed).missed for seed in range(MOST))
