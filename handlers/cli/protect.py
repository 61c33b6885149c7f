"""`voicedrop protect ...`: people whose voice is not to be cloned unless they allow it here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from core.audio.decoding import BYTES_LIMIT
from core.consent import protection
from core.consent.protection import Protection
from core.errors import Refused
from core.job.runtime import Runtime
from core.speech import reference
from core.speech.speaker import describe_known
from core.storage.object_keys import PROTECTED
from handlers import wiring
from handlers.cli import exit_codes, screen
from handlers.cli.describe import SHORT
from handlers.cli.files import read_file
from handlers.cli.options import AsJson, Bucket, read_settings

protect_app = typer.Typer(help="Voices that are not to be cloned.", no_args_is_help=True)


@protect_app.command("add")
def protect_add(
    recording: Annotated[Path, typer.Argument(help="A recording of the person, 3 s or longer.")],
    label: Annotated[str, typer.Option(help="What you call this voice.")],
    owner: Annotated[
        str,
        typer.Option(
            help="Who may allow its use: what a consent record must name as protection_owner "
            "(default: the label)."
        ),
    ] = "",
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Protect the voice in a recording.

    From then on references and speech that resemble it are refused (VOICE_PROTECTED). Sealed
    embeddings of the voice are kept, not the recording.
    """
    runtime = wiring.create_local_runtime(read_settings(bucket))
    data = read_file(recording, limit=BYTES_LIMIT)
    who = describe_known(reference.prepare(data, recording.name).audio)
    digest = hashlib.sha256(data).hexdigest()
    made = protection.protect(
        digest, who, runtime.control, runtime.keys, label=label, owner=owner or label
    )
    line = f"protected {_describe(made)}"
    screen.show(screen.CommandOutput(_to_json(made), [line]), as_json=as_json)


@protect_app.command("list")
def protect_list(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """List the protected voices. Exit code 1 if an object is there that is none."""
    runtime = wiring.create_local_runtime(read_settings(bucket))
    found = dict(protection.list_protections(runtime.control, runtime.keys))
    genuine = [one for one in found.values() if one]
    foreign = [key for key, one in found.items() if one is None]
    lines = [_describe(one) for one in genuine] or ["No voice is protected."]
    lines += [f"{key}: not signed by us for this place, and ignored. Remove it." for key in foreign]
    output = {"protected": [_to_json(one) for one in genuine], "foreign": foreign}
    code = exit_codes.FAILED if foreign else exit_codes.DONE
    screen.show(screen.CommandOutput(output, lines, code), as_json=as_json)


@protect_app.command("remove")
def protect_remove(
    protection_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="Its label, id or the first digits, as `list` shows."),
    ],
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Remove the protection of a voice, and all that is kept of it."""
    runtime = wiring.create_local_runtime(read_settings(bucket))
    key = _find(protection_id, runtime)
    runtime.control.delete(key)
    screen.show(screen.CommandOutput({"removed": key}, [f"removed {key}"]), as_json=as_json)


def _find(name: str, runtime: Runtime) -> str:
    prefix = PROTECTED + name.removeprefix(PROTECTED)
    found = {
        key
        for key, one in protection.list_protections(runtime.control, runtime.keys)
        if key.startswith(prefix) or (one and one.label == name)
    }
    if len(found) == 1 and name:
        return found.pop()
    have = f"{len(found)} protections have" if found else "No protection has"
    message = (
        f"{have} the label {name!r} or an id that begins so: `voicedrop protect list` shows them."
    )
    raise Refused("OBJECT_MISSING", message)


def _describe(one: Protection) -> str:
    made = f"{one.created:%Y-%m-%d}"
    return f"{one.recording[:SHORT]}  {one.label}  (owner: {one.owner}, since {made})"


def _to_json(one: Protection) -> dict[str, Any]:
    stated = msgspec.to_builtins(one)
    return {name: stated[name] for name in ("recording", "label", "owner", "created")}
