"""Items that a job takes over from the earlier job that it names in `retry_of`.

An item is taken over if the request for it is the same, by a digest that each result contains, the
voice's recording is the same, and consent to it was not withdrawn.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial

import msgspec

from core.audio import decoding
from core.consent.records import ConsentClaim
from core.errors import Refused
from core.job.commit import read_result
from core.job.runtime import Runtime
from core.manifest.fields import Voice
from core.manifest.resolve import Item, Job
from core.manifest.validate import join_pointer
from core.result import document
from core.result.document import Result
from core.result.item_result import ItemResult, VoiceUsed
from core.result.sealed_file import sealed_files
from core.storage.object_keys import job_prefix


def find_reusable_items(
    job: Job, earlier: Result, fetch: Callable[[str], bytes], runtime: Runtime
) -> tuple[dict[str, ItemResult], dict[str, list[ConsentClaim]]]:
    """Return item id -> its earlier result, for items whose request is the same and whose output is
    still stored; and voice name -> the recordings from which they were made, with their records.

    `fetch` returns the bytes of a part. Raises what `document.read_items` raises.
    """
    keys = list(runtime.keys.watermark.values())
    items = {item.id: item for item in job.items}
    results = [
        kept
        for r in document.read_items(earlier, fetch)
        if r.output
        and r.id in items
        and _is_reusable(kept := _keep(r, earlier), items[r.id], job, keys)
    ]
    prefixes = {job_prefix(r.kept_from) for r in results}
    stored = {info.key for prefix in prefixes for info in runtime.results.list(prefix)}
    results = [r for r in results if r.output and r.output.key in stored]
    claims = _claims_in_force({(r.kept_from, r.voice) for r in results}, job, earlier, runtime)
    by_voice: dict[str, list[ConsentClaim]] = defaultdict(list)
    for (_, voice), made_from in claims.items():
        by_voice[voice] += made_from
    return {r.id: r for r in results if (r.kept_from, r.voice) in claims}, by_voice


def _claims_in_force(
    made: Collection[tuple[str, str]], job: Job, earlier: Result, runtime: Runtime
) -> dict[tuple[str, str], list[ConsentClaim]]:
    """(job that made items, voice name) -> the recordings that it used, if they are known, the same
    now, and none of them is withdrawn. The job `earlier` may have kept the items itself."""
    claims, digest = {}, cache(partial(_digest, runtime))
    for maker, name in made:
        result = earlier if maker == earlier.job_id else read_result(maker, runtime)
        used = result.voices.get(name) if result else None
        if used and used.reference_sha256:
            pointer, spec = join_pointer("/voices", name), job.voices[name]
            digests = [used.reference_sha256, *(one.reference_sha256 or "" for one in used.aux)]
            made_from = [ConsentClaim.of(spec, i, one, pointer) for i, one in enumerate(digests)]
            is_changed = _recording_changed(spec, used, digest)
            if not is_changed and not any(map(runtime.consents.is_withdrawn, made_from)):
                claims[maker, name] = made_from
    return claims


def _keep(result: ItemResult, earlier: Result) -> ItemResult:
    return msgspec.structs.replace(result, kept_from=result.kept_from or earlier.job_id)


def remove_items(job: Job, item_ids: Collection[str]) -> Job:
    """Return the job without these items."""
    return replace(job, items=[item for item in job.items if item.id not in item_ids])


def request_digest(item: Item, job: Job, key: bytes) -> str:
    """Return a digest of everything in the manifest that determines how the item sounds.

    It is keyed (HMAC-SHA256), so that a reader of the result cannot confirm a guess at the text.
    """
    voice = job.voices[item.voice]
    fields = (
        *(item.text, item.language, item.format, item.sample_rate, item.speed, item.seed),
        *(item.pause_ms, item.voice, voice.reference, voice.language, voice.transcript, job.label),
        # Only if it is set, so that digests of earlier versions stay valid.
        *([voice.prepare] if voice.prepare else []),
        *([voice.channel, voice.window] if voice.is_cut else []),
        *([voice.aux] if voice.aux else []),
    )
    message = b"voicedrop/asked/1\0" + msgspec.json.encode(fields)
    return hmac.digest(key, message, hashlib.sha256).hex()[:32]


def _is_reusable(result: ItemResult, item: Item, job: Job, keys: list[bytes]) -> bool:
    same = result.asked in {request_digest(item, job, key) for key in keys}
    return same and _has_subtitles(result, item, job) and _is_bound(result)


def _is_bound(result: ItemResult) -> bool:
    """Return whether each envelope is that of its file, which version 0.1.0 did not check when it
    took an output over."""
    with suppress(Refused):
        return all(file.checked_envelope() for file in sealed_files(result, result.kept_from))
    return False


def _has_subtitles(result: ItemResult, item: Item, job: Job) -> bool:
    """Return whether the requested subtitles exist. Those of a joined file are made from the times
    of sentences."""
    if job.output.concatenate != "none":
        return bool(result.sentences) or not job.subtitle
    return set(item.subtitle) <= {file.format for file in result.subtitles}


def _recording_changed(spec: Voice, used: VoiceUsed, digest: Callable[[str], str | None]) -> bool:
    """Return whether a recording of the voice differs from the one that an earlier job used. One
    that was deleted counts as unchanged. `digest` returns the SHA-256 of a recording, if it is
    there."""
    if (spec.sha256 or digest(spec.reference)) not in (None, used.reference_sha256):
        return True
    return any(digest(one.reference) not in (None, one.reference_sha256) for one in used.aux)


def _digest(runtime: Runtime, key: str) -> str | None:
    try:
        recording = runtime.inbox.get(key, limit=decoding.BYTES_LIMIT).data
    except Refused:
        return None
    return hashlib.sha256(recording).hexdigest()
