"""Options that many commands of `voicedrop` share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from core.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Bucket = Annotated[
    Path | None,
    typer.Option(
        help="Folder with inbox, results and control (default: $VOICEDROP_BUCKET or ./bucket)."
    ),
]


def settings(bucket: Path | None = None) -> Settings:
    environ = dict(os.environ)
    if bucket is not None:
        environ |= {"VOICEDROP_BUCKET": str(bucket)}
        for name in ("INBOX", "RESULTS", "CONTROL"):
            environ.pop(f"VOICEDROP_{name}", None)
    return Settings.from_environ(environ)
