"""The result document, `voicedrop/result/1`. A job is finished when its result exists.

It is written once, signed (core/documents/signed.py), in canonical JSON, so that parsing and
writing it again gives the same bytes. It contains neither texts nor names of persons, unless the
producer put them into meta or labels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Literal

import msgspec

from core.crypto.sealing import Digest
from core.documents.signed import Signature
from core.errors import Notice, Refused
from core.result.cost import Cost
from core.result.item_result import Chapter, ItemResult, Problem, VoiceUsed
from core.settings import ConsentPolicy

SCHEMA = "voicedrop/result/1"
Status = Literal["succeeded", "partial", "failed", "rejected", "validated", "invalid"]
"""rejected: the manifest was refused; failed: every item failed; validated or invalid: outcome of a
dry run."""


class ManifestRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manifest of the job."""

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
    """Characters of the texts of successful items, as spoken."""
    audio_s: float = 0.0
    kept: int = 0
    """Successful items whose output was kept from the job in `retry_of`."""


class PartRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reference to a part, which contains some of the items, in the order of the manifest."""

    key: str
    """In the results bucket."""
    sha256: Digest
    items: int
    succeeded: int
    failed: int
    errors: dict[str, int] = {}
    """Code -> how many items."""


class Attachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table stored beside the result, derived from the items."""

    key: str
    """In the results bucket."""
    sha256: Digest
    bytes: int


class LanguageEstimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: int
    characters: int
    audio_s: float
    measured: int = 0
    """Items in this language that were measured here, from which the rates were learned; 0: none,
    so that rates of other machines are assumed."""
    characters_per_s: float | None = None
    """Characters in a second of speech, like all of these null in results before this field."""
    real_time_factor: float | None = None
    """Seconds of work for a second of speech."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Expected speech, work and cost, from the rates of each language."""

    items: int
    characters: int
    audio_s: float
    languages: dict[str, LanguageEstimate] = {}
    basis: Literal["measured", "default"] = "default"
    """measured: the rates of all languages were learned from items that were made here."""
    voices: int = 0
    """Voices that must be learned first, as far as that can be told without the engine."""
    seconds: float | None = None
    """Of work by one instance: speaking, and learning those voices."""
    cost: float | None = None
    """At the operator's prices: of the seconds and calls, or of the minutes of speech; null if no
    prices are set."""
    currency: str = ""
    """ISO 4217; empty if the price of a minute of speech is used."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signed results of one shard: `out/<job_id>/parts/<number>.json`."""

    schema: Literal["voicedrop/part/1"] = "voicedrop/part/1"
    job_id: str
    number: int
    """From 0."""
    of: int
    engine: Engine | None = None
    voices: dict[str, VoiceUsed] = {}
    """As used for these items."""
    totals: Totals = Totals()
    items: list[ItemResult] = []
    stages: dict[str, float] = {}
    cost: Cost | None = None
    """As in the result, for this shard."""
    signature: Signature | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/result/1"] = "voicedrop/result/1"
    job_id: str
    status: Status
    manifest: ManifestRef
    processor: str
    """Version of voicedrop."""
    started: str
    """RFC 3339, UTC, like `finished`."""
    finished: str
    consent_policy: ConsentPolicy
    engine: Engine | None = None
    id: str = ""
    """The producer's name for the job."""
    labels: dict[str, str] = {}
    totals: Totals = Totals()
    error: Problem | None = None
    """Why the job as a whole was rejected or failed."""
    voices: dict[str, VoiceUsed] = {}
    items: list[ItemResult] = []
    """In the order of the manifest; empty for a sharded job, whose items are in its parts."""
    chapters: list[Chapter] = []
    """Joined files, if the manifest asks for them."""
    lexicons: dict[str, Digest] = {}
    """Key of each lexicon that items use -> the SHA-256 of its bytes."""
    parts: list[PartRef] = []
    attachments: dict[str, Attachment] = {}
    """`items` and `errors` of a sharded job: items.csv and errors.jsonl."""
    retry_of: str = ""
    """Id of the earlier job whose outputs were kept."""
    estimate: Estimate | None = None
    """Only in a dry run."""
    stages: dict[str, float] = {}
    """Stage -> seconds, summed over all items."""
    cost: Cost | None = None
    """Null if the operator has set no prices, or different currencies for parts of the job."""
    notices: list[Notice] = []
    signature: Signature | None = None


def read_items(result: Result, fetch: Callable[[str], bytes]) -> Iterator[ItemResult]:
    """Yield every item of a verified result, in the order of the manifest, one part in memory at a
    time.

    `fetch` reads an object of the results bucket. Raises Refused OBJECT_CHANGED if the digest of a
    part differs from the one in the result, and what `fetch` raises.
    """
    yield from result.items
    for part in read_parts(result, fetch):
        yield from part.items


def read_parts(result: Result, fetch: Callable[[str], bytes]) -> Iterator[Part]:
    """Yield the parts of a verified result. Raises as `read_items` does."""
    for ref in result.parts:
        yield read_part(ref, fetch)


def read_part(ref: PartRef, fetch: Callable[[str], bytes]) -> Part:
    data = fetch(ref.key)
    if hashlib.sha256(data).hexdigest() != ref.sha256:
        message = "Its digest differs from the one in the result."
        raise Refused("OBJECT_CHANGED", message, pointer=ref.key)
    return parse_part(data)


def parse_part(data: bytes) -> Part:
    """Raises Refused SCHEMA_TYPE. Does not verify: compare its digest or use `signed.verify`."""
    try:
        return msgspec.json.decode(data, type=Part)
    except (msgspec.DecodeError, KeyError, RecursionError) as exc:
        raise Refused("SCHEMA_TYPE", "Not a part of a result.") from exc


def count_errors(made: Iterable[ItemResult | Chapter]) -> dict[str, int]:
    """Count errors by code, sorted by code."""
    return dict(sorted(Counter(one.error.code for one in made if one.error).items()))


def overall_status(
    totals: Totals, chapters: Sequence[Chapter] = (), *, dry: bool = False
) -> Status:
    if dry:
        return "invalid" if totals.failed else "validated"
    if totals.succeeded == totals.items and all(one.status == "succeeded" for one in chapters):
        return "succeeded"
    return "partial" if totals.succeeded else "failed"


def count_totals(items: list[ItemResult], length: Mapping[str, int]) -> Totals:
    """`length`: item id -> characters of its text."""
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
    """Sum the seconds of each stage: of the job itself, its items and its joined files."""
    return sum_stages(job, *(one.timings for one in made))


def sum_stages(*spent: Mapping[str, float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for stages in spent:
        for stage, seconds in stages.items():
            total[stage] = round(total.get(stage, 0.0) + seconds, 4)
    return total


def sealed_keys(made: Iterable[ItemResult | Chapter]) -> Iterator[str]:
    """Yield the keys of all sealed objects of these items or chapters."""
    for one in made:
        if one.output:
            yield one.output.key
        yield from (subtitle.key for subtitle in one.subtitles)


def removed_keys(items: Iterable[ItemResult], notices: Iterable[Notice] = ()) -> Iterator[str]:
    """Yield the keys of the outputs that are removed (OUTPUT_REMOVED)."""
    for notice in chain(notices, *(item.notices for item in items)):
        if notice.code == "OUTPUT_REMOVED":
            yield notice.pointer


def parse_result(data: bytes) -> Result:
    """Raises Refused SCHEMA_TYPE. Does not verify the signature: see `signed.read`."""
    try:
        return msgspec.json.decode(data, type=Result)
    except (msgspec.DecodeError, KeyError, RecursionError) as exc:
        raise Refused("SCHEMA_TYPE", f"Not a {SCHEMA} document.") from exc


def format_timestamp(seconds: float) -> str:
    """Format Unix seconds as RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
