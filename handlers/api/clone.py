"""A request of `POST /clone`, and the manifest that it becomes.

Recording, consent record and statement are files of the request or keys of the inbox. A file gets
the key of its SHA-256, and the manifest names that digest too: so equal requests give equal
manifests, and nothing that a running job reads is ever replaced.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from core.audio.decoding import BYTES_LIMIT
from core.consent import records
from core.documents import violation
from core.documents.violation import string_pattern
from core.errors import Refused
from core.manifest.fields import (
    SCHEMA,
    Format,
    Id,
    Key,
    Language,
    Markup,
    SampleRate,
    Seed,
    Speed,
    Subtitles,
)
from core.manifest.validate import join_pointer
from handlers.api.callers import Caller

VOICE = "voice"
"""The name of a voice that the caller did not name."""
ITEM = "speech"
"""The id of the only item."""
_EXTENSION = re.compile(r"\.[a-z0-9]{1,5}\Z")
Base64 = Annotated[
    str,
    string_pattern(r"^[A-Za-z0-9+/\r\n]*={0,2}\s*\Z", "The content of a file is written in base64"),
]


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file inside a JSON document. Multipart forms carry files as they are."""

    base64: Base64
    name: Annotated[str, Meta(max_length=255)] = ""
    """Its name, of which only the extension is used."""


class Upload(msgspec.Struct, frozen=True):
    """A file of a request."""

    data: bytes
    name: str = ""


class CloneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Speak a text in the voice of a recording. Either `text` or `manifest` is given. A recording,
    consent record or statement is the key of an object in the inbox, or a file."""

    text: str | None = None
    voice: Id | None = None
    """A name for the voice, under which later requests can use it without its files; with a
    manifest, the name of one of its voices."""
    recording: Key | File | None = None
    consent: Key | File | None = None
    statement_audio: File | None = None
    """The recorded statement that the consent record names."""
    language: Language | None = None
    """The language of the recording and of the text."""
    transcript: Annotated[str, Meta(max_length=2000)] = ""
    """The words spoken in the recording."""
    format: Format = "wav"
    sample_rate: SampleRate | None = None
    speed: Speed = 1.0
    seed: Seed | None = None
    subtitle: Subtitles = []
    markup: Markup | None = None
    lexicon: Key | None = None
    manifest: dict[str, Any] | None = None
    """A whole manifest, `voicedrop/job/1`. Files replace the keys of its only voice."""


FILES = ("recording", "consent", "statement_audio")
_OF_VOICE = ("recording", "consent", "language", "transcript")
_OF_ITEM = ("format", "sample_rate", "speed", "seed", "subtitle", "markup", "lexicon")


def parse_request(value: Any) -> CloneRequest:
    """Return a decoded JSON document as a request. Raises Refused REQUEST_INVALID."""
    try:
        return msgspec.convert(value, CloneRequest, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError):
        if isinstance(value, dict):
            _explain_files(value)
        found = violation.find_violation(value, CloneRequest)
        message = found.message if found else "A field has the wrong type"
        pointer = join_pointer("", *found.path) if found else ""
        raise Refused("REQUEST_INVALID", f"{message}.", pointer=pointer) from None


def _explain_files(value: dict[str, Any]) -> None:
    """Raise Refused for a file with a wrong field, which may also be a key."""
    for name in FILES:
        field = value.get(name)
        if isinstance(field, dict) and (found := violation.find_violation(field, File)):
            pointer = join_pointer("", name, *found.path)
            raise Refused("REQUEST_INVALID", f"{found.message}.", pointer=pointer)
        if field is not None and not isinstance(field, dict | str):
            message = "Expected a key of the inbox, or an object with the file in `base64`."
            raise Refused("REQUEST_INVALID", message, pointer=f"/{name}")


def parse_form(fields: Mapping[str, str]) -> CloneRequest:
    """Return the text fields of a form as a request. Raises as `parse_request`."""
    value: dict[str, Any] = dict(fields)
    for name, read in (("sample_rate", int), ("speed", float), ("seed", int)):
        if name in value:
            try:
                value[name] = read(fields[name])
            except ValueError:
                raise Refused("REQUEST_INVALID", "Expected a number.", pointer=f"/{name}") from None
    if "subtitle" in value:
        value["subtitle"] = [one.strip() for one in fields["subtitle"].split(",") if one.strip()]
    if "manifest" in value:
        value["manifest"] = load_json(fields["manifest"].encode(errors="surrogatepass"))
    return parse_request(value)


def load_json(data: bytes) -> Any:
    """Parse strict JSON. Raises Refused JSON_SYNTAX."""
    from core.documents import canonical
    from core.errors import ExplainedError

    try:
        return canonical.load(data)
    except ExplainedError as exc:
        raise Refused("JSON_SYNTAX", f"The body cannot be read: {exc}.") from exc
    except ValueError as exc:
        raise Refused("JSON_SYNTAX") from exc


def decode_files(request: CloneRequest) -> dict[str, Upload]:
    """Return the files that a JSON document contains, by field. Raises Refused REQUEST_INVALID."""
    found = {}
    for field in FILES:
        file = getattr(request, field)
        if isinstance(file, File):
            try:
                data = base64.b64decode(file.base64)
            except (binascii.Error, ValueError):
                message = "The content of a file is written in base64."
                raise Refused("REQUEST_INVALID", message, pointer=f"/{field}/base64") from None
            found[field] = Upload(data, file.name)
    return found


class NewJob(msgspec.Struct, frozen=True):
    """What is stored for a request: the manifest, and files by their keys."""

    manifest: bytes
    files: dict[str, bytes]
    voice: dict[str, Any] | None = None
    """The voice as a manifest writes it, to be kept under its name; None: nothing to keep."""
    voice_name: str = ""


def to_job(
    request: CloneRequest,
    files: Mapping[str, Upload],
    caller: Caller,
    known: Mapping[str, Any] | None = None,
) -> NewJob:
    """Return the manifest of a request and its files. `known`: the voice that the caller keeps
    under the name in the request, if it is used without files.

    Raises Refused REQUEST_INVALID, CONSENT_INVALID, REF_HASH_MISMATCH.
    """
    if (request.text is None) == (request.manifest is None):
        raise Refused("REQUEST_INVALID", "Give either `text` or `manifest`.", pointer="/text")
    stored, voice = _place_files(request, files, caller)
    if request.manifest is not None:
        document = _with_voice(request, voice)
        kept = _voice_of(document, request.voice) if request.voice else None
        return NewJob(_dump(document), stored, kept, request.voice or "")
    voice = {**(known or {}), **voice}
    if request.voice and not voice:
        message = f"No voice `{request.voice}` is kept: send its recording and consent record."
        raise Refused("VOICE_UNKNOWN", message, pointer="/voice", advice="")
    voice |= {n: getattr(request, n) for n in ("language", "transcript") if getattr(request, n)}
    for needed, field in (("reference", "recording"), ("language", "language")):
        if needed not in voice:
            message = f"Give `{field}`, or the name of a voice that has it."
            raise Refused("REQUEST_INVALID", message, pointer=f"/{field}")
    name = request.voice or VOICE
    given = {one: getattr(request, one) for one in _OF_ITEM}
    defaults = {one: value for one, value in given.items() if value not in (None, [], 1.0)}
    document = {
        "schema": SCHEMA,
        "voices": {name: voice},
        "defaults": defaults,
        "items": [{"id": ITEM, "text": request.text}],
        "wait_s": 0,
    }
    return NewJob(_dump(document), stored, voice if request.voice else None, request.voice or "")


def _with_voice(request: CloneRequest, voice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of the request, with the files in its only voice."""
    document = dict(request.manifest or {})
    others = [name for name in ("language", *_OF_ITEM) if _is_given(request, name)]
    if others:
        message = f"`{others[0]}` belongs into the manifest."
        raise Refused("REQUEST_INVALID", message, pointer=f"/{others[0]}")
    if not voice:
        return document
    voices = document.get("voices")
    if not isinstance(voices, dict) or len(voices) > 1:
        message = "Files are for a manifest of one voice: name keys of the inbox instead."
        raise Refused("REQUEST_INVALID", message, pointer="/manifest/voices")
    name, given = next(iter(voices.items()), (VOICE, {}))
    if isinstance(given, dict):
        document["voices"] = {name: {**given, **voice}}
    return document


def _voice_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a voice of a manifest that is to be kept. Raises Refused VOICE_UNKNOWN."""
    voices = document.get("voices")
    voice = voices.get(name) if isinstance(voices, dict) else None
    if not isinstance(voice, dict):
        raise Refused("VOICE_UNKNOWN", f"The manifest has no voice `{name}`.", pointer="/voice")
    return voice


def _is_given(request: CloneRequest, name: str) -> bool:
    return bool(getattr(request, name) != getattr(CloneRequest(), name))


def _place_files(
    request: CloneRequest, files: Mapping[str, Upload], caller: Caller
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files by their keys, and the fields of the voice that name them."""
    stored: dict[str, bytes] = {}
    voice: dict[str, Any] = {}
    if recording := files.get("recording"):
        digest = _sha256(recording.data, "/recording")
        key = f"refs/{caller.folder}{digest}{extension_of(recording.name)}"
        stored[key], voice = recording.data, {"reference": key, "sha256": digest}
    elif isinstance(request.recording, str):
        voice["reference"] = request.recording
    if request.transcript:
        voice["transcript"] = request.transcript
    if consent := files.get("consent"):
        key = f"consent/{caller.folder}{_sha256(consent.data, '/consent')}.json"
        stored[key], voice["consent"] = consent.data, key
    elif isinstance(request.consent, str):
        voice["consent"] = request.consent
    if statement := files.get("statement_audio"):
        stored |= _place_statement(statement, consent)
    return stored, voice


def _place_statement(statement: Upload, consent: Upload | None) -> dict[str, bytes]:
    """Return the statement under the key that its record names."""
    pointer = "/statement_audio"
    if consent is None:
        message = "Send the consent record that names the statement with it."
        raise Refused("REQUEST_INVALID", message, pointer=pointer)
    named = records.parse_consent(consent.data, pointer="/consent").statement_audio
    if named is None:
        message = "The consent record names no recorded statement."
        raise Refused("CONSENT_INVALID", message, pointer="/consent")
    if _sha256(statement.data, pointer) != named.sha256:
        message = "The SHA-256 of the statement is not that in the consent record."
        raise Refused("REF_HASH_MISMATCH", message, pointer=pointer)
    return {named.key: statement.data}


def _sha256(data: bytes, pointer: str) -> str:
    if not data:
        raise Refused(
            "AUDIO_EMPTY" if pointer != "/consent" else "CONSENT_INVALID", pointer=pointer
        )
    if len(data) > BYTES_LIMIT:
        raise Refused("AUDIO_TOO_LARGE", pointer=pointer)
    return hashlib.sha256(data).hexdigest()


def extension_of(name: str) -> str:
    """Return the extension of a file's name for the end of a key; empty if it is unusual."""
    found = _EXTENSION.search(name.lower())
    return found[0] if found else ""


def _dump(document: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(document)
    except (UnicodeEncodeError, RecursionError, OverflowError) as exc:
        raise Refused("TEXT_SURROGATE", pointer="/text") from exc
