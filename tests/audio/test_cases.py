"""Every kind of reference recording is refused with its code or accepted with its notices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from core.audio import libsndfile
from core.audio.decoding import decode
from core.errors import REFUSED, Refused
from core.speech.reference import MAX_WINDOW_S, MIN_DURATION_S, prepare
from tests.support.recordings.cases import CASES, Case

REFUSED_CASES = [case for case in CASES if case.code]
ACCEPTED_CASES = [case for case in CASES if not case.code]


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED_CASES, ids=lambda case: case.id)
def test_unfit_recordings_are_refused_by_code(case: Case) -> None:
    data = case.make()
    with pytest.raises(Refused) as refusal:
        prepare(data, case.name)
    assert refusal.value.code == case.code
    assert refusal.value.pointer == case.name
    assert "object at 0x" not in refusal.value.message
    assert "libsndfile" not in refusal.value.message.lower()


@pytest.mark.slow
@pytest.mark.parametrize("case", ACCEPTED_CASES, ids=lambda case: case.id)
def test_fit_recordings_are_accepted_with_their_remarks(case: Case) -> None:
    reference = prepare(case.make(), case.name)
    assert [notice.code for notice in reference.notices] == list(case.notices)
    assert MIN_DURATION_S <= reference.audio.seconds <= MAX_WINDOW_S
    assert reference.audio.rate <= 48_000
    assert reference.quality.speech_s > 2


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.number not in (45, 47)], ids=lambda c: c.id)
def test_the_decoder_gives_the_same_result_outside_the_sandbox(case: Case) -> None:
    parts: list[NDArray[np.float32]] = []
    data = case.make()
    in_process = libsndfile.decode_task(data, parts.append, name=case.name, max_seconds=600.0)
    if refused := in_process.get("refused"):
        with pytest.raises(Refused) as refusal:
            decode(data, name=case.name)
        assert refusal.value.code == refused
    else:
        sandboxed = decode(data, name=case.name)
        np.testing.assert_array_equal(sandboxed.channels.T, np.concatenate(parts))


def test_all_cases_of_the_table_that_concern_one_recording_are_here() -> None:
    """Tested elsewhere: 30 (several speakers), 48 (archived object), 50 (our own mark) and 51
    (transcript)."""
    assert {case.number for case in CASES} == set(range(1, 52)) - {30, 48, 50, 51}
    assert {case.code for case in REFUSED_CASES} <= set(REFUSED)
