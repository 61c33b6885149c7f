"""The output of a command: lines for people, one JSON document for machines, and its progress."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from core.errors import JobError
from core.job.runtime import Step
from core.result.item_result import ItemResult, Problem
from handlers.cli.describe import SHORT, item_name

STAGES = {
    "fetch": "fetching the reference",
    "consent": "checking consent",
    "prepare": "preparing the reference",
    "enrol": "learning the voice (once per voice, about half a minute)",
    "cache": "looking for speech that is kept",
    "speak": "speaking",
    "shape": "setting level and rate",
    "watermark": "embedding the watermark",
    "encode": "encoding",
    "verify": "reading the watermark back",
    "label": "labelling",
    "seal": "sealing",
    "store": "storing",
}

_LONG = ("prepare", "speak")
"""Stages that may take minutes, so that where no status is shown, a line says that a job begins
them. Learning a voice has its own line."""
_CONTROLS = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""Controls of terminals and of the direction of text, and halves of characters."""
_IN_LINES = re.compile(f"[\x00-\x1f{_CONTROLS}]")
_IN_JSON = re.compile(f"[{_CONTROLS}]")
_AGAIN = "Run the command again when this is resolved."
"""Only jobs are retried without being asked."""
_COMMAND = re.compile("`voicedrop |scripts/setup")


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
        console = Console()
        for line in output.lines:
            print_line(console, line)
    if output.exit_code:
        raise typer.Exit(output.exit_code)


def print_json(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=2)
    typer.echo(_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_line(console: Console, line: str) -> None:
    """Print one line literally. Names that a producer chose may look like markup, or contain
    controls of the terminal, which are shown as escapes."""
    console.print(Text(escape_controls(line)), soft_wrap=True)


def escape_controls(line: str) -> str:
    return _IN_LINES.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


def print_error(error: JobError) -> None:
    """Print an error and what to do about it on standard error."""
    console = stderr()
    print_line(console, str(error))
    if advice := further_advice(error):
        print_line(console, advice)


def further_advice(error: JobError) -> str:
    """Return the advice on an error. It is empty if the message contains it, or names a command:
    then it says what to do in this case, and the advice might differ. After an error that may pass,
    it says to run the command again."""
    says_what_to_do = error.advice in str(error) or _COMMAND.search(error.message)
    advice = "" if says_what_to_do else error.advice
    return f"{advice} {_AGAIN}".strip() if error.retry else advice


def describe_error(error: JobError) -> dict[str, Any]:
    """Return the error for machines, as results contain it."""
    described: dict[str, Any] = msgspec.to_builtins(Problem.from_error(error))
    return described


def stderr(*, quiet: bool = False) -> Console:
    """The console for progress, so that standard output has the result alone."""
    return Console(stderr=True, highlight=False, quiet=quiet)


class Progress:
    """Shows on standard error what a job is doing; an observer of `core.job.runtime`.

    `report` prints on standard output what belongs to the output of the command, at once. It is
    safe for threads.
    """

    def __init__(
        self, console: Console | None = None, output: Console | None = None, *, quiet: bool = False
    ) -> None:
        self._console = console or stderr(quiet=quiet)
        self._output = output or Console(quiet=quiet)
        self._lock = threading.RLock()
        self._status: Status | None = None
        self._spoken: dict[str, tuple[float, float]] = {}
        """Job and item -> seconds spent on speaking, and seconds of speech."""
        self._done: dict[str, str] = {}
        """Job -> how many of its items are done."""
        self._begun: set[tuple[str, str]] = set()
        """Jobs, and the stages of `_LONG` of which a line told."""

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
        with self._lock:
            self._show(step)

    def _show(self, step: Step) -> None:
        name = f"{step.job[:SHORT]} {step.item}".strip()
        done = self._done.get(step.job, "")
        if step.result:
            self._item_done(step, step.result)
        elif step.stage == "enrol" and step.seconds is None:
            self.print(f"{name}: {STAGES['enrol']}")
            self.update_status(f"{name}: {STAGES['enrol']}")
        elif step.stage == "enrol":
            self.print(f"{name}: voice learned in {step.seconds:.0f} s")
        elif step.seconds is None:
            self._begin(step)
            self.update_status(f"{name}: {STAGES.get(step.stage, step.stage)}{done}")
        elif step.stage == "speak":
            spent, speech = self._spoken.get(name, (0.0, 0.0))
            self._spoken[name] = spent + step.seconds, speech + step.audio_seconds
            self.update_status(f"{name}: speaking, {self._pace(name)}{done}")

    def _begin(self, step: Step) -> None:
        begun = (step.job, step.stage)
        if self._status is None and step.stage in _LONG and begun not in self._begun:
            self._begun.add(begun)
            self.print(f"{step.job[:SHORT]}: {STAGES[step.stage]} ...")

    def update_status(self, text: str) -> None:
        """Replace the status line; nothing where standard error is not a terminal."""
        with self._lock:
            if self._status:
                self._status.update(Text(escape_controls(text)))

    def print(self, line: str) -> None:
        with self._lock:
            print_line(self._console, line)

    def report(self, line: str) -> None:
        """Print a line on standard output. The status line is removed meanwhile, because while it
        is shown, it diverts standard output to standard error."""
        with self._lock:
            if self._status:
                self._status.stop()
            print_line(self._output, line)
            if self._status:
                self._status.start()

    def _item_done(self, step: Step, item: ItemResult) -> None:
        name = f"{step.job[:SHORT]} {item.id}".strip()
        at = f"{step.done} of {step.of}"
        self._done[step.job] = f" ({at} done)"
        if step.done == step.of:
            del self._done[step.job]
            self._begun -= {(step.job, stage) for stage in _LONG}
            self.update_status(f"{step.job[:SHORT]}: finishing")
        if item.error:
            who = item_name(item.id, item.index, item.error.pointer)
            error = f"{item.error.code}: {item.error.message}"
            self.print(f"{step.job[:SHORT]} {who}: {error} ({at})")
        elif name in self._spoken:
            self.print(f"{name}: {self._pace(name)} ({at})")
            del self._spoken[name]
        elif item.cached and item.output:
            seconds = item.output.duration_s
            self.print(f"{name}: {seconds:.1f} s of speech that was kept ({at})")
        else:
            self.print(f"{name}: made before ({at})")

    def _pace(self, name: str) -> str:
        spent, speech = self._spoken.get(name, (0.0, 0.0))
        return f"{speech:.1f} s of speech, real-time factor {spent / max(speech, 1e-3):.2f}"
