"""The fields of a manifest, `voicedrop/job/1`.

The Structs below are the format; docs/schemas/job-1.json is generated from them. An unknown field
is refused with a suggestion, because a misspelt field that is ignored makes the wrong voice speak
without anyone noticing. Keys that begin with `x-` belong to the producer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from core.documents.violation import string_pattern
from core.errors import REFUSED
from core.settings import Preparation

SCHEMA = "voicedrop/job/1"
MAX_ITEMS = 100_000
MAX_VOICES = 32
MAX_AUX = 8
MAX_LABELS = 32
MAX_LABEL_NAME = 64

Format = Literal["wav", "flac", "mp3", "opus"]
SampleRate = Literal[8000, 12000, 16000, 22050, 24000, 32000, 44100, 48000]
Cue = Literal["none", "morse-start", "morse-end", "morse-both"]
Profile = Literal["none", "cn"]
Subtitle = Literal["srt", "vtt", "json"]
Concatenate = Literal["none", "chapters", "book"]
Mode = Literal["run", "validate"]
Markup = Literal["ssml"]
Channel = Literal["left", "right", "loudest", "mix"]
Window = Literal["best", "first_30s"]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
Id = Annotated[str, string_pattern(ID_PATTERN, REFUSED["ID_INVALID"].removesuffix("."))]
Language = Annotated[
    str,
    string_pattern(
        r"^[a-z]{2,3}\Z",
        "Write the language as its ISO 639 code, such as en or zh, not `english` or `zh-CN`",
        examples=["en", "zh", "ja"],
    ),
]
JobId = Annotated[
    str, string_pattern(r"^[0-9a-f]{32}\Z", "A job id is 32 hexadecimal digits, lower case")
]
Sha256 = Annotated[str, string_pattern(r"^[0-9A-Fa-f]{64}\Z", "A SHA-256 is 64 hexadecimal digits")]
Key = Annotated[str, Meta(min_length=1, max_length=1023)]
Producer = Annotated[
    str,
    string_pattern(
        r"^[\x21\x23-\x5b\x5d-\x7e]{0,128}\Z", REFUSED["LABEL_CHARSET"].removesuffix(".")
    ),
]
Speed = Annotated[float, Meta(ge=0.5, le=2.0)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
PauseMs = Annotated[int, Meta(ge=0, le=10_000)]
Title = Annotated[str, Meta(min_length=1, max_length=200)]
Subtitles = list[Subtitle]


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values for items that do not set their own."""

    voice: Id | None = None
    """If the manifest defines one voice only: that voice."""
    language: Language | None = None
    """ISO 639-1, or 639-3 where there is no shorter code; else the language of the voice."""
    format: Format = "wav"
    sample_rate: SampleRate | None = None
    """Hz; null: the voice engine's rate, or the nearest rate that the container allows."""
    speed: Speed = 1.0
    seed: Seed | None = None
    """Null: derived from the item, so that a repeated job sounds the same."""
    pause_ms: PauseMs = 0
    """Silence at the end of the item."""
    after_ms: PauseMs | None = None
    """Silence after the item in a joined file, in place of `pause_ms`."""
    chapter: Id | None = None
    subtitle: Subtitles = []
    """Subtitle formats for each item, or for the joined files if items are joined."""
    markup: Markup | None = None
    """ssml: texts are SSML, see docs/text.md; null: they are plain."""
    lexicon: Key | None = None
    """Key of a lexicon in the inbox bucket, which says how words are read."""


class Voice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reference: Key
    """Key of the recording in the inbox bucket."""
    language: Language
    """The language of the recording."""
    sha256: Sha256 | None = None
    """SHA-256 that the recording must have."""
    transcript: Annotated[str, Meta(max_length=2000)] = ""
    """The words spoken in the recording."""
    prepare: Preparation | None = None
    """How the recording is prepared: best, or as the article has it; null: as the operator sets."""
    channel: Channel = "mix"
    """Which channel of a recording is used; mix: the mean of all, unless one of two is silent."""
    window: Window = "best"
    """Where in the recording the reference is taken from: anywhere, or in the first 30 s."""
    aux: Annotated[list[Key], Meta(max_length=MAX_AUX)] = []
    """Keys of further recordings of the speaker, for engines that learn from several."""
    consent: Key | None = None
    """Key of the consent record in the inbox bucket."""

    @property
    def recordings(self) -> list[str]:
        """The keys of all recordings, that of the reference first."""
        return [self.reference, *self.aux]

    @property
    def is_cut(self) -> bool:
        """Whether only one channel or the beginning of the recording is used."""
        return (self.channel, self.window) != ("mix", "best")


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    profile: Profile = "cn"
    """cn: the implicit AIGC label of GB 45438-2025 in the file; none requires a waiver."""
    cue: Cue = "none"
    """The audible label of GB 45438-2025 5.3: `AI` in Morse code."""
    producer: Producer | None = None
    """ContentProducer, the provider code; null: the operator's."""
    waiver: Annotated[str, Meta(max_length=500)] = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that join several items."""

    concatenate: Concatenate = "none"
    """chapters: one file per chapter; book: one file with a mark at each chapter."""
    format: Format | None = None
    """Format of the joined files; null: as in `defaults`."""
    titles: dict[str, Title] = {}
    """Chapter id -> text of its mark in a book; the id if absent."""


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    id: Id
    text: str
    voice: Id | None = None
    language: Language | None = None
    format: Format | None = None
    sample_rate: SampleRate | None = None
    speed: Speed | None = None
    seed: Seed | None = None
    pause_ms: PauseMs | None = None
    after_ms: PauseMs | None = None
    chapter: Id | None = None
    """Id of the chapter that the item belongs to."""
    subtitle: Subtitles | None = None
    markup: Markup | None = None
    lexicon: Key | None = None
    meta: dict[str, Any] | None = None
    """Returned unchanged in the result; at most 4 KiB."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/job/1"]
    voices: dict[str, Voice]
    id: Id | None = None
    """The producer's name for the job, returned in the result."""
    labels: dict[str, Annotated[str, Meta(max_length=256)]] = {}
    """Returned in the result and the event."""
    defaults: Defaults = Defaults()
    label: Label = Label()
    output: Delivery = Delivery()
    wait_s: Annotated[int, Meta(ge=0, le=86_400)] = 900
    """Seconds to wait for references that have not arrived yet."""
    mode: Mode = "run"
    """validate: a dry run that checks and estimates everything and speaks nothing."""
    retry_of: JobId | None = None
    """Id of an earlier job whose outputs are kept for items that have not changed."""
    items: list[Item] = []


EMPTY_MANIFEST = Manifest(schema="voicedrop/job/1", voices={})

UNSUPPORTED_FIELDS: Mapping[type[msgspec.Struct], Mapping[str, tuple[Any, ...]]] = {
    Manifest: {
        "priority": ("normal",),
        "encrypt": ({"enabled": True}, {}),
        "notify": ({"events": True}, {}),
        "rerun_nonce": (),
        "markup": (False,),
    },
    Defaults: {"normalize_text": (True,)},
    Voice: {},
    Label: {"visible_text": ()},
    Delivery: {"prefix": ()},
    Item: {
        "ssml": (False,),
        "markup": (False,),
        "normalize_text": (True,),
    },
}
"""Fields of the format that are not supported yet, and the values that change nothing and are
therefore accepted. To support a field, move it from here to the Struct above; values that were
accepted before stay here."""

UNSUPPORTED_VALUES: Mapping[str, tuple[str, ...]] = {
    "profile": ("eu", "cn+eu"),
    "cue": ("spoken-start", "spoken-end", "spoken-both"),
}
"""Values of the format that are not supported yet, by field."""
