"""What people read about a result: every kind of error and remark."""

from __future__ import annotations

import msgspec

from core.errors import Notice, Refused
from core.result.item_result import Chapter, Problem
from handlers.cli.describe import describe_result
from tests.support.results import BAD, FULL


def test_errors_and_remarks_say_whose_they_are() -> None:
    voice = Problem.from_error(Refused("AUDIO_SILENT", pointer="/voices/alice/reference"))
    joined = Problem.from_error(Refused("CHAPTER_TOO_LONG", pointer="/output"))
    result = msgspec.structs.replace(
        FULL,
        voices={"alice": msgspec.structs.replace(FULL.voices["alice"], error=voice)},
        items=[BAD],
        chapters=[Chapter(id="one", status="failed", error=joined)],
        notices=[Notice("TEXT_BIDI", pointer="/labels")],
    )
    lines = describe_result(result)
    starts = ("voice alice: AUDIO_SILENT: ", "item 2 of the list: ID_INVALID: ")
    for start in (*starts, "joined file one: CHAPTER_TOO_LONG: "):
        assert sum(line.startswith(start) for line in lines) == 1, lines
    assert any("/labels" in line or "TEXT_BIDI" in line for line in lines), lines
