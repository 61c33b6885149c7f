"""The output of a command: lines for people, one JSON document for machines, and its progress."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from core.errors import JobError
from core.job.runtime import Step
from core.result.item_result import ItemResult
from handlers.cli.describe import SHORT, item_name

STAGES = {
    "fetch": "fetching the reference",
    "consent": "checking consent",
    "prepare": "preparing the reference",
    "enrol": "learning the voice (once per voice, about half a minute)",
    "speak": "speaking",
    "shape": "setting level and rate",
    "watermark": "embedding the watermark",
    "encode": "encoding",
    "verify": "reading the watermark back",
    "label": "labelling",
    "seal": "sealing",
    "store": "storing",
}


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """What a command prints at its end, and its exit code."""

    data: dict[str, Any]
    """For machines; its keys do not change."""
    lines: list[str] = field(default_factory=list)
    """For people."""
    exit_code: int = 0


def show(output: CommandOutput, *, as_json: bool) -> None:
    """Print the output and end the command. Raises typer.Exit with the exit code if it is not 0."""
    if as_json:
        print_json(output.data)
    else:
        console = Console(highlight=False, soft_wrap=True)
        for line in output.lines:
            console.print(line, markup=False)
    if output.exit_code:
        raise typer.Exit(output.exit_code)


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_error(error: JobError) -> None:
    """Print an error and what to do about it on standard error."""
    advice = "" if error.advice in str(error) else f"\n{error.advice}"
    stderr().print(f"{error}{advice}", markup=False, soft_wrap=True)


def stderr(*, quiet: bool = False) -> Console:
    """The console for progress, so that standard output has the result alone."""
    return Console(stderr=True, highlight=False, quiet=quiet)


class Progress:
    """Shows on standard error what a job is doing; an observer of `core.job.runtime`.

    `report` prints on standard output what belongs to the output of the command, at once.
    """

    def __init__(
        self, console: Console | None = None, output: Console | None = None, *, quiet: bool = False
    ) -> None:
        self._console = console or stderr(quiet=quiet)
        self._output = output or Console(highlight=False, soft_wrap=True, quiet=quiet)
        self._status: Status | None = None
        self._spoken: dict[str, tuple[float, float]] = {}
        """Job and item -> seconds spent on speaking, and seconds of speech."""
        self._place = ""
        """Which item of how many is next."""

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, step: Step) -> None:
        name = f"{step.job[:SHORT]} {step.item}".strip()
        if step.result:
            self._item_done(step, step.result)
        elif step.stage == "enrol" and step.seconds is None:
            self.print(f"{name}: {STAGES['enrol']}")
            self.update_status(f"{name}: {STAGES['enrol']}")
        elif step.stage == "enrol":
            self.print(f"{name}: voice learned in {step.seconds:.0f} s")
        elif step.seconds is None:
            self.update_status(f"{name}: {STAGES.get(step.stage, step.stage)}{self._place}")
        elif step.stage == "speak":
            spent, speech = self._spoken.get(name, (0.0, 0.0))
            self._spoken[name] = spent + step.seconds, speech + step.audio_seconds
            self.update_status(f"{name}: speaking, {self._pace(name)}{self._place}")

    def update_status(self, text: str) -> None:
        """Replace the status line; nothing where standard error is not a terminal."""
        if self._status:
            self._status.update(Text(text))

    def print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def report(self, line: str) -> None:
        """Print a line on standard output. The status line is removed meanwhile, because while it
        is shown, it diverts standard output to standard error."""
        if self._status:
            self._status.stop()
        self._output.print(line, markup=False)
        if self._status:
            self._status.start()

    def _item_done(self, step: Step, item: ItemResult) -> None:
        name = f"{step.job[:SHORT]} {item.id}".strip()
        at = f"{step.done} of {step.of}"
        self._place = f" ({step.done + 1} of {step.of})" if step.done < step.of else ""
        if item.error:
            who = item_name(item.id, item.index, item.error.pointer)
            error = f"{item.error.code}: {item.error.message}"
            self.print(f"{step.job[:SHORT]} {who}: {error} ({at})")
        elif name in self._spoken:
            self.print(f"{name}: {self._pace(name)} ({at})")
            del self._spoken[name]
        else:
            self.print(f"{name}: made before ({at})")

    def _pace(self, name: str) -> str:
        spent, speech = self._spoken.get(name, (0.0, 0.0))
        return f"{speech:.1f} s of speech, real-time factor {spent / max(speech, 1e-3):.2f}"
