"""What became of one voice, one item, one joined file: what results and parts are made of."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from core.consent.records import ConsentRef
from core.crypto.sealing import Digest, Envelope
from core.errors import JobError, Notice
from core.manifest.fields import Cue, Profile, Subtitle
from core.voice import Match


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error as results and events tell it."""

    code: str
    message: str
    advice: str
    pointer: str = ""
    """Into the manifest, or an object key."""
    retryable: bool = False

    @staticmethod
    def from_error(error: JobError) -> Problem:
        return Problem(
            code=error.code,
            message=error.message,
            advice=error.advice,
            pointer=error.pointer,
            retryable=error.retry,
        )


class VoiceUsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reference: str
    """Key in the inbox bucket."""
    reference_sha256: Digest | None = None
    """Of the bytes that were used; null if they could not be read."""
    consent: ConsentRef | None = None
    match: dict[str, Match] = {}
    """Speaker encoder -> how near an approximating engine came."""
    error: Problem | None = None
    """Why nothing could be said in this voice."""
    notices: list[Notice] = []


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    """In the results bucket."""
    bytes: int
    sealed_sha256: Digest
    plain_sha256: Digest
    media_type: str
    """Of the plain file."""
    duration_s: float
    sample_rate: int


class Watermark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was read back from the finished sound."""

    scheme: str
    key_id: str
    payload: str
    """Eight hexadecimal digits."""
    score: float


class LabelUsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    profile: Profile
    cue: Cue
    producer: str = ""
    produce_id: str = ""
    """ProduceID of the AIGC label."""
    waiver: str = ""


class Sentence(msgspec.Struct, frozen=True, array_like=True):
    """When one sentence of an item is heard."""

    chars: int
    """Characters of the item's text, as it was spoken, up to the end of the sentence."""
    start_ms: int
    """From the beginning of the item's file, as is `end_ms`."""
    end_ms: int


class SubtitleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Subtitles of one item or joined file, sealed like it: they hold the text."""

    format: Subtitle
    key: str
    """In the results bucket."""
    envelope: Envelope


class ItemResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Either `output` or `error` is set, or neither in a dry run."""

    id: str
    """Empty where the manifest gave no valid one: then the index names the item."""
    index: int
    status: Literal["succeeded", "failed", "validated"]
    """validated: a dry run found nothing wrong with it; there is no output."""
    error: Problem | None = None
    output: Output | None = None
    watermark: Watermark | None = None
    label: LabelUsed | None = None
    envelope: Envelope | None = None
    voice: str = ""
    kept_from: str = ""
    """The earlier job that made the output, where it was not made again; it is sealed for that
    job."""
    asked: str = ""
    """Keyed digest of what the manifest asked for: text, voice and settings. A job that repeats
    this one keeps the output only if it asks for the same."""
    redrawn: int = 0
    """How often the item was spoken again with another seed before it was released."""
    timings: dict[str, float] = {}
    """Stage -> seconds."""
    notices: list[Notice] = []
    sentences: list[Sentence] = []
    """Where subtitles were asked for."""
    subtitles: list[SubtitleFile] = []
    meta: dict[str, Any] | None = None
    """As the manifest gave it."""


class TimeSpan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item, or all of a chapter, in a joined file."""

    id: str
    start: float
    """Seconds from the beginning of the file, as is `end`."""
    end: float


class MarksRead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The marks of the items, as they read in the finished joined file."""

    key_id: str
    read: int
    """Items whose mark was read."""
    share: float
    """Of the joined sound that lies in them, 0-1."""
    weakest: float
    """The least score among those read."""


class Chapter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A joined file: a chapter, or the whole book."""

    id: str
    status: Literal["succeeded", "partial", "failed"]
    """partial: made, but items are missing; its key says so too."""
    error: Problem | None = None
    output: Output | None = None
    label: LabelUsed | None = None
    marks: MarksRead | None = None
    envelope: Envelope | None = None
    subtitles: list[SubtitleFile] = []
    items: list[TimeSpan] = []
    """In the order in which they are heard."""
    chapters: list[TimeSpan] = []
    """Of a book: what its chapter marks say."""
    missing: list[int] = []
    """Places, among the items of the job, of those that should be heard in it and are not."""
    timings: dict[str, float] = {}
    """Stage -> seconds."""
