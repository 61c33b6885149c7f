"""The elements of results and parts: one voice, one item, one joined file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from core.consent.records import ConsentRef
from core.crypto.sealing import Digest, Envelope
from core.errors import JobError, Notice
from core.manifest.fields import Channel, Cue, Profile, Subtitle, Window
from core.settings import Preparation
from core.voice import Match


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error, as results and events contain it."""

    code: str
    message: str
    advice: str
    pointer: str = ""
    """JSON pointer into the manifest, or an object key."""
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


class AuxUsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further recording of a voice."""

    reference: str
    """Key in the inbox bucket."""
    reference_sha256: Digest | None = None


class VoiceUsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reference: str
    """Key in the inbox bucket."""
    reference_sha256: Digest | None = None
    """SHA-256 of the recording used; null if it could not be read."""
    aux: list[AuxUsed] = []
    prepare: Preparation | None = None
    """How the recording was prepared; null if it was not, and in results before this field."""
    channel: Channel | None = None
    """Which channel of the recording was used; null as `prepare`."""
    window: Window | None = None
    """Where in the recording the reference was taken from; null as `prepare`."""
    consent: ConsentRef | None = None
    match: dict[str, Match] = {}
    """Speaker encoder -> similarity, for engines that approximate a voice."""
    error: Problem | None = None
    """Why the voice could not be used."""
    notices: list[Notice] = []


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    """In the results bucket."""
    bytes: int
    sealed_sha256: Digest
    plain_sha256: Digest
    media_type: str
    """Media type of the file before it was sealed."""
    duration_s: float
    sample_rate: int


class Watermark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The watermark, as read back from the finished audio."""

    scheme: str
    key_id: str
    payload: str
    """Eight hexadecimal digits."""
    score: float


class Streamed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an item was heard while it was made."""

    nonce: str
    """Where its watermark starts: 32 hexadecimal digits."""
    seconds: float
    """Of sound that were sent."""
    complete: bool
    """Whether the whole item was sent. If not, the output is what was sent."""


class LabelUsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    profile: Profile
    cue: Cue
    producer: str = ""
    produce_id: str = ""
    """ProduceID of the AIGC label."""
    waiver: str = ""
    """From the manifest. Not in the record of an object, because it may be long."""

    def with_waiver(self, waiver: str) -> LabelUsed:
        """Return the label with the waiver of the manifest, if it is one that was waived."""
        return msgspec.structs.replace(self, waiver=waiver) if self.profile == "none" else self


class Sentence(msgspec.Struct, frozen=True, array_like=True):
    """When one sentence of an item is spoken."""

    chars: int
    """Characters of the spoken text up to the end of the sentence."""
    start_ms: int
    """Milliseconds from the beginning of the item's file, like `end_ms`."""
    end_ms: int


SUBTITLE_TYPES: Mapping[Subtitle, str] = {
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "json": "application/json",
}
"""Format of subtitles -> media type."""


class SubtitleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Subtitles of an item or joined file, sealed because they contain the text."""

    format: Subtitle
    key: str
    """In the results bucket."""
    envelope: Envelope


class ItemResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The result of one item: either `output` or `error` is set, or neither in a dry run."""

    id: str
    """Empty if the item has no valid one; then the index identifies it."""
    index: int
    status: Literal["succeeded", "failed", "validated"]
    """validated: a dry run found no error; there is no output."""
    error: Problem | None = None
    output: Output | None = None
    watermark: Watermark | None = None
    label: LabelUsed | None = None
    envelope: Envelope | None = None
    voice: str = ""
    kept_from: str = ""
    """Id of the earlier job that made the output and for which it is sealed, if it was kept."""
    cached: bool = False
    """The speech was not spoken for this item, but taken from the cache of spoken items. Watermark
    and label are its own."""
    streamed: Streamed | None = None
    """Null if it was not heard while it was made, and in results before this field."""
    asked: str = ""
    """Keyed digest of the request: text, voice and settings. A job that names this one in
    `retry_of` keeps the output only if its digest is the same."""
    redrawn: int = 0
    """How often the item was spoken again, with another seed, before it was accepted."""
    timings: dict[str, float] = {}
    """Stage -> seconds."""
    notices: list[Notice] = []
    sentences: list[Sentence] = []
    """Only if subtitles were requested."""
    subtitles: list[SubtitleFile] = []
    meta: dict[str, Any] | None = None
    """Copied from the manifest."""


class TimeSpan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an item or a chapter is spoken in a joined file."""

    id: str
    start: float
    """Seconds from the beginning of the file, like `end`."""
    end: float


class MarksRead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The watermarks of the items, as read back from the joined file."""

    key_id: str
    read: int
    """Number of items whose watermark was read."""
    share: float
    """Share of the joined audio that these items cover, 0 to 1."""
    weakest: float
    """The lowest score among them."""


class Chapter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A joined file: a chapter, or the whole book."""

    id: str
    status: Literal["succeeded", "partial", "failed"]
    """partial: items are missing; the name in the key then ends in `.partial`."""
    error: Problem | None = None
    output: Output | None = None
    label: LabelUsed | None = None
    marks: MarksRead | None = None
    envelope: Envelope | None = None
    subtitles: list[SubtitleFile] = []
    items: list[TimeSpan] = []
    """In the order in which they are spoken."""
    chapters: list[TimeSpan] = []
    """The chapter marks of a book."""
    missing: list[int] = []
    """Indices, among the items of the job, of those that are missing from the file."""
    timings: dict[str, float] = {}
    """Stage -> seconds."""
