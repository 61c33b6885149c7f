"""A results bucket of many genuine jobs, made by the parts of the pipeline without a voice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import watermark
from core.audio import encoding
from core.audio.waveform import Audio
from core.consent import records
from core.consent.records import ConsentRef
from core.crypto import sealing
from core.crypto.sealing import Context
from core.documents import signed
from core.job.runtime import Runtime
from core.label import aigc as label
from core.manifest import resolve
from core.result.document import Engine, ManifestRef, Result, Totals, format_timestamp
from core.result.item_result import ItemResult, LabelUsed, Output, Problem, VoiceUsed, Watermark
from core.storage.object_keys import event_key, result_key
from core.tlog import sequencer
from core.tlog.leaf import Leaf
from core.trace import registry
from events import outgoing
from tests.support.runtime import (
    consent_record,
    finish_job,
    local_runtime,
    put_job,
    split_job,
    synthetic_speech,
)

RATE = 16_000
REFERENCE = b"the bytes of a recording"
FIRST_DAY = datetime(2026, 11, 1, 8, tzinfo=UTC)


def fill_bucket(root: Path, numbers: Iterable[int], *, integrate: bool = True) -> Runtime:
    """Return a runtime whose results bucket has jobs of one item, seven per day: every tenth is
    partial, every twentieth rejected."""
    runtime = local_runtime(root)
    runtime.inbox.put("consent/alice.json", records.format_consent(consent_record(REFERENCE)))
    for number in numbers:
        add_job(runtime, number)
    if integrate:
        integrate_log(runtime)
    return runtime


def integrate_log(runtime: Runtime) -> None:
    key, origin = runtime.keys.signing, f"voicedrop/{runtime.results.name}"
    sequencer.integrate(runtime.control, runtime.results, key, origin)


def add_job(runtime: Runtime, number: int, *, marked: bool = True) -> Result:
    """Add a finished job."""
    manifest = _put_manifest(runtime, number)
    name = resolve.job_id(
        manifest.bucket, manifest.key, runtime.inbox.get(manifest.key, limit=9999).data
    )
    at = (FIRST_DAY + timedelta(days=number // 7, minutes=number % 7)).timestamp()
    result = Result(
        job_id=name,
        status="rejected",
        manifest=manifest,
        processor="0.1.0",
        started=format_timestamp(at),
        finished=format_timestamp(at + 30),
        consent_policy="required",
    )
    if number % 20 != 19:
        result = _finish_job(result, runtime, number, marked=marked)
    document = signed.sign(result, runtime.keys.signing)
    runtime.results.put_once(result_key(name), document)
    leaf = Leaf(job=name, result_sha256=hashlib.sha256(document).hexdigest())
    sequencer.enqueue(runtime.control, leaf)
    event = outgoing.job_event(result)
    runtime.results.put_once(event_key(name, result.finished), event)
    return result


def _put_manifest(runtime: Runtime, number: int) -> ManifestRef:
    document = {
        "schema": "voicedrop/job/1",
        "voices": {
            "alice": {
                "reference": "refs/alice.flac",
                "transcript": "what she says",
                "language": "en",
                "consent": "consent/alice.json",
            }
        },
        "items": [{"id": "hello", "text": f"Item {number}."}],
    }
    data = json.dumps(document).encode()
    key = f"jobs/{number}.manifest.json"
    runtime.inbox.put(key, data)
    digest = hashlib.sha256(data).hexdigest()
    return ManifestRef(bucket=runtime.inbox.name, key=key, sha256=digest, size=len(data))


def _finish_job(result: Result, runtime: Runtime, number: int, *, marked: bool) -> Result:
    items = [_make_item(result.job_id, "hello", runtime, number, marked=marked)]
    if number % 10 == 9:
        problem = Problem(code="TEXT_EMPTY", message="Nothing.", advice="Say something.")
        items.append(ItemResult(id="empty", index=1, status="failed", error=problem))
    record = runtime.inbox.get("consent/alice.json", limit=9999).data
    cited = ConsentRef(
        id="alice-1", sha256=hashlib.sha256(record).hexdigest(), method="public-domain"
    )
    return msgspec.structs.replace(
        result,
        status="partial" if len(items) > 1 else "succeeded",
        engine=Engine(name="buzz", fingerprint="buzz/1"),
        totals=Totals(items=len(items), succeeded=1, failed=len(items) - 1),
        voices={
            "alice": VoiceUsed(
                reference="refs/alice.flac",
                reference_sha256=hashlib.sha256(REFERENCE).hexdigest(),
                consent=cited,
            )
        },
        items=items,
    )


def _make_item(name: str, item: str, runtime: Runtime, number: int, *, marked: bool) -> ItemResult:
    key_id, key = next(iter(runtime.keys.watermark.items()))
    payload = registry.register(runtime.results, runtime.keys, name, item)
    sound = _speech(number % 5)
    if marked:
        sound = watermark.embed(sound, RATE, payload, key)
    encoded = encoding.encode(Audio(sound, RATE), "wav")
    used, _ = label.make_label(runtime.producer, f"{name}/{item}")
    plain = label.add_label(encoded.data, used)
    context = Context(job=name, item=item, mt=encoded.media_type)
    sealed = sealing.seal(plain, context, runtime.keys.wrapping)
    place = f"out/{name}/{item}.wav.sealed"
    runtime.results.put_once(
        place, sealed.body, metadata=sealing.envelope_metadata(sealed.envelope)
    )
    return ItemResult(
        id=item,
        index=0,
        status="succeeded",
        voice="alice",
        output=Output(
            key=place,
            bytes=len(sealed.body),
            sealed_sha256=sealed.envelope.ct_sha256,
            plain_sha256=sealed.envelope.pt_sha256,
            media_type=encoded.media_type,
            duration_s=round(len(sound) / RATE, 3),
            sample_rate=RATE,
        ),
        watermark=Watermark(
            scheme="voicedrop/mark/1", key_id=key_id, payload=f"{payload:08x}", score=100.0
        ),
        label=LabelUsed(
            profile="cn",
            cue="none",
            producer=runtime.producer,
            produce_id=used.produce_id,
        ),
        envelope=sealed.envelope,
    )


def fill_bucket_with_joined_files(root: Path) -> None:
    """Run jobs with joined files through the pipeline: see the fixture `joined`."""
    from handlers.jobs import carry_out_shard

    runtime = local_runtime(root)
    options: dict[str, Any] = {
        "output": {"concatenate": "chapters"},
        "defaults": {"subtitle": ["srt"]},
    }
    words = "Some words of speech that are long enough to carry a mark, number"
    rows = [{"id": f"i{n}", "text": f"{words} {n}."} for n in range(4)]
    in_chapters = [row | {"chapter": f"c{n // 2}"} for n, row in enumerate(rows)]
    with_failure = [*in_chapters[:3], in_chapters[3] | {"text": "!silence"}]
    first = finish_job(put_job(runtime, name="first", items=with_failure, **options), runtime)
    finish_job(
        put_job(runtime, name="again", items=in_chapters, retry_of=first.job_id, **options), runtime
    )
    sharded = put_job(runtime, name="sharded", items=[row | {"subtitle": ["srt"]} for row in rows])
    split_job(sharded, replace(runtime, shard_items=2))
    for info in [i for i in runtime.control.list("work/") if i.key.endswith(".jsonl")]:
        carry_out_shard(info.key, runtime)
    integrate_log(runtime)


@cache
def _speech(kind: int) -> np.ndarray:
    return synthetic_speech(1.5 + 0.25 * kind, RATE, kind)
