"""`voicedrop log ...`: the tamper-evident log of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handlers import wiring
from handlers.cli import screen
from handlers.cli.files import read_file
from handlers.cli.options import AsJson, Bucket, read_settings
from handlers.cli.screen import CommandOutput

log_app = typer.Typer(help="The tamper-evident log of results.", no_args_is_help=True)


@log_app.command("integrate")
def integrate_log(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """Log what workers have queued.

    Their results become leaves of the tree, and a new checkpoint is signed.
    """
    from core.tlog import log
    from handlers import jobs

    runtime = wiring.create_local_runtime(read_settings(bucket))
    checkpoint = jobs.integrate_log(runtime)
    if checkpoint is None:
        output = CommandOutput({"size": 0}, ["Nothing is queued, and nothing was ever logged."])
    else:
        note = log.read_latest_checkpoint(runtime.results) or ""
        data = {"origin": checkpoint.origin, "size": checkpoint.size, "checkpoint": note}
        advice = "Keep this checkpoint where the operator cannot change it:"
        lines = [f"{checkpoint.size} results are in the log.", advice, note.rstrip()]
        output = CommandOutput(data, lines)
    screen.show(output, as_json=as_json)


@log_app.command("verify")
def verify_log(
    bucket: Bucket = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint that was kept elsewhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole log with public keys alone."""
    from core.tlog import log, signed_note
    from handlers.cli.audit import open_sources

    sources = open_sources(read_settings(bucket))
    earlier = read_file(checkpoint).decode() if checkpoint else None
    origin = signed_note.claimed_origin(log.read_latest_checkpoint(sources.results) or "")
    keys = sources.keys.verifying.values()
    latest, leaves = log.verify(sources.results, keys, origin, earlier=earlier)
    comparison = (
        f"It continues the checkpoint of {checkpoint}."
        if checkpoint
        else "It was not compared with an earlier checkpoint: keep a checkpoint for the next time."
    )
    lines = [f"The log {latest.origin} of {latest.size} results is complete.", comparison]
    data = {
        "origin": latest.origin,
        "size": latest.size,
        "root": latest.root.hex(),
        "jobs": len({leaf.job for leaf in leaves}),
    }
    screen.show(CommandOutput(data, lines), as_json=as_json)
