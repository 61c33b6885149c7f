"""`voicedrop log ...`: the tamper-evident log of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from handlers import wiring
from handlers.cli import exit_codes, screen
from handlers.cli.options import AsJson, Bucket, read_settings
from handlers.cli.screen import CommandOutput

if TYPE_CHECKING:
    from core.audit import Sources

MAX_LISTED = 20
"""Changed documents shown on the terminal; --json gives all of them."""

log_app = typer.Typer(help="The tamper-evident log of results.", no_args_is_help=True)


@log_app.command("integrate")
def integrate_log(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """Log what workers have queued, and print the new checkpoint.

    Their results become leaves of the tree, and a new checkpoint is signed. Keep what is printed:
    `log verify` and `audit` take it as --checkpoint.
    """
    from core.tlog import log
    from handlers import jobs

    runtime = wiring.create_local_runtime(read_settings(bucket))
    integrated = jobs.integrate_log(runtime)
    refused = [{"key": leaf.key, "reason": leaf.reason} for leaf in integrated.refused]
    remarks = screen.stderr(quiet=as_json)
    for leaf in integrated.refused:
        line = f"Not logged, kept as {leaf.key} in control: {leaf.reason}"
        screen.print_line(remarks, line)
    checkpoint = integrated.checkpoint
    if checkpoint is None:
        remarks.print("Nothing is queued, and nothing was ever logged.")
        output = CommandOutput({"size": 0, "refused": refused})
    else:
        note = log.read_latest_checkpoint(runtime.results) or ""
        remarks.print(f"{checkpoint.size} entries are in the log.")
        remarks.print("Keep this checkpoint where the operator cannot change it:")
        data = {"origin": checkpoint.origin, "size": checkpoint.size, "checkpoint": note}
        output = CommandOutput(data | {"refused": refused}, note.rstrip().split("\n"))
    screen.show(output, as_json=as_json)


@log_app.command("verify")
def verify_log(
    bucket: Bucket = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file with a checkpoint that was kept elsewhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the log and every result in it.

    Public keys are enough.
    """
    from handlers.cli.audit import open_sources, read_checkpoint

    sources = open_sources(read_settings(bucket))
    earlier = read_checkpoint(checkpoint) if checkpoint else None
    screen.show(check_log(sources, earlier), as_json=as_json)


def check_log(sources: Sources, earlier: str | None) -> CommandOutput:
    """Verify the log, that it continues the checkpoint `earlier`, and that every document in it is
    stored as it was logged. Raises Refused LOG_MISSING, LOG_INVALID."""
    from core.storage.object_keys import OUTPUTS, job_id_of
    from core.tlog import log, signed_note
    from core.tlog.leaf import document_key_of

    origin = signed_note.claimed_origin(log.read_latest_checkpoint(sources.results) or "")
    keys = sources.keys.verifying.values()
    latest, index = log.verify(sources.results, keys, origin, earlier=earlier)
    comparison = (
        f"It continues the checkpoint of {signed_note.claimed_size(earlier)} entries."
        if earlier is not None
        else "It was not compared with an earlier checkpoint: keep a checkpoint for the next time."
    )
    changed = [
        {"key": key, "problem": problem}
        for key, problem in log.find_changed_documents(sources.results, index)
    ]
    lines = [f"{found['key']}: {found['problem']}" for found in changed[:MAX_LISTED]]
    if changed:
        lines.append(
            f"{len(changed)} documents of the log {latest.origin} were changed or removed."
        )
    else:
        lines.append(f"The log {latest.origin} of {latest.size} entries is complete.")
    logged = map(document_key_of, index)
    data = {
        "origin": latest.origin,
        "size": latest.size,
        "root": latest.root.hex(),
        "jobs": len({job_id_of(key) for key in logged if key.startswith(OUTPUTS)}),
        "changed": changed,
    }
    code = exit_codes.FAILED if changed else exit_codes.DONE
    return CommandOutput(data, [*lines, comparison], code)
