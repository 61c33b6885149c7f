"""What an earlier job has made and a job that names it in `retry_of` keeps.

An item is kept if everything that was asked for is the same: by a digest of it that each result
carries, and by the recording it was said from.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import replace

import msgspec

from core.audio import decoding
from core.errors import Refused
from core.job.runtime import Runtime
from core.manifest.fields import Voice
from core.manifest.resolve import Item, Job
from core.result import document
from core.result.document import Result
from core.result.item_result import ItemResult, VoiceUsed
from core.storage.object_keys import job_prefix


def kept(
    job: Job, before: Result, fetch: Callable[[str], bytes], runtime: Runtime
) -> dict[str, ItemResult]:
    """Id -> what the earlier job has made of the item, where it is wanted and is still there.

    `fetch` gives the bytes of a part. Raises what `document.read_items` raises.
    """
    keys = list(runtime.keys.watermark.values())
    others = {
        name
        for name, spec in job.voices.items()
        if _is_other(spec, before.voices.get(name), runtime)
    }
    wanted = {item.id: item for item in job.items if item.voice not in others}
    made = [
        msgspec.structs.replace(one, kept_from=one.kept_from or before.job_id)
        for one in document.read_items(before, fetch)
        if one.output and one.id in wanted and _fits(one, wanted[one.id], job, keys)
    ]
    sources = {one.kept_from for one in made}
    there = {info.key for source in sources for info in runtime.results.list(job_prefix(source))}
    return {one.id: one for one in made if one.output and one.output.key in there}


def without(job: Job, kept: Collection[str]) -> Job:
    """The job less the items that need not be made."""
    return replace(job, items=[item for item in job.items if item.id not in kept])


def request_digest(item: Item, job: Job, key: bytes) -> str:
    """Digest of all that the manifest says about how the item sounds. Keyed, or whoever reads the
    result could guess a short text and know that he is right."""
    voice = job.voices[item.voice]
    fields = (
        *(item.text, item.language, item.format, item.sample_rate, item.speed, item.seed),
        *(item.pause_ms, item.voice, voice.reference, voice.language, voice.transcript, job.label),
    )
    message = b"voicedrop/asked/1\0" + msgspec.json.encode(fields)
    return hmac.digest(key, message, hashlib.sha256).hex()[:32]


def _fits(made: ItemResult, wanted: Item, job: Job, keys: list[bytes]) -> bool:
    same = made.asked in {request_digest(wanted, job, key) for key in keys}
    return same and _has_subtitles(made, wanted, job)


def _has_subtitles(made: ItemResult, wanted: Item, job: Job) -> bool:
    """Those that are asked for; of a joined file they are made from the times of the sentences."""
    if job.output.concatenate != "none":
        return bool(made.sentences) or not job.subtitle
    return set(wanted.subtitle) <= {one.format for one in made.subtitles}


def _is_other(spec: Voice, used: VoiceUsed | None, runtime: Runtime) -> bool:
    """Whether the recording is another than it was then. One that is gone says nothing new."""
    if used is None or used.reference_sha256 is None:
        return False
    digest = spec.sha256
    if digest is None:
        try:
            recording = runtime.inbox.get(spec.reference, limit=decoding.BYTES_LIMIT).data
        except Refused:
            return False
        digest = hashlib.sha256(recording).hexdigest()
    return digest != used.reference_sha256
