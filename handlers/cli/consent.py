"""`voicedrop consent ...`: who allowed which recording to become a voice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.consent.records import Method

consent_app = typer.Typer(
    help="Consent records: who allowed which recording.", no_args_is_help=True
)


@consent_app.command("new")
def consent_new(  # noqa: PLR0913, PLR0917 - one parameter an option, as typer reads them
    reference: Annotated[Path, typer.Argument(help="The recording it covers.")],
    subject: Annotated[
        str, typer.Option(help="Whose voice: a name, or a pseudonym you can resolve.")
    ],
    method: Annotated[Method, typer.Option(help="What the consent rests on.")] = "own-voice",
    controller: Annotated[str, typer.Option(help="Who makes and uses the voice.")] = "me",
    purpose: Annotated[list[str] | None, typer.Option(help="What for; may be repeated.")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Languages it may speak (default: any).")
    ] = None,
    days: Annotated[int, typer.Option(help="How long it holds; 0: until withdrawn.")] = 365,
    proof: Annotated[
        str, typer.Option(help="A file (signed document, statement) or words (source, licence).")
    ] = "",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write it.")] = None,
) -> None:
    """Write a consent record for a recording. Read what it states before you use it."""
    from handlers.cli import desk

    record = desk.new_consent(
        reference,
        subject=subject,
        method=method,
        controller=controller,
        purposes=purpose or ["speech synthesis"],
        languages=language or [],
        days=days,
        proof=proof,
    )
    desk.write_record(record, out)
