"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from core.settings import SETTINGS, MarkPreset, Settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


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
    return Settings.from_environ(read_environment(bucket))
