"""What became of a job: `voicedrop/result/1`, the document whose presence means finished.

Written once, signed (core/sign.py), in canonical JSON, so that whoever parses and dumps it again
has the same bytes. It holds no text and no name: meta and labels are the producer's own words.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from core import canonical
from core.consent import Cited
from core.crypto import Digest, Envelope
from core.errors import JobError, Notice, Refused
from core.manifest import Cue, Profile, Subtitle
from core.settings import ConsentPolicy
from core.sign import Signature
from core.voice import Match

SCHEMA = "voicedrop/result/1"
Status = Literal["succeeded", "partial", "failed", "rejected", "validated", "invalid"]
"""rejected: the manifest itself was refused; failed: no item came out. Of a dry run, of which no
speech ever comes: validated if nothing is wrong, else invalid."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error as results and events tell it."""

    code: str
    message: str
    advice: str
    pointer: str = ""
    """Into the manifest, or an object key."""
    retryable: bool = False

    @staticmethod
    def of(error: JobError) -> Problem:
        return Problem(
            code=error.code,
            message=error.message,
            advice=error.advice,
            pointer=error.pointer,
            retryable=error.retry,
        )


class ManifestRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes this result answers."""

    bucket: str
    key: str
    sha256: Digest
    size: int
    etag: str = ""


class Engine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    fingerprint: str


class Totals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: int = 0
    succeeded: int = 0
    failed: int = 0
    characters: int = 0
    """Of the items that succeeded, as spoken."""
    audio_s: float = 0.0
    kept: int = 0
    """Of those that succeeded: made by the job that this one repeats."""


class VoiceUsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reference: str
    """Key in the inbox bucket."""
    reference_sha256: Digest | None = None
    """Of the bytes that were used; null if they could not be read."""
    consent: Cited | None = None
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


class Subtitled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Subtitles of one item or joined file, sealed like it: they hold the text."""

    format: Subtitle
    key: str
    """In the results bucket."""
    envelope: Envelope


class ItemResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    redrawn: int = 0
    """How often the item was spoken again with another seed before it was released."""
    timings: dict[str, float] = {}
    """Stage -> seconds."""
    notices: list[Notice] = []
    sentences: list[Sentence] = []
    """Where subtitles were asked for."""
    subtitles: list[Subtitled] = []
    meta: dict[str, Any] | None = None
    """As the manifest gave it."""


class Placed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    subtitles: list[Subtitled] = []
    items: list[Placed] = []
    """In the order in which they are heard."""
    chapters: list[Placed] = []
    """Of a book: what its chapter marks say."""
    missing: list[int] = []
    """Places, among the items of the job, of those that should be heard in it and are not."""
    timings: dict[str, float] = {}
    """Stage -> seconds."""


class PartRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where some of the items stand; in the order of the manifest."""

    key: str
    """In the results bucket."""
    sha256: Digest
    items: int
    succeeded: int
    failed: int
    errors: dict[str, int] = {}
    """Code -> how many items."""


class Attachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table beside the result, made from the items alone."""

    key: str
    """In the results bucket."""
    sha256: Digest
    bytes: int


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: int
    characters: int
    audio_s: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What speaking would come to: by the speaking rate of each language, not by speaking."""

    items: int
    characters: int
    audio_s: float
    languages: dict[str, Expected] = {}
    cost: float | None = None
    """By the operator's price of a minute of speech; null where none is set."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some items of a job that was cut, signed: `out/<job_id>/parts/<number>.json`."""

    schema: Literal["voicedrop/part/1"] = "voicedrop/part/1"
    job_id: str
    number: int
    """From 0."""
    of: int
    engine: Engine | None = None
    voices: dict[str, VoiceUsed] = {}
    """As these items used them."""
    totals: Totals = Totals()
    items: list[ItemResult] = []
    stages: dict[str, float] = {}
    signature: Signature | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/result/1"] = "voicedrop/result/1"
    job_id: str
    status: Status
    manifest: ManifestRef
    processor: str
    """Version of this program."""
    started: str
    """RFC 3339, UTC, like `finished`."""
    finished: str
    consent_policy: ConsentPolicy
    engine: Engine | None = None
    id: str = ""
    """The producer's own name for the job."""
    labels: dict[str, str] = {}
    totals: Totals = Totals()
    error: Problem | None = None
    """Of the job as a whole, if it was rejected or failed."""
    voices: dict[str, VoiceUsed] = {}
    items: list[ItemResult] = []
    """In the order of the manifest; of a job that was cut, they stand in its parts."""
    chapters: list[Chapter] = []
    """Joined files, where the manifest asks for them."""
    parts: list[PartRef] = []
    attachments: dict[str, Attachment] = {}
    """`items` and `errors` of a job that was cut: items.csv and errors.jsonl."""
    retry_of: str = ""
    """The earlier job whose outputs were kept."""
    estimate: Estimate | None = None
    """Of a dry run."""
    stages: dict[str, float] = {}
    """Stage -> seconds, over all items."""
    notices: list[Notice] = []
    signature: Signature | None = None


def items_of(result: Result, fetch: Callable[[str], bytes]) -> Iterator[ItemResult]:
    """Every item of a genuine result, in the order of the manifest, one part in memory at a time.

    `fetch` gives the bytes of an object of the results bucket. Raises Refused OBJECT_CHANGED if a
    part is not the one that the result names, and what `fetch` raises.
    """
    yield from result.items
    for part in parts_of(result, fetch):
        yield from part.items


def parts_of(result: Result, fetch: Callable[[str], bytes]) -> Iterator[Part]:
    """The parts of a genuine result. Raises as `items_of` does."""
    for named in result.parts:
        data = fetch(named.key)
        if hashlib.sha256(data).hexdigest() != named.sha256:
            message = "Its digest is not the one that the result states."
            raise Refused("OBJECT_CHANGED", message, pointer=named.key)
        yield read_part(data)


def read_part(data: bytes) -> Part:
    """Raises Refused SCHEMA_TYPE. Whether it is genuine: by its digest, or `core.sign.verify`."""
    try:
        return msgspec.json.decode(data, type=Part)
    except (msgspec.DecodeError, KeyError, RecursionError) as exc:
        raise Refused("SCHEMA_TYPE", f"Not a part of a result: {exc}.") from exc


def errors_of(items: Iterable[ItemResult]) -> dict[str, int]:
    """Code -> how many items, in the order of the codes."""
    return dict(sorted(Counter(item.error.code for item in items if item.error).items()))


def status_of(totals: Totals, chapters: Sequence[Chapter] = (), *, dry: bool = False) -> Status:
    """`dry`: of a dry run."""
    if dry:
        return "invalid" if totals.failed else "validated"
    if totals.succeeded == totals.items and all(one.status == "succeeded" for one in chapters):
        return "succeeded"
    return "partial" if totals.succeeded else "failed"


def totals_of(items: list[ItemResult], length: Mapping[str, int]) -> Totals:
    """`length`: characters of each item's text by its id."""
    spoken = {item.id: item.output for item in items if item.output}
    return Totals(
        items=len(items),
        succeeded=len(spoken),
        failed=sum(item.status == "failed" for item in items),
        characters=sum(length[id_] for id_ in spoken),
        audio_s=round(sum(output.duration_s for output in spoken.values()), 3),
        kept=sum(bool(item.kept_from) for item in items),
    )


def sum_of(totals: Iterable[Totals]) -> Totals:
    added = {name: 0.0 for name in Totals.__struct_fields__}
    for one in totals:
        for name in added:
            added[name] = round(added[name] + getattr(one, name), 3)
    return msgspec.convert(added, Totals, strict=False)


def stages_of(job: Mapping[str, float], made: Iterable[ItemResult | Chapter]) -> dict[str, float]:
    """Seconds of each stage, of the job as a whole, its items and its joined files."""
    return added(job, *(one.timings for one in made))


def added(*spent: Mapping[str, float]) -> dict[str, float]:
    """Stage -> seconds, of all together."""
    total: dict[str, float] = {}
    for stages in spent:
        for stage, seconds in stages.items():
            total[stage] = round(total.get(stage, 0.0) + seconds, 4)
    return total


def objects(made: Iterable[ItemResult | Chapter]) -> Iterator[str]:
    """Keys of all sealed objects that these name."""
    for one in made:
        if one.output:
            yield one.output.key
        yield from (subtitle.key for subtitle in one.subtitles)


def result_key(job_id: str) -> str:
    return f"out/{job_id}/result.json"


def part_key(job_id: str, number: int) -> str:
    return f"out/{job_id}/parts/{number:05}.json"


def dump(result: Result) -> bytes:
    """Canonical JSON. Raises ValueError for what has no canonical form: NaN, lone surrogates."""
    return canonical.dump(result)


def parse(data: bytes) -> Result:
    """Raises Refused SCHEMA_TYPE. Whether it is genuine: `core.sign.verify`."""
    try:
        return msgspec.json.decode(data, type=Result)
    except (msgspec.DecodeError, KeyError, RecursionError) as exc:
        raise Refused("SCHEMA_TYPE", f"Not a {SCHEMA} document: {exc}.") from exc


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
