"""What became of a job: `voicedrop/result/1`, the document whose presence means finished.

Written once, signed (core/documents/signed.py), in canonical JSON, so that whoever parses and dumps
it again has the same bytes. It holds no text and no name: meta and labels are the producer's own
words.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from core.crypto.sealing import Digest
from core.documents.signed import Signature
from core.errors import Notice, Refused
from core.result.item_result import Chapter, ItemResult, Problem, VoiceUsed
from core.settings import ConsentPolicy

SCHEMA = "voicedrop/result/1"
Status = Literal["succeeded", "partial", "failed", "rejected", "validated", "invalid"]
"""rejected: the manifest itself was refused; failed: no item came out. Of a dry run, of which no
speech ever comes: validated if nothing is wrong, else invalid."""


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


class LanguageEstimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: int
    characters: int
    audio_s: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What speaking would come to: by the speaking rate of each language, not by speaking."""

    items: int
    characters: int
    audio_s: float
    languages: dict[str, LanguageEstimate] = {}
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


def read_items(result: Result, fetch: Callable[[str], bytes]) -> Iterator[ItemResult]:
    """Every item of a genuine result, in the order of the manifest, one part in memory at a time.

    `fetch` gives the bytes of an object of the results bucket. Raises Refused OBJECT_CHANGED if a
    part is not the one that the result names, and what `fetch` raises.
    """
    yield from result.items
    for part in read_parts(result, fetch):
        yield from part.items


def read_parts(result: Result, fetch: Callable[[str], bytes]) -> Iterator[Part]:
    """The parts of a genuine result. Raises as `items_of` does."""
    for named in result.parts:
        yield read_part(named, fetch)


def read_part(named: PartRef, fetch: Callable[[str], bytes]) -> Part:
    data = fetch(named.key)
    if hashlib.sha256(data).hexdigest() != named.sha256:
        message = "Its digest is not the one that the result states."
        raise Refused("OBJECT_CHANGED", message, pointer=named.key)
    return parse_part(data)


def parse_part(data: bytes) -> Part:
    """Raises Refused SCHEMA_TYPE. Whether it is genuine: by its digest, or `core.sign.verify`."""
    try:
        return msgspec.json.decode(data, type=Part)
    except (msgspec.DecodeError, KeyError, RecursionError) as exc:
        raise Refused("SCHEMA_TYPE", "Not a part of a result.") from exc


def count_errors(made: Iterable[ItemResult | Chapter]) -> dict[str, int]:
    """Code -> how many of them, in the order of the codes."""
    return dict(sorted(Counter(one.error.code for one in made if one.error).items()))


def overall_status(
    totals: Totals, chapters: Sequence[Chapter] = (), *, dry: bool = False
) -> Status:
    """`dry`: of a dry run."""
    if dry:
        return "invalid" if totals.failed else "validated"
    if totals.succeeded == totals.items and all(one.status == "succeeded" for one in chapters):
        return "succeeded"
    return "partial" if totals.succeeded else "failed"


def count_totals(items: list[ItemResult], length: Mapping[str, int]) -> Totals:
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


def sum_totals(totals: Iterable[Totals]) -> Totals:
    added = {name: 0.0 for name in Totals.__struct_fields__}
    for one in totals:
        for name in added:
            added[name] = round(added[name] + getattr(one, name), 3)
    return msgspec.convert(added, Totals, strict=False)


def stage_seconds(
    job: Mapping[str, float], made: Iterable[ItemResult | Chapter]
) -> dict[str, float]:
    """Seconds of each stage, of the job as a whole, its items and its joined files."""
    return sum_stages(job, *(one.timings for one in made))


def sum_stages(*spent: Mapping[str, float]) -> dict[str, float]:
    """Stage -> seconds, of all together."""
    total: dict[str, float] = {}
    for stages in spent:
        for stage, seconds in stages.items():
            total[stage] = round(total.get(stage, 0.0) + seconds, 4)
    return total


def sealed_keys(made: Iterable[ItemResult | Chapter]) -> Iterator[str]:
    """Keys of all sealed objects that these name."""
    for one in made:
        if one.output:
            yield one.output.key
        yield from (subtitle.key for subtitle in one.subtitles)


def parse_result(data: bytes) -> Result:
    """Raises Refused SCHEMA_TYPE. Whether it is genuine: `core.sign.verify`."""
    try:
        return msgspec.json.decode(data, type=Result)
    except (msgspec.DecodeError, KeyError, RecursionError) as exc:
        raise Refused("SCHEMA_TYPE", f"Not a {SCHEMA} document.") from exc


def format_timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
