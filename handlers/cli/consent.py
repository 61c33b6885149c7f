"""`voicedrop consent ...`: consent records, which state who allowed which recording."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from core.audio.decoding import BYTES_LIMIT
from core.consent import records
from core.consent.records import Consent, Method
from core.errors import Refused
from handlers.cli.files import read_file

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
    start = datetime.now(UTC).replace(microsecond=0)
    end = start + timedelta(days=days) if days else None
    purposes = purpose or ["speech synthesis"]
    fields: dict[str, Any] = {
        "schema": records.SCHEMA,
        "id": records.new_id(),
        "subject": records.Subject(name=subject),
        "controller": controller,
        "purposes": purposes,
        "scope": records.Scope(languages=language or []),
        "valid_from": start,
        "valid_until": end,
        "method": method,
        "ref_audio_sha256": [_sha256(reference)],
        "created_by": controller,
    }
    fields |= _evidence(method, proof)
    if method in ("own-voice", "recorded-statement", "signed-document"):
        statement = records.format_statement(
            "en", name=subject, controller=controller, purposes=purposes, start=start, end=end
        )
        fields.setdefault("statement_text", statement)
    try:
        record = Consent(**fields)
    except ValueError as exc:
        raise Refused("CONSENT_INVALID", f"{exc}: give it with --proof.") from exc
    _write(record, out)


def _evidence(method: Method, proof: str) -> dict[str, Any]:
    """Return the field that the method requires, from a file or from words."""
    field = records.REQUIRED_EVIDENCE.get(method, "")
    if not proof or not field:
        return {}
    if field == "evidence_sha256":
        return {field: _sha256(Path(proof))}
    if field == "statement_audio":
        return {field: records.StatementAudio(key=Path(proof).name, sha256=_sha256(Path(proof)))}
    return {field: proof}


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_file(path, limit=BYTES_LIMIT)).hexdigest()


def _write(record: Consent, out: Path | None) -> None:
    data = records.format_consent(record)
    if out is None:
        os.write(1, data)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("xb") as file:
        file.write(data)
    typer.echo(f"wrote {out}: read it before you use it, because it speaks for a person", err=True)
