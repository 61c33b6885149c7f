from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from core.errors import Refused
from core.job.runtime import Step
from core.result.item_result import ItemResult, Problem
from handlers.cli.screen import CommandOutput, Progress, show

UNSPEAKABLE = Problem.from_error(Refused("TEXT_UNSPEAKABLE", pointer="/items/1/text"))


def item(name: str, error: Problem | None = None) -> ItemResult:
    return ItemResult(id=name, index=0, status="failed" if error else "succeeded", error=error)


def render_progress(*, terminal: bool, quiet: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, highlight=False, quiet=quiet, width=200)
    with Progress(console) as progress:
        progress(Step(job="0123456789", stage="enrol"))
        progress(Step(job="0123456789", stage="enrol", seconds=31.0))
        progress(Step(job="0123456789", stage="speak", item="a", seconds=1.0, audio_seconds=2.0))
        progress(Step(job="0123456789", stage="speak", item="a", seconds=1.0, audio_seconds=3.0))
        progress(Step(job="0123456789", stage="mystery", item="a"))
        progress(Step(job="0123456789", stage="seal", item="a", seconds=0.1))
        progress(Step(job="0123456789", result=item("a"), done=1, of=3))
        progress(Step(job="0123456789", result=item("b", UNSPEAKABLE), done=2, of=3))
        progress(Step(job="0123456789", result=item("c"), done=3, of=3))
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_enrolled_voices_and_items_with_their_real_time_factor(
    terminal: bool,
) -> None:
    text = render_progress(terminal=terminal)
    assert "01234567: voice learned in 31 s" in text
    assert "01234567 a: 5.0 s of speech, real-time factor 0.40 (1 of 3)" in text
    assert "01234567 item b: TEXT_UNSPEAKABLE: " in text
    assert "01234567 c: made before (3 of 3)" in text


def test_the_status_says_what_is_being_done() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, highlight=False)) as progress:
        done = Step(job="0123456789", result=item("a"), done=1, of=2)
        for step, status in (
            (Step(job="0123456789", stage="store", item="a"), "01234567 a: storing"),
            (done, ""),
            (Step(job="0123456789", stage="speak", item="b"), "01234567 b: speaking (1 of 2 done)"),
            (dataclasses.replace(done, done=2), "01234567: finishing"),
        ):
            progress(step)
            progress.print("")  # shows the status again
            assert status in out.getvalue()


def test_a_quiet_progress_prints_nothing() -> None:
    assert render_progress(terminal=False, quiet=True) == ""


def test_an_output_is_printed_as_lines_or_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = CommandOutput({"n": 1}, ["one [bold]line[/bold]"])
    show(output, as_json=False)
    assert capsys.readouterr().out == "one [bold]line[/bold]\n"
    show(output, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"n": 1}


def test_output_goes_to_standard_output_while_a_status_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, highlight=False)
    with Progress(console) as progress:
        progress.update_status("[busy]")
        progress.report("a [line]")
    assert capsys.readouterr().out == "a [line]\n"
