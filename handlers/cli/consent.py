"""`voicedrop consent ...`: consent records, which state who allowed which recording."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from core.audio import decoding
from core.audio.container import find_convertible
from core.audio.decoding import Decoded
from core.audio.waveform import Audio, peak
from core.consent import records, statement
from core.consent.new_record import NewRecord
from core.consent.records import NEW_RECORD, Consent, Method
from core.errors import Refused
from core.job import erasure
from core.speech.activity import has_speech
from core.speech.reference import MIN_DURATION_S
from core.storage.port import Store
from handlers import wiring
from handlers.cli import screen
from handlers.cli.erase import describe_erasures
from handlers.cli.files import create_file, read_file
from handlers.cli.options import AsJson, Bucket, read_settings

consent_app = typer.Typer(
    help="Consent records: who allowed which recording.", no_args_is_help=True
)


_DECODED_S = 30.0
"""How much of a recording is decoded, in seconds, to find out whether it can be read."""
_RECORDINGS = (
    "The recordings it covers, of one voice: WAV, FLAC, MP3, Ogg Vorbis or Opus; where ffmpeg is "
    "installed also M4A, MP4, AAC, AMR, WebM, WMA or Ogg FLAC."
)


@consent_app.command("new")
def consent_new(  # noqa: PLR0913, PLR0917 - one parameter an option, as typer reads them
    recordings: Annotated[list[Path], typer.Argument(help=_RECORDINGS)],
    subject: Annotated[
        str, typer.Option(help="Whose voice: a name, or a pseudonym you can resolve.")
    ],
    method: Annotated[Method, typer.Option(help="What the consent rests on.")],
    controller: Annotated[
        str,
        typer.Option(help="Who makes and uses the voice (default with own-voice: the subject)."),
    ] = "",
    purpose: Annotated[
        list[str] | None,
        typer.Option(help="What for (default: speech synthesis); may be repeated."),
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Languages it may speak (default: any).")
    ] = None,
    statement_language: Annotated[
        str,
        typer.Option(
            help=f"The speaker's language, for the statement: {', '.join(statement.LANGUAGES)}; "
            "any other: en (default: the only --language, else en)."
        ),
    ] = "",
    days: Annotated[int, typer.Option(min=0, help="How long it holds; 0: until withdrawn.")] = 365,
    proof: Annotated[
        str, typer.Option(help="A file (signed document, statement) or words (source, licence).")
    ] = "",
    protection_owner: Annotated[
        str, typer.Option(help="If the voice is protected: the owner of that protection.")
    ] = "",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write it.")] = None,
) -> None:
    """Write a consent record for recordings of a voice. Read what it states before you use it."""
    wiring.require_sandbox(read_settings())
    if language:
        _refuse_stray_languages(recordings)
    record = NewRecord(
        subject=subject,
        method=method,
        recordings=[_recording_sha256(path) for path in recordings],
        controller=controller,
        purposes=purpose or [],
        languages=language or [],
        statement_language=statement_language,
        days=days,
        evidence=_evidence(method, proof),
        protection_owner=protection_owner,
    )
    _write(record.write(datetime.now(UTC).replace(microsecond=0)), out)


@consent_app.command("withdraw")
def consent_withdraw(
    record: Annotated[str, typer.Argument(help="The record: a file, or its key in the inbox.")],
    erase_outputs: Annotated[
        bool,
        typer.Option("--erase-outputs", help="Also delete all that was made; leaves tombstones."),
    ] = False,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw consent for good.

    The voice says nothing more, and what is kept of it is destroyed. The same as an object named
    like the record with .revoked appended, for whoever may not write to the inbox. It concerns the
    record and its recordings, whatever their keys, and cannot be undone: only a record that is
    valid from a later date admits the voice again. Withdrawing again reaches such a record too.
    """
    runtime = wiring.create_local_runtime(read_settings(bucket))
    data, consent = _read_record(record, runtime.inbox)
    before = [r for r in consent.ref_audio_sha256 if runtime.consents.find_withdrawals(r)]
    withdrawn = runtime.consents.withdraw(data, runtime.results.now())
    recordings = "1 recording" if len(withdrawn) == 1 else f"{len(withdrawn)} recordings"
    lines = [f"The record {consent.id} is withdrawn for {recordings}: the voice says nothing more."]
    if before:
        lines.append(
            "It was withdrawn before; records that became valid since then are now withdrawn too."
        )
    if not erase_outputs:
        lines.append("What was made before is kept; --erase-outputs deletes it.")
    output: dict[str, Any] = {
        "record": hashlib.sha256(data).hexdigest(),
        "recordings": withdrawn,
    }
    if erase_outputs:
        tombstones = erasure.erase_withdrawn(data, runtime)
        output["tombstones"] = [msgspec.to_builtins(one) for one in tombstones]
        deleted = output["deleted"] = erasure.delete_unclaimed(data, runtime)
        lines += describe_erasures(tombstones) if tombstones or not deleted else []
        lines += [f"{key}: deleted; no genuine result names it" for key in deleted]
    screen.show(screen.CommandOutput(output, lines), as_json=as_json)


def _read_record(record: str, inbox: Store) -> tuple[bytes, Consent]:
    """`record`: a file, or a key in the inbox. Raises Refused CONSENT_INVALID, OBJECT_MISSING."""
    path, limit = Path(record), records.MAX_BYTES
    try:
        data = (
            read_file(path, limit=limit) if path.is_file() else inbox.get(record, limit=limit).data
        )
        return data, records.parse_consent(data)
    except Refused as exc:
        if exc.code not in {"OBJECT_TOO_LARGE", "CONSENT_INVALID"}:
            raise
        what = exc.message if exc.code == "CONSENT_INVALID" else "Not a consent record: too large."
        message = f"{what} Name the consent record, not the recording."
        raise Refused("CONSENT_INVALID", message, pointer=record) from exc


def _evidence(method: Method, proof: str) -> dict[str, Any]:
    """Return the field that the method requires, from a file or from words."""
    field = records.REQUIRED_EVIDENCE.get(method, "")
    if not proof or not field:
        return {}
    if field == "evidence_sha256":
        return {field: _sha256(Path(proof))}
    if field == "statement_audio":
        digest = _recording_sha256(Path(proof))
        return {field: records.StatementAudio(key=Path(proof).name, sha256=digest)}
    return {field: proof}


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_file(path, limit=decoding.BYTES_LIMIT)).hexdigest()


def _refuse_stray_languages(recordings: list[Path]) -> None:
    """Explain `--language en zh`, in which `zh` is taken for a recording."""
    for path in recordings:
        if str(path) in statement.LANGUAGES and not path.exists():
            message = f"There is no recording {path}. Repeat the option: --language {path}"
            raise Refused("OBJECT_MISSING", message, pointer=str(path), advice="")


def _recording_sha256(path: Path) -> str:
    """Return the digest of a recording whose beginning can be read; warn if it could be read only
    where ffmpeg works, or if a job would refuse it. Raises Refused with one of the AUDIO_ codes,
    Failed AUDIO_DECODER_CRASHED.
    """
    data = read_file(path, limit=decoding.BYTES_LIMIT)
    try:
        decoded = decoding.decode(data, name=str(path), first_seconds=_DECODED_S)
    except Refused as exc:
        if exc.code != "AUDIO_CODEC_UNSUPPORTED" or not find_convertible(data):
            raise
        warning = f"{path} could not be checked. {exc.message} {NEW_RECORD}"
        typer.echo(f"Warning: {warning} This record is for {path} as it is.", err=True)
    else:
        if problem := _find_problem(decoded):
            typer.echo(f"Warning: {path} {problem}: a job would refuse it.", err=True)
    return hashlib.sha256(data).hexdigest()


def _find_problem(decoded: Decoded) -> str:
    """Return why a job would refuse a recording, as far as that shows quickly; else nothing."""
    if decoded.seconds < MIN_DURATION_S:
        return f"lasts {decoded.seconds:.1f} s, which is less than {MIN_DURATION_S:.0f} s"
    loudest = max(decoded.channels, key=peak)
    if not has_speech(Audio(loudest, decoded.rate)):
        return f"has no speech in its first {_DECODED_S:.0f} s"
    return ""


def _write(record: Consent, out: Path | None) -> None:
    data = records.format_consent(record)
    if out is None:
        os.write(1, data)
        return
    create_file(out, data)
    if record.statement_audio:
        key = record.statement_audio.key
        typer.echo(f"upload the recorded statement to the inbox as {key}", err=True)
    typer.echo(f"wrote {out}: read it before you use it, because it speaks for a person", err=True)
