"""`voicedrop log ...`: the tamper-evident log of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handlers.cli import screen
from handlers.cli.options import AsJson, Bucket, settings

log_app = typer.Typer(help="The tamper-evident log of results.", no_args_is_help=True)


@log_app.command("integrate")
def log_integrate(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """Log what workers have queued.

    Their results become leaves of the tree, and a new checkpoint is signed.
    """
    from handlers.cli import audit

    screen.show(audit.integrate(settings(bucket)), as_json=as_json)


@log_app.command("verify")
def log_verify(
    bucket: Bucket = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint that was kept elsewhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole log with public keys alone."""
    from handlers.cli import audit

    screen.show(audit.verify(settings(bucket), checkpoint), as_json=as_json)
