"""A job of many items, cut into shards that workers make in parallel.

    control  work/<job_id>/plan.json          what all shards share; put once, first
             work/<job_id>/<nnnnn>.jsonl      a shard: its head, its items as written in the
                                              manifest, and their results in an earlier job
    results  out/<job_id>/parts/<nnnnn>.json  the results of a shard; put once, signed

The arrival of a shard is an event that starts its worker. The plan fixes the number of shards, and
so the first item of each: a worker that plans again after a crash stores the same objects. A worker
reads its shard alone, so memory does not grow with the job, and it does not matter if the manifest
is replaced or deleted meanwhile. Plan and shards are signed: whoever can write to the control
bucket but holds no key cannot make us speak.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.crypto.keys import Keyring
from core.crypto.sealing import Digest
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Notice, Refused
from core.job.accept import AcceptedJob
from core.job.runtime import Run, Runtime, Sharded, Stopwatch
from core.manifest import resolve
from core.manifest.fields import Manifest
from core.manifest.parse import ParsedManifest, parse_shard_items
from core.manifest.resolve import Job
from core.result.document import Engine, ManifestRef, Result
from core.result.item_result import ItemResult, VoiceUsed
from core.storage.object_keys import (
    parse_shard_key,
    plan_key,
    shard_key,
    shard_name,
    shards_prefix,
)
from core.storage.port import Store

LIMIT = 256 << 20


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all shards of a job share."""

    schema: Literal["voicedrop/plan/1"] = "voicedrop/plan/1"
    job_id: str
    manifest: ManifestRef
    header: Manifest
    """Without items."""
    lines: bool
    """JSON Lines: the pointer of an item is its line."""
    items: int
    shards: int
    started: str
    engine: Engine | None
    voices: dict[str, VoiceUsed]
    """As checked when the plan was made."""
    notices: list[Notice]
    lexicons: dict[str, str] = {}
    """Key of each lexicon that the job uses -> its SHA-256. A shard that finds another one fails
    the items that use it."""
    stages: dict[str, float]
    signature: Signature | None = None

    def first(self, number: int) -> int:
        """The index of the first item of a shard; `first(shards)` is the number of items."""
        return number * self.items // self.shards


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a shard."""

    schema: Literal["voicedrop/shard/1"] = "voicedrop/shard/1"
    job_id: str
    number: int
    of: int = 0
    """How many shards the job was cut into, as its plan states; 0: version 0.1.0 did not write it.
    With another number, the shard would contain other items."""
    size: int
    """Bytes of the item lines; the lines after them are earlier results."""
    sha256: Digest
    """Of everything after the first line."""
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    plan: Plan
    number: int
    job: Job
    """With the items of this shard alone."""
    earlier: dict[str, ItemResult]
    """Item id -> its result in an earlier job, where that is kept."""

    @property
    def name(self) -> str:
        return shard_name(self.plan.job_id, self.number)


def write_shards(result: Result, accepted: AcceptedJob, stopwatch: Stopwatch, run: Run) -> Sharded:
    """Store the plan and then the shards; the arrival of each starts a worker."""
    parsed, runtime = accepted.parsed, run.runtime
    plan = Plan(
        job_id=result.job_id,
        manifest=result.manifest,
        header=parsed.header,
        lines=isinstance(parsed.source, bytes),
        items=accepted.count,
        shards=-(-accepted.count // runtime.shard_items),
        started=result.started,
        engine=result.engine,
        voices=result.voices,
        notices=result.notices,
        lexicons=result.lexicons,
        stages=stopwatch.seconds,
    )
    plan = put_plan(runtime.control, plan, runtime.keys)
    for key, data in cut_shards(plan, parsed, accepted.earlier, runtime.keys.signing):
        run.lease.check()
        runtime.control.put_once(key, data)
    return Sharded(plan.job_id, plan.shards)


def put_plan(control: Store, plan: Plan, keys: Keyring) -> Plan:
    """Store the plan, unless another worker has; return the one that is stored."""
    if control.put_once(plan_key(plan.job_id), signed.sign(plan, keys.signing)):
        return plan
    return read_plan(control, plan.job_id, keys.verifying)


def cut_shards(
    plan: Plan, parsed: ParsedManifest, earlier: Mapping[str, ItemResult], key: Ed25519PrivateKey
) -> Iterator[tuple[str, bytes]]:
    """The key and bytes of every shard. They depend on the plan alone, not on the worker."""
    for number in range(plan.shards):
        start, stop = plan.first(number), plan.first(number + 1)
        items = b"".join(raw + b"\n" for raw in parsed.raw_lines(start, stop, resolve.LIMITS))
        kept = (earlier[e.id] for e in parsed.entries[start:stop] if e.id in earlier)
        body = items + b"".join(msgspec.json.encode(result) + b"\n" for result in kept)
        head = Head(
            job_id=plan.job_id,
            number=number,
            of=plan.shards,
            size=len(items),
            sha256=hashlib.sha256(body).hexdigest(),
        )
        yield shard_key(plan.job_id, number), signed.sign(head, key) + b"\n" + body


def read_plan(control: Store, job_id: str, keys: Mapping[str, Ed25519PublicKey]) -> Plan:
    """Raises Refused OBJECT_MISSING, SIGNATURE_INVALID."""
    plan = signed.read(control.get(plan_key(job_id), limit=LIMIT).data, Plan, keys)
    if plan.job_id != job_id:
        raise Refused(
            "SIGNATURE_INVALID", "This is the plan of another job.", pointer=plan_key(job_id)
        )
    return plan


def read_shard(control: Store, key: str, keys: Mapping[str, Ed25519PublicKey]) -> Shard:
    """Raises Refused OBJECT_MISSING, SIGNATURE_INVALID."""
    job_id, number = parse_shard_key(key)
    first, _, body = control.get(key, limit=LIMIT).data.partition(b"\n")
    head = signed.read(first, Head, keys)
    plan = read_plan(control, job_id, keys)
    is_same = (head.job_id, head.number, head.of or plan.shards) == (job_id, number, plan.shards)
    if not is_same or hashlib.sha256(body).hexdigest() != head.sha256:
        raise Refused(
            "SIGNATURE_INVALID", "This is not the shard that its head describes.", pointer=key
        )
    items, rest = body[: head.size], body[head.size :]
    parsed = parse_shard_items(
        plan.header, items, first=plan.first(number), lines=plan.lines, limits=resolve.LIMITS
    )
    earlier = msgspec.json.Decoder(ItemResult).decode_lines(rest) if rest else []
    return Shard(plan, number, resolve.resolve(parsed), {result.id: result for result in earlier})


def complete_shard_count(job_id: str, runtime: Runtime) -> int:
    """The number of shards of a job; 0 if it was not cut, or not all of them are stored yet."""
    with suppress(Refused):
        plan = read_plan(runtime.control, job_id, runtime.keys.verifying)
        stored = {info.key for info in runtime.control.list(shards_prefix(job_id))}
        if all(shard_key(job_id, number) in stored for number in range(plan.shards)):
            return plan.shards
    return 0
