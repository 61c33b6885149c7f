"""`POST /v1/audio/speech`, as the clients of OpenAI speak it.

Source: OpenAI API reference, "Create speech". A request is a job of one item in a voice that the
caller keeps under the name `voice`; `model` is not used, because the engine is a setting.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from core.documents import violation
from core.errors import Refused
from core.manifest.fields import Format
from core.manifest.validate import join_pointer
from handlers.api.clone import CloneRequest

SpokenFormat = Literal["mp3", "opus", "flac", "wav"]


class SpeechRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Speak a text in a voice that is kept under a name."""

    input: str
    voice: str | dict[str, Any]
    """The name, or an object with the name as `id`."""
    model: str = ""
    """Not used: the operator chooses the engine."""
    response_format: SpokenFormat = "mp3"
    """aac and pcm are not supported: pcm has no place for the label that the law requires."""
    speed: Annotated[float, Meta(ge=0.5, le=2.0)] = 1.0
    instructions: str | None = None
    """Not supported: only an empty one is accepted."""
    stream_format: Literal["audio"] = "audio"


def parse_speech(value: Any) -> CloneRequest:
    """Return the request for the same job. Raises Refused REQUEST_INVALID."""
    try:
        wanted = msgspec.convert(value, SpeechRequest, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError):
        found = violation.find_violation(value, SpeechRequest)
        message = found.message if found else "A field has the wrong type"
        pointer = join_pointer("", *found.path) if found else "/voice"
        raise Refused("REQUEST_INVALID", f"{message}.", pointer=pointer) from None
    if wanted.instructions:
        message = "This engine takes no instructions: leave them out."
        raise Refused("REQUEST_INVALID", message, pointer="/instructions")
    voice = wanted.voice.get("id") if isinstance(wanted.voice, dict) else wanted.voice
    form: Format = wanted.response_format
    try:
        return msgspec.convert(
            {"text": wanted.input, "voice": voice, "format": form, "speed": wanted.speed},
            CloneRequest,
        )
    except msgspec.ValidationError:
        message = "There is no voice of this name: `POST /clone` with `voice` keeps one."
        raise Refused("REQUEST_INVALID", message, pointer="/voice", advice="") from None
