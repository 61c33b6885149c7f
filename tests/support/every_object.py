"""A small installation that has an object of every kind, and how each kind is read.

`KINDS` names for every kind of object in results and control two places, and a function that
returns what the product believes about a place: a comparable value, or None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.batch import parts, plan
from core.consent import protection, records
from core.consent.records import StatementCheck
from core.consent.withdrawal import find_withdrawals
from core.crypto import sealing
from core.crypto.sealing import Context
from core.crypto.voice_key import find_voice_key
from core.documents import signed
from core.errors import Unavailable
from core.job import attempt, commit, erasure, lease, object_record, waiting
from core.job.attempt import DeadLetter
from core.job.quota import Quota, _entries
from core.job.rates import Learned, Rates
from core.job.runtime import Runtime, Stopwatch
from core.job.speech_cache import Spoken, open_speech_cache
from core.job.statement_check import KeptCheck
from core.manifest.fields import Subtitle
from core.result import tombstone
from core.result.document import Result
from core.result.item_result import Chapter, ItemResult, SubtitleFile
from core.settings import Engine
from core.speech.speaker import THRESHOLDS, Speaker
from core.storage import object_keys as keys
from core.storage.port import Store
from core.tlog import log, tiles
from core.tlog.leaf import Leaf
from core.trace import trace
from core.voice import SpeechChunk, Voiceprint
from handlers import jobs
from tests.support.manifests import of_item
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    consent_record,
    find_mark,
    finish_job,
    local_runtime,
    put_job,
    split_job,
)
from tests.support.shards import shard_keys

OTHER_REFERENCE = REFERENCE.with_name("ref_1688.flac")
DAYS = ("2026-11-25", "2026-11-26")
NOON = 1795608000.0
"""On the first of these days."""
WORDS = "Words of speech that carry a mark, number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of object."""

    name: str
    bucket: str
    """results or control."""
    keys: tuple[str, str]
    read: Callable[[Runtime, int], Any]
    """(runtime, 0 or 1) -> what is believed about that place. May raise JobError."""
    made_by: tuple[str, ...]
    """The functions of `object_keys` that give such keys."""
    audited: bool = False
    """An audit with public keys finds whatever is done to such an object."""
    is_missed: bool = True
    """An audit finds that such an object was deleted."""
    is_second_read: bool = True
    """The object at the second place is read, too."""
    is_record_audited: bool = True
    """An audit reads the signed record, too. That in the metadata of an output only counts until
    the result is signed."""
    may_begin_again: bool = False
    """What is believed may be less than everything that was written: see the threat model."""
    forge: Callable[[dict[str, Any]], object] = field(default=lambda document: None)
    """Changes the content of a document."""


def store_of(runtime: Runtime, kind: Kind) -> Store:
    return runtime.results if kind.bucket == "results" else runtime.control


@dataclass(frozen=True, slots=True)
class Installation:
    root: Path
    kinds: list[Kind]


def _items(*ids: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": id_, "text": f"{WORDS} {id_}."} | fields for id_ in ids]


def build(root: Path) -> Installation:
    """Run jobs of every sort with the voice of the tests."""
    runtime = local_runtime(root, shard_items=2, quota=Quota(jobs=99))
    subtitled: list[Subtitle] = ["srt"]
    one = finish_job(
        put_job(runtime, name="one", items=_items("a", "b", subtitle=subtitled)), runtime
    )
    jobs.integrate_log(runtime)
    cut_key = put_job(runtime, name="cut", items=_items("a", "b", "c"))
    cut = _finish_shards(cut_key, runtime)
    for item in "ab":
        erasure.erase_outputs(cut.job_id, runtime, reason="a test", items=[item])
    jobs.integrate_log(runtime)
    other = OTHER_REFERENCE.read_bytes()
    chapters = [item | {"chapter": item["id"]} for item in _items("x", "y")]
    joined = {"output": {"concatenate": "chapters"}}
    book = finish_job(
        put_job(runtime, name="book", items=chapters, reference=other, **joined), runtime
    )
    two = finish_job(put_job(runtime, name="two", items=_items("a"), reference=other), runtime)
    open_jobs = [
        split_job(put_job(runtime, name=name, items=_items("a", "b", "c")), runtime).job_id
        for name in ("open", "open-too")
    ]
    return Installation(root, _kinds(runtime, one, two, cut, book, open_jobs))


def _finish_shards(key: str, runtime: Runtime) -> Result:
    job_id = split_job(key, runtime).job_id
    for shard in shard_keys(runtime):
        jobs.carry_out_shard(shard, runtime)
    found = commit.read_result(job_id, runtime)
    assert found
    return found


def _kinds(
    runtime: Runtime, one: Result, two: Result, cut: Result, book: Result, open_jobs: list[str]
) -> list[Kind]:
    first, second = open_jobs
    return [
        *_results(one, two),
        *_parts(cut),
        *_sealed(one, book),
        *_registry(runtime, one, two),
        *_work(first, second),
        *_leases(runtime, one, two),
        *_notes(runtime),
        *_voices(runtime),
        *_protections(runtime),
        *_log(runtime, one, cut),
        _queue(two, book),
    ]


def _results(one: Result, two: Result) -> Iterable[Kind]:
    results = (one, two)

    def read(runtime: Runtime, index: int) -> Any:
        return commit.read_result(results[index].job_id, runtime)

    yield Kind(
        name="result",
        bucket="results",
        keys=(keys.result_key(one.job_id), keys.result_key(two.job_id)),
        read=read,
        made_by=("result_key",),
        audited=True,
        forge=lambda document: document.update(labels={"a": "b"}),
    )

    def read_event(runtime: Runtime, index: int) -> Any:
        return jobs.is_announced(results[index], runtime) or None

    def forge(document: dict[str, Any]) -> None:
        document["data"]["status"] = "failed"

    yield Kind(
        name="event",
        bucket="results",
        keys=tuple(keys.event_key(r.job_id, r.finished) for r in results),  # type: ignore[arg-type]
        read=read_event,
        made_by=("event_key",),
        audited=True,
        is_missed=False,  # a sweep writes it again
        forge=forge,
    )


def _parts(cut: Result) -> Iterable[Kind]:
    def read(runtime: Runtime, index: int) -> Any:
        gathered, attachments = parts.gather_parts(cut.job_id, len(cut.parts), runtime)
        return gathered.refs, attachments

    yield Kind(
        name="part",
        bucket="results",
        keys=(cut.parts[0].key, cut.parts[1].key),
        read=read,
        made_by=("part_key",),
        audited=True,
        forge=lambda document: document["totals"].update(succeeded=0),
    )
    yield Kind(
        name="table",
        bucket="results",
        keys=(keys.items_table_key(cut.job_id), keys.errors_table_key(cut.job_id)),
        read=read,
        made_by=("items_table_key", "errors_table_key"),
        audited=True,
    )


def _sealed(one: Result, book: Result) -> Iterable[Kind]:
    def adopted(places: tuple[str, str], type_: type[Any]) -> Callable[[Runtime, int], Any]:
        return lambda runtime, index: object_record.adopt(places[index], type_, runtime)

    groups: list[tuple[str, list[str], type[Any]]] = [
        ("output", [item.output.key for item in one.items if item.output], ItemResult),
        ("subtitles", [item.subtitles[0].key for item in one.items], SubtitleFile),
        ("joined file", [c.output.key for c in book.chapters if c.output], Chapter),
    ]
    for name, (first, second), type_ in groups:
        yield Kind(
            name=name,
            bucket="results",
            keys=(first, second),
            read=adopted((first, second), type_),
            made_by=("output_key",),
            audited=True,
            is_record_audited=False,
        )


def _registry(runtime: Runtime, one: Result, two: Result) -> Iterable[Kind]:
    marks = [result.items[0].watermark for result in (one, two)]
    payloads = [int(mark.payload, 16) for mark in marks if mark]
    yield Kind(
        name="mark",
        bucket="results",
        keys=(keys.mark_key(payloads[0]), keys.mark_key(payloads[1])),
        read=lambda runtime, index: find_mark(runtime, payloads[index]),
        made_by=("mark_key",),
        audited=True,
        forge=lambda document: document.update(item="z"),
    )
    ids = []
    for name in ("x", "y"):
        runtime.inbox.put(f"audit/{name}.wav", f"no audio {name}".encode())
        ids.append(jobs.trace_clip(f"audit/{name}.wav", runtime).trace_id)

    def read(runtime: Runtime, index: int) -> Any:
        data = runtime.results.get(keys.trace_key(ids[index]), limit=10**6).data
        return trace.read_report(data, ids[index], runtime.keys.verifying)

    yield Kind(
        name="trace report",
        bucket="results",
        keys=(keys.trace_key(ids[0]), keys.trace_key(ids[1])),
        read=read,
        made_by=("trace_key",),
        audited=True,
        forge=lambda document: document.update(meaning="Nothing."),
    )


def _work(first: str, second: str) -> Iterable[Kind]:
    open_jobs = (first, second)
    yield Kind(
        name="plan",
        bucket="control",
        keys=(keys.plan_key(first), keys.plan_key(second)),
        read=lambda runtime, index: plan.read_plan(
            runtime.control, open_jobs[index], runtime.keys.verifying
        ),
        made_by=("plan_key",),
        forge=lambda document: document.update(shards=1),
    )
    shards = (keys.shard_key(first, 0), keys.shard_key(first, 1))

    def read(runtime: Runtime, index: int) -> Any:
        shard = plan.read_shard(runtime.control, shards[index], runtime.keys.verifying)
        return [(item.id, item.index, item.text) for item in shard.job.items]

    yield Kind(
        name="shard",
        bucket="control",
        keys=shards,
        read=read,
        made_by=("shard_key",),
        forge=lambda document: document.update(of=3),
    )


def _leases(runtime: Runtime, one: Result, two: Result) -> Iterable[Kind]:
    names = (one.job_id, two.job_id)
    yield Kind(
        name="lease",
        bucket="control",
        keys=(keys.lease_key(names[0]), keys.lease_key(names[1])),
        read=lambda runtime, index: lease.read_last_record(
            runtime.control, names[index], runtime.keys.verifying
        ),
        made_by=("lease_key",),
        may_begin_again=True,
        forge=lambda document: document.update(attempt=99),
    )
    failed = ("f" * 32, f"{'e' * 32}.00001")
    for name in failed:
        with (
            suppress(Unavailable),
            attempt.begin(name, name[:32], runtime) as run,
            attempt.recording_failure(one.manifest, run),
        ):
            raise Unavailable("KMS_UNAVAILABLE", f"It happened to {name}.")
        with attempt.begin(name, name[:32], runtime) as run:
            attempt.write_dead_letter(one.manifest, run)

    def read_letter(runtime: Runtime, index: int) -> Any:
        data = runtime.control.get(keys.dead_letter_key(failed[index]), limit=10**6).data
        letter = signed.read(data, DeadLetter, runtime.keys.verifying)
        return letter.error if letter.name == failed[index] else None

    def read_reason(runtime: Runtime, index: int) -> Any:
        with attempt.begin(failed[index], failed[index][:32], runtime) as run:
            attempt.write_dead_letter(one.manifest, run)
        error = read_letter(runtime, index)
        return None if error.code == "RETRIES_EXHAUSTED" else error

    def forge(document: dict[str, Any]) -> None:
        document["error"]["message"] = "Forged."

    yield Kind(
        name="reason",
        bucket="control",
        keys=(keys.reason_key(failed[0]), keys.reason_key(failed[1])),
        read=read_reason,
        made_by=("reason_key",),
        forge=forge,
    )
    yield Kind(
        name="dead letter",
        bucket="control",
        keys=(keys.dead_letter_key(failed[0]), keys.dead_letter_key(failed[1])),
        read=read_letter,
        made_by=("dead_letter_key",),
        forge=forge,
    )


def _notes(runtime: Runtime) -> Iterable[Kind]:
    waiting_jobs = (("refs/x.wav", "1" * 32), ("refs/y.wav", "2" * 32))
    since = [
        waiting.put_mark(runtime.control, reference, job, f"jobs/{job}.manifest.json", runtime.keys)
        for reference, job in waiting_jobs
    ]

    def read_mark(runtime: Runtime, index: int) -> Any:
        reference, job = waiting_jobs[index]
        manifest = f"jobs/{job}.manifest.json"
        found = waiting.put_mark(runtime.control, reference, job, manifest, runtime.keys)
        return found if found <= max(since) else None  # otherwise it begins to wait now

    yield Kind(
        name="waiting mark",
        bucket="control",
        keys=(keys.pending_key(*waiting_jobs[0]), keys.pending_key(*waiting_jobs[1])),
        read=read_mark,
        made_by=("pending_key",),
        forge=lambda document: document.update(since=1.0),
    )
    for number in range(len(DAYS)):
        for job in range(2):
            name = f"{number * 2 + job:032x}"
            Quota(jobs=9).count_job(
                runtime.control, runtime.keys, name, "jobs/a", NOON + number * 86400, 7
            )

    def read_quota(runtime: Runtime, index: int) -> Any:
        data = runtime.control.get(keys.quota_key(DAYS[index]), limit=10**6).data
        return frozenset(_entries(data, DAYS[index], runtime.keys)) or None

    yield Kind(
        name="quota",
        bucket="control",
        keys=(keys.quota_key(DAYS[0]), keys.quota_key(DAYS[1])),
        read=read_quota,
        made_by=("quota_key",),
        may_begin_again=True,
    )
    engines: tuple[Engine, Engine] = ("kokoro", "gpt_sovits")
    for number, engine in enumerate(engines):
        learned = Learned(engine=engine, voices_s=[10.0 + number])
        runtime.control.put(keys.rates_key(engine), signed.sign(learned, runtime.keys.signing))

    def read_rates(runtime: Runtime, index: int) -> Any:
        learned = Rates(engines[index]).read(runtime.control, runtime.keys)
        return learned if learned.voice_s() else None

    yield Kind(
        name="rates",
        bucket="control",
        keys=(keys.rates_key(engines[0]), keys.rates_key(engines[1])),
        read=read_rates,
        made_by=("rates_key",),
        forge=lambda document: document.update(voices_s=[99.0]),
    )


def _voices(runtime: Runtime) -> Iterable[Kind]:
    withdrawn = records.format_consent(consent_record(b"", ref_audio_sha256=["e" * 64, "f" * 64]))
    runtime.consents.withdraw(withdrawn, NOON)
    digest = hashlib.sha256(withdrawn).hexdigest()
    withdrawals = ("e" * 64, "f" * 64)
    yield Kind(
        name="withdrawal",
        bucket="results",
        keys=tuple(keys.withdrawal_key(r, digest) for r in withdrawals),  # type: ignore[arg-type]
        read=lambda runtime, index: (
            find_withdrawals(withdrawals[index], runtime.results, runtime.keys.verifying) or None
        ),
        made_by=("withdrawal_key",),
        audited=True,
        forge=lambda document: document.update(at="2020-01-01T00:00:00Z"),
    )
    recordings = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (REFERENCE, OTHER_REFERENCE)
    ]
    yield Kind(
        name="voice key",
        bucket="control",
        keys=(keys.voice_key_key(recordings[0]), keys.voice_key_key(recordings[1])),
        read=lambda runtime, index: _voice_key(recordings[index], runtime),
        made_by=("voice_key_key",),
        forge=lambda document: document.update(consent="consent/other.json"),
    )
    places = [
        next(i.key for i in runtime.control.list(keys.voice_prefix(r)) if i.key.endswith(".sealed"))
        for r in recordings
    ]
    yield Kind(
        name="voiceprint",
        bucket="control",
        keys=(places[0], places[1]),
        read=_voiceprint_reader(runtime, places, recordings),
        made_by=("cached_key",),
    )
    voiceprint = Voiceprint(fingerprint="buzz/1", data=b"buzz")
    caching = replace(runtime, speech_cache="bucket")
    spoken = [present(open_speech_cache(one, voiceprint, caching)) for one in recordings]
    item = of_item().items[0]
    for index, cache in enumerate(spoken):
        samples = np.full(9, index, np.float32)
        with cache.keeping(item, 0, Spoken([SpeechChunk(samples, 9)], 1.0), Stopwatch(runtime, "")):
            pass

    def read_spoken(runtime: Runtime, index: int) -> Any:
        cache = open_speech_cache(
            recordings[index], voiceprint, replace(runtime, speech_cache="bucket")
        )
        found = cache.read(item, 0, Stopwatch(runtime, "")) if cache else None
        return found and [chunk.samples.tobytes() for chunk in found.chunks]

    names = (i.key for r in recordings for i in runtime.control.list(keys.voice_prefix(r)))
    spoken_keys = [key for key in names if keys.is_spoken_key(key)]
    yield Kind(
        name="spoken item",
        bucket="control",
        keys=(spoken_keys[0], spoken_keys[1]),
        read=read_spoken,
        made_by=("cached_key",),
    )
    former = []
    for name in ("a" * 64, "b" * 64):
        context = Context(job="voiceprints", item=name, mt="application/msgpack")
        sealed = sealing.seal(b"\x83" + name.encode(), context, runtime.keys.wrapping)
        former.append(keys.unbound_voiceprint_key(name))
        metadata = sealing.envelope_metadata(sealed.envelope)
        runtime.control.put(former[-1], sealed.body, metadata=metadata)
    yield Kind(
        name="voiceprint of version 0.1.0",
        bucket="control",
        keys=(former[0], former[1]),
        read=_voiceprint_reader(runtime, former, None),
        made_by=("unbound_voiceprint_key",),
    )
    records_ = ("c" * 64, "d" * 64)
    for record in records_:
        check = KeptCheck(
            recording=recordings[0],
            record=record,
            channel="mix",
            window="best",
            check=StatementCheck(verified=True),
        )
        key = keys.statement_check_key(recordings[0], record, "mix", "best")
        runtime.control.put(key, signed.sign(check, runtime.keys.signing))
    yield Kind(
        name="statement check",
        bucket="control",
        keys=tuple(  # type: ignore[arg-type]
            keys.statement_check_key(recordings[0], r, "mix", "best") for r in records_
        ),
        read=lambda runtime, index: _statement_check(recordings[0], records_[index], runtime),
        made_by=("statement_check_key",),
        forge=lambda document: document["check"].update(verified=False),
    )


def _protections(runtime: Runtime) -> Iterable[Kind]:
    recordings = ("a" * 64, "b" * 64)
    for number, recording in enumerate(recordings):
        unit = np.full(4, (-1) ** number / 2, np.float32)
        who = [Speaker(unit, unit)] * len(THRESHOLDS)
        protection.protect(
            recording, who, runtime.control, runtime.keys, label="a voice", owner="owner"
        )

    def read(runtime: Runtime, index: int) -> Any:
        found = runtime.protected_voices().voices
        believed = [voice for voice in found if voice.recording == recordings[index]]
        return [(one.owner, one.speaker[0].ge2e.tobytes()) for one in believed] or None

    yield Kind(
        name="protection",
        bucket="control",
        keys=(keys.protection_key(recordings[0]), keys.protection_key(recordings[1])),
        read=read,
        made_by=("protection_key",),
        forge=lambda document: document.update(owner="somebody else"),
    )


def _voice_key(recording: str, runtime: Runtime) -> Any:
    found = find_voice_key(recording, runtime.control, runtime.keys)
    return found.document if found else None


def _statement_check(recording: str, record: str, runtime: Runtime) -> Any:
    from core.job import statement_check

    key = keys.statement_check_key(recording, record, "mix", "best")
    return statement_check._read(key, runtime)


def _voiceprint_reader(
    built: Runtime, places: list[str], recordings: list[str] | None
) -> Callable[[Runtime, int], Any]:
    contexts = [
        sealing.envelope_from_metadata(built.control.get(p, limit=10**7).info.metadata).ctx
        for p in places
    ]

    def read(runtime: Runtime, index: int) -> Any:
        wrapping = runtime.keys.wrapping
        if recordings:
            key = find_voice_key(recordings[index], runtime.control, runtime.keys)
            if key is None:
                return None
            wrapping = key.wrapping
        stored = runtime.control.get(places[index], limit=10**7)
        envelope = sealing.envelope_from_metadata(stored.info.metadata)
        if envelope.ctx != contexts[index]:
            return None
        return sealing.open_sealed(stored.data, envelope, wrapping)

    return read


def _log(runtime: Runtime, one: Result, cut: Result) -> Iterable[Kind]:
    origin = f"voicedrop/{runtime.results.name}"

    kept = log.read_latest_checkpoint(runtime.results)

    def verified(runtime: Runtime, index: int) -> Any:
        verifying = runtime.keys.verifying.values()
        checkpoint, leaves = log.verify(runtime.results, verifying, origin, earlier=kept)
        return checkpoint, dict(leaves)

    batches = [info.key for info in runtime.results.list(keys.LOG_BATCHES)]
    checkpoints = [info.key for info in runtime.results.list(keys.LOG_CHECKPOINTS)]
    size = verified(runtime, 0)[0].size
    bundle = tiles.key("entries", 0, size)
    hashes = tiles.key("0", 0, size)
    proofs = (keys.proof_key(one.job_id), keys.proof_key(cut.job_id))

    def read_proof(runtime: Runtime, index: int) -> Any:
        result = (one, cut)[index]
        data = runtime.results.get(keys.result_key(result.job_id), limit=10**7).data
        leaf = Leaf(job=result.job_id, result_sha256=hashlib.sha256(data).hexdigest())
        proof = runtime.results.get(proofs[index], limit=10**6).data.decode("utf-8", "replace")
        return log.check_proof(proof, leaf.dump(), runtime.keys.verifying.values(), origin)[0]

    yield Kind(
        name="proof",
        bucket="results",
        keys=proofs,
        read=read_proof,
        made_by=("proof_key",),
        audited=True,
    )
    yield Kind(
        name="tile",
        bucket="results",
        keys=(bundle, hashes),
        read=verified,
        made_by=(),
        audited=True,
    )
    yield Kind(
        name="batch",
        bucket="results",
        keys=(batches[0], batches[-1]),
        read=lambda runtime, index: jobs.integrate_log(runtime).checkpoint,
        made_by=("batch_key",),
        audited=True,
    )
    yield Kind(
        name="checkpoint",
        bucket="results",
        keys=(checkpoints[-1], checkpoints[0]),
        read=verified,
        made_by=("checkpoint_key",),
        audited=True,
        is_second_read=False,  # only the newest one counts
    )
    tombstones = (keys.tombstone_key(cut.job_id, 0), keys.tombstone_key(cut.job_id, 1))

    def read_tombstone(runtime: Runtime, index: int) -> Any:
        data = runtime.results.get(tombstones[index], limit=10**6).data
        verifying = runtime.keys.verifying
        return tombstone.parse_tombstone(data, cut.job_id, index, verifying)

    yield Kind(
        name="tombstone",
        bucket="results",
        keys=tombstones,
        read=read_tombstone,
        made_by=("tombstone_key",),
        audited=True,
        forge=lambda document: document.update(reason="Forged."),
    )


def _queue(two: Result, book: Result) -> Kind:
    results = (two, book)

    def read(runtime: Runtime, index: int) -> Any:
        """Return the digest that is logged for a job."""
        jobs.integrate_log(runtime)
        origin = f"voicedrop/{runtime.results.name}"
        _, leaves = log.verify(runtime.results, runtime.keys.verifying.values(), origin)
        return leaves.get(results[index].job_id, (0, None))[1]

    return Kind(
        name="queued leaf",
        bucket="control",
        keys=(keys.queue_key(two.job_id), keys.queue_key(book.job_id)),
        read=read,
        made_by=("queue_key",),
        forge=lambda document: document.update(result_sha256="0" * 64),
    )
