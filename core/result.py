"""What became of a job: `voicedrop/result/1`, the document whose presence means finished.

Written once, signed (core/sign.py), in canonical JSON, so that whoever parses and dumps it again
has the same bytes. It holds no text and no name: meta and labels are the producer's own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from core import canonical
from core.consent import Cited
from core.crypto import Digest, Envelope
from core.errors import JobError, Notice, Refused
from core.manifest import Cue, Profile
from core.settings import ConsentPolicy
from core.sign import Signature
from core.voice import Match

SCHEMA = "voicedrop/result/1"
Status = Literal["succeeded", "partial", "failed", "rejected"]
"""rejected: the manifest itself was refused; failed: no item came out."""


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


class ItemResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `output` or `error` is set."""

    id: str
    """Empty where the manifest gave no valid one: then the index names the item."""
    index: int
    status: Literal["succeeded", "failed"]
    error: Problem | None = None
    output: Output | None = None
    watermark: Watermark | None = None
    label: LabelUsed | None = None
    envelope: Envelope | None = None
    voice: str = ""
    redrawn: int = 0
    """How often the item was spoken again with another seed before it was released."""
    timings: dict[str, float] = {}
    """Stage -> seconds."""
    notices: list[Notice] = []
    meta: dict[str, Any] | None = None
    """As the manifest gave it."""


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
    """In the order of the manifest."""
    stages: dict[str, float] = {}
    """Stage -> seconds, over all items."""
    notices: list[Notice] = []
    signature: Signature | None = None


def status_of(items: list[ItemResult]) -> Status:
    succeeded = sum(item.status == "succeeded" for item in items)
    if succeeded == len(items):
        return "succeeded"
    return "partial" if succeeded else "failed"


def totals_of(items: list[ItemResult], length: Mapping[str, int]) -> Totals:
    """`length`: characters of each item's text by its id."""
    spoken = {item.id: item.output for item in items if item.output}
    return Totals(
        items=len(items),
        succeeded=len(spoken),
        failed=len(items) - len(spoken),
        characters=sum(length[id_] for id_ in spoken),
        audio_s=round(sum(output.duration_s for output in spoken.values()), 3),
    )


def stages_of(job: Mapping[str, float], items: list[ItemResult]) -> dict[str, float]:
    """Seconds of each stage, of the job as a whole and of its items."""
    total = dict(job)
    for item in items:
        for stage, seconds in item.timings.items():
            total[stage] = round(total.get(stage, 0.0) + seconds, 4)
    return total


def result_key(job_id: str) -> str:
    return f"out/{job_id}/result.json"


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
