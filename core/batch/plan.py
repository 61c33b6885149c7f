"""A job of many items, cut into shards that workers make side by side.

    control  work/<job_id>/plan.json          what all shards share; put once, before the first
             work/<job_id>/<nnnnn>.jsonl      a shard: its head, its items as they were written,
                                              and what an earlier job has made of them
    results  out/<job_id>/parts/<nnnnn>.json  what became of a shard; put once, signed

The arrival of a shard is an event that starts its worker. The plan fixes the number of shards, and
with it where each begins, so whoever plans again after a crash puts the same objects. A shard is
read alone: memory does not grow with the job, and a manifest that is replaced or deleted meanwhile
does not matter. Both are signed: who can write to the control bucket and holds no key makes us say
nothing.
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
from core.job.lease import Lease
from core.job.runtime import Runtime, Stopwatch
from core.job.waiting import Shared
from core.manifest import resolve as jobs
from core.manifest.fields import Manifest
from core.manifest.parse import ParsedManifest, parse_shard_items
from core.manifest.resolve import Job
from core.result.document import Engine, ManifestRef, Result
from core.result.item_result import ItemResult, VoiceUsed
from core.storage.object_keys import (
    SHARD_SUFFIX,
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
    """JSON Lines: an item's pointer says its line."""
    items: int
    shards: int
    started: str
    engine: Engine | None
    voices: dict[str, VoiceUsed]
    """As they were when the plan was made."""
    notices: list[Notice]
    stages: dict[str, float]
    signature: Signature | None = None

    def first(self, number: int) -> int:
        """Index of the first item of a shard; of `shards`, how many items there are."""
        return number * self.items // self.shards


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a shard."""

    schema: Literal["voicedrop/shard/1"] = "voicedrop/shard/1"
    job_id: str
    number: int
    size: int
    """Bytes of the lines of items; the lines after them are results that are kept."""
    sha256: Digest
    """Of all that follows the first line."""
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    plan: Plan
    number: int
    job: Job
    """With these items alone."""
    kept: dict[str, ItemResult]
    """Id -> what an earlier job made of it."""

    @property
    def name(self) -> str:
        return shard_name(self.plan.job_id, self.number)


def refuse_joining(written: ParsedManifest, runtime: Runtime) -> None:
    """Nobody sees all items of a job that is cut, with their texts, at once."""
    count, most = len(written.entries), runtime.shard_items
    if written.header.output.concatenate != "none" and count > most:
        message = f"At most {most} items can be joined here, not {count}: split the job."
        raise Refused("FIELD_UNSUPPORTED", message, pointer="/output/concatenate")


def write_shards(
    draft: Result,
    written: ParsedManifest,
    kept: Mapping[str, ItemResult],
    watch: Stopwatch,
    lease: Lease,
    runtime: Runtime,
) -> Shared:
    """Put the plan and then the shards, each of which starts a worker by its arrival."""
    plan = Plan(
        job_id=draft.job_id,
        manifest=draft.manifest,
        header=written.header,
        lines=isinstance(written.source, bytes),
        items=len(written.entries),
        shards=-(-len(written.entries) // runtime.shard_items),
        started=draft.started,
        engine=draft.engine,
        voices=draft.voices,
        notices=draft.notices,
        stages=watch.seconds,
    )
    plan = put_plan(runtime.control, plan, runtime.keys)
    for key, data in cut(plan, written, kept, runtime.keys.signing):
        lease.check()
        runtime.control.put_once(key, data)
    return Shared(plan.job_id, plan.shards)


def put_plan(control: Store, plan: Plan, keys: Keyring) -> Plan:
    """The plan that counts: this one, or the one that somebody put before."""
    if control.put_once(plan_key(plan.job_id), signed.sign(plan, keys.signing)):
        return plan
    return read_plan(control, plan.job_id, keys.verifying)


def cut(
    plan: Plan, draft: ParsedManifest, kept: Mapping[str, ItemResult], key: Ed25519PrivateKey
) -> Iterator[tuple[str, bytes]]:
    """Key and bytes of every shard; the same for the same plan, whoever cuts."""
    for number in range(plan.shards):
        start, stop = plan.first(number), plan.first(number + 1)
        items = b"".join(raw + b"\n" for raw in draft.raw_lines(start, stop, jobs.LIMITS))
        earlier = (kept[e.id] for e in draft.entries[start:stop] if e.id in kept)
        body = items + b"".join(msgspec.json.encode(one) + b"\n" for one in earlier)
        head = Head(
            job_id=plan.job_id,
            number=number,
            size=len(items),
            sha256=hashlib.sha256(body).hexdigest(),
        )
        yield shard_key(plan.job_id, number), signed.sign(head, key) + b"\n" + body


def read_plan(control: Store, job_id: str, keys: Mapping[str, Ed25519PublicKey]) -> Plan:
    """Refused OBJECT_MISSING, SIGNATURE_INVALID."""
    data = control.get(plan_key(job_id), limit=LIMIT).data
    signed.check_signature(data, keys)
    plan = msgspec.json.decode(data, type=Plan)
    if plan.job_id != job_id:
        raise Refused("SIGNATURE_INVALID", "The plan of another job.", pointer=plan_key(job_id))
    return plan


def read(control: Store, key: str, keys: Mapping[str, Ed25519PublicKey]) -> Shard:
    """Refused OBJECT_MISSING, SIGNATURE_INVALID."""
    job_id, number = parse_shard_key(key)
    first, _, body = control.get(key, limit=LIMIT).data.partition(b"\n")
    signed.check_signature(first, keys)
    head = msgspec.json.decode(first, type=Head)
    genuine = (head.job_id, head.number) == (job_id, number)
    if not genuine or hashlib.sha256(body).hexdigest() != head.sha256:
        raise Refused("SIGNATURE_INVALID", "Not the shard that its head describes.", pointer=key)
    plan = read_plan(control, job_id, keys)
    items, rest = body[: head.size], body[head.size :]
    draft = parse_shard_items(
        plan.header, items, first=plan.first(number), lines=plan.lines, limits=jobs.LIMITS
    )
    earlier = msgspec.json.Decoder(ItemResult).decode_lines(rest) if rest else []
    return Shard(plan, number, jobs.resolve(draft), {one.id: one for one in earlier})


def complete_shard_count(control: Store, job_id: str, keys: Mapping[str, Ed25519PublicKey]) -> int:
    """How many shards the job was cut into, all of which are there; 0: it has not been cut yet, or
    not to the end."""
    with suppress(Refused):
        plan = read_plan(control, job_id, keys)
        there = sum(info.key.endswith(SHARD_SUFFIX) for info in control.list(shards_prefix(job_id)))
        return plan.shards if there == plan.shards else 0
    return 0
