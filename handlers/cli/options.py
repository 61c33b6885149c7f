"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from core.settings import SETTINGS, MarkPreset, Settings, unknown_variables
from handlers.cli.screen import print_line, stderr

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

MAX_SECONDS = 366 * 86_400


def check_seconds(value: float) -> float:
    """Return the value of an option in seconds. Raises typer.BadParameter, for NaN too."""
    if not 0 <= value <= MAX_SECONDS:
        raise typer.BadParameter(f"{value:g} is not a number of seconds from 0 to {MAX_SECONDS}.")
    return value


def _help(name: str) -> str:
    row = SETTINGS[name]
    return f"{row.help} Default: ${row.variable} or {row.default}."


Bucket = Annotated[Path | None, typer.Option(help=_help("bucket"))]
Mark = Annotated[MarkPreset | None, typer.Option(help=_help("mark"))]


def read_environment(bucket: Path | None = None) -> dict[str, str]:
    """Return the environment variables, with `--bucket` in place of those that name buckets."""
    environ = dict(os.environ)
    if bucket is not None:
        environ |= {"VOICEDROP_BUCKET": str(bucket)}
        for name in ("INBOX", "RESULTS", "CONTROL"):
            environ.pop(f"VOICEDROP_{name}", None)
    return environ


def read_settings(bucket: Path | None = None) -> Settings:
    """Return the settings, and name on standard error each variable that is misspelt."""
    for variable, remark in unknown_variables(os.environ):
        print_line(stderr(), f"{variable}: {remark}")
    return Settings.from_environ(read_environment(bucket))
