"""What people read about a result: every kind of error and remark."""

from __future__ import annotations

import msgspec
import pytest

from core.errors import Notice, Refused
from core.result.cost import Cost
from core.result.document import Estimate, LanguageEstimate, Result
from core.result.item_result import Chapter, Problem
from handlers.cli.describe import describe_result, describe_totals
from tests.support.results import BAD, FULL


def test_errors_and_remarks_say_whose_they_are() -> None:
    voice = Problem.from_error(Refused("AUDIO_SILENT", pointer="refs/alice.flac"))
    joined = Problem.from_error(Refused("CHAPTER_TOO_LONG", pointer="/output"))
    result = msgspec.structs.replace(
        FULL,
        voices={"alice": msgspec.structs.replace(FULL.voices["alice"], error=voice)},
        items=[BAD],
        chapters=[Chapter(id="one", status="failed", error=joined)],
        notices=[Notice("TEXT_BIDI", pointer="/labels")],
    )
    lines = describe_result(result)
    starts = ("voice alice (refs/alice.flac): AUDIO_SILENT: ", "item 2 of the list: ID_INVALID: ")
    for start in (*starts, "joined file one: CHAPTER_TOO_LONG: "):
        assert sum(line.startswith(start) for line in lines) == 1, lines
    assert any("/labels" in line or "TEXT_BIDI" in line for line in lines), lines


COST = Cost(currency="USD", amount=0.0240403, seconds=20.0, calls=1)
OLD = Estimate(items=2, characters=60, audio_s=4.3)
NEW = Estimate(
    items=2,
    characters=60,
    audio_s=4.3,
    languages={"en": LanguageEstimate(items=2, characters=60, audio_s=4.3, measured=7)},
    basis="measured",
    seconds=1.7,
    cost=0.0020434,
    currency="USD",
)
BY_MINUTE = msgspec.structs.replace(NEW, basis="default", cost=0.5, currency="")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (msgspec.structs.replace(FULL, cost=COST), "s of speech, cost 0.024 USD"),
        (msgspec.structs.replace(FULL, estimate=OLD), "about 4.3 s of speech; nothing was spoken"),
        (
            msgspec.structs.replace(FULL, estimate=NEW),
            "about 4.3 s of speech in 1.7 s of work, cost 0.00204 USD (measured on 7 items); "
            "nothing was spoken",
        ),
        (
            msgspec.structs.replace(FULL, estimate=BY_MINUTE),
            "in 1.7 s of work, cost 0.5 (not measured here); nothing was spoken",
        ),
    ],
    ids=["cost", "estimate of an earlier version", "measured", "by the minute"],
)
def test_cost_and_estimate_are_said_with_what_they_are_based_on(result: Result, said: str) -> None:
    assert describe_totals(result).endswith(said)
