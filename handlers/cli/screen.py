"""What a command shows: words for people, one JSON document for machines, progress meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.status import Status

from core.job.runtime import Step

DOING = {
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
class Report:
    data: dict[str, Any]
    """For machines; stable."""
    lines: list[str] = field(default_factory=list)
    """For people."""
    exit_code: int = 0


def show(report: Report, *, as_json: bool) -> None:
    if as_json:
        show_document(report.data)
    else:
        console = Console(highlight=False, soft_wrap=True)
        for line in report.lines:
            console.print(line, markup=False)


def show_document(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=2))  # noqa: T201 - this is the output


def stderr(*, quiet: bool = False) -> Console:
    """Where progress goes, so that standard output stays for results."""
    return Console(stderr=True, highlight=False, quiet=quiet)


class Progress:
    """Tells on standard error what a job is doing; an observer of `core.job.runtime`."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or stderr(quiet=quiet)
        self._status: Status | None = None
        self._spoken: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("looking at the inbox")
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
        name = f"{step.job[:8]} {step.item}".strip()
        if step.seconds is None:
            self.doing(f"{name}: {DOING.get(step.stage, step.stage)}")
        elif step.stage == "speak":
            spent, sound = self._spoken.get(name, (0.0, 0.0))
            self._spoken[name] = spent + step.seconds, sound + step.audio_seconds
            self.doing(f"{name}: speaking, {self._pace(name)}")
        elif step.stage == "store":
            self.say(f"{name}: {self._pace(name)}")
        elif step.stage == "enrol":
            self.say(f"{name}: voice learned in {step.seconds:.0f} s")

    def doing(self, text: str) -> None:
        if self._status:
            self._status.update(text)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def _pace(self, name: str) -> str:
        spent, sound = self._spoken.get(name, (0.0, 0.0))
        return f"{sound:.1f} s of speech, real-time factor {spent / max(sound, 1e-3):.2f}"
