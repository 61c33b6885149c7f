"""A random sequence of writes by somebody who holds the signing key and may write to results and
control, mixed with lawful work and determined by one seed. Somebody else kept a checkpoint.

Afterwards `log verify` and `audit` with that checkpoint must not pass if a logged document was
changed, replaced or removed, or an output was removed without a tombstone; after lawful work alone
both must pass.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.audit import Sources, audit_bucket, build_report
from core.consent import records
from core.crypto.keys import ReadingKeys
from core.documents import base64url, signed
from core.errors import JobError, Refused
from core.job.erasure import erase_outputs
from core.job.runtime import Runtime
from core.result.document import format_timestamp
from core.storage.object_keys import (
    LOG,
    LOG_BATCHES,
    LOG_CHECKPOINTS,
    OUTPUTS,
    SEALED_SUFFIX,
    WITHDRAWN,
    batch_key,
    checkpoint_key,
    event_key,
    job_id_of,
    proof_key_of,
    queue_key,
    result_key,
    tombstone_key,
    tombstones_prefix,
)
from core.storage.port import Object
from core.tlog import log, merkle, sequencer, signed_note, tiles
from core.tlog.leaf import AnyLeaf, Leaf, TombstoneLeaf, WithdrawalLeaf, parse_leaf
from handlers.cli.log import check_log
from handlers.jobs import integrate_log
from tests.support.audited_bucket import fill_bucket
from tests.support.faults.memory import MemoryStore
from tests.support.runtime import consent_record

NOW = 1_800_000_000.0
ORIGIN = "voicedrop/results"
JOBS = (0, 1, 2, 3, 9, 19)
"""The last two are partial and rejected."""
_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class _Finished:
    """What a finished job stores."""

    leaf: Leaf
    objects: list[Object]


@cache
def _make_jobs() -> tuple[Runtime, list[_Finished]]:
    """Finish a few jobs with real outputs, of which every sequence takes some."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = fill_bucket(Path(folder), JOBS, integrate=False)
        stored = [runtime.results.get(i.key, limit=_LIMIT) for i in runtime.results.list("")]
    jobs = []
    for document in stored:
        if document.info.key.endswith("/result.json"):
            job = job_id_of(document.info.key)
            leaf = Leaf(job=job, result_sha256=hashlib.sha256(document.data).hexdigest())
            own = [one for one in stored if job in one.info.key or job.encode() in one.data[:200]]
            jobs.append(_Finished(leaf, own))
    return runtime, jobs


@dataclass
class Played:
    """What happened in one sequence."""

    seed: int
    steps: list[str] = field(default_factory=list)
    lawful: bool = False
    """No step was an attack."""
    rewritten: list[str] = field(default_factory=list)
    """Logged documents that the checkpoint vouches for and that are stored with other bytes."""
    removed: list[str] = field(default_factory=list)
    """Logged documents that are not stored, and outputs without a tombstone."""
    missed: list[str] = field(default_factory=list)
    """What the verifiers should have said and did not."""


def play(seed: int) -> Played:
    """Play the sequence of a seed."""
    return _Sequence(seed).play()


@dataclass
class _Kept:
    """What somebody else kept: a checkpoint, and what it vouches for."""

    checkpoint: str
    documents: dict[str, bytes]
    """Key -> bytes."""
    files: dict[tuple[str, str], str]
    """(key, digest) of an output -> SHA-256 of the result that names it."""


class _Sequence:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.played = Played(seed)
        self.time = NOW
        self.results = MemoryStore("results", lambda: self.time)
        self.control = MemoryStore("control", lambda: self.time)
        runtime, jobs = _make_jobs()
        self.runtime = replace(runtime, results=self.results, control=self.control)
        self.waiting = self.rng.sample(jobs, len(jobs))
        self.records: list[bytes] = []
        """Consent records."""
        self.earlier: list[dict[str, Object]] = []
        """Earlier states of results, to which the attacker may return."""

    def play(self) -> Played:
        for _ in range(self.rng.randint(1, 4)):
            self.finish_job()
        for _ in range(self.rng.randint(0, 2)):
            self._do(self.rng.choice(LAWFUL))
        self.integrate()
        kept = self._keep()
        is_lawful = self.played.lawful = self.rng.random() < 0.15
        steps = LAWFUL if is_lawful else ATTACKS * 2 + LAWFUL
        # Long sequences leave so many traces that a single bug of a verifier would not show.
        for _ in range(self.rng.choice([1, 2, 2, 3, 3, 4, 8, 12])):
            self._do(self.rng.choice(steps))
        if is_lawful or self.rng.random() < 0.7:
            self._do(_Sequence.integrate)
        if self.rng.random() < 0.5:
            self.pass_time()
        self._judge(kept)
        return self.played

    def _do(self, step: Callable[[_Sequence], None]) -> None:
        self.earlier.append(dict(self.results.objects))
        self.played.steps.append(step.__name__)
        if self.played.lawful:
            step(self)
            return
        with suppress(JobError):  # the product noticed
            step(self)

    # --- lawful work

    def finish_job(self) -> None:
        if self.waiting:
            job = self.waiting.pop()
            for one in job.objects:
                self.results.put(one.info.key, one.data, metadata=one.info.metadata)
            sequencer.enqueue(self.control, job.leaf)

    def integrate(self) -> None:
        integrate_log(self.runtime)

    def erase(self) -> None:
        if outputs := self._keys(SEALED_SUFFIX):
            erase_outputs(job_id_of(self.rng.choice(outputs)), self.runtime, reason="asked to")

    def withdraw(self) -> None:
        """Withdraw a new record, and every second time the one before it again."""
        record = records.format_consent(consent_record(self.rng.randbytes(8)))
        self.records.append(record)
        self.runtime.consents.withdraw(self.records[-1 - (len(self.records) + 1) % 2], self.time)

    def pass_time(self) -> None:
        self.time += self.rng.choice([1, 61, 86_400])

    # --- attacks on documents

    def change_result(self) -> None:
        if keys := self._keys("/result.json"):
            self._change(self.rng.choice(keys), self.rng.choice(_CHANGES))

    def back_date(self) -> None:
        if keys := self._keys("/result.json"):
            self._change(self.rng.choice(keys), self._back_date)

    def _back_date(self, document: dict[str, Any]) -> None:
        """Change the times of a result and its event."""
        before = event_key(document["job_id"], document["finished"])
        for name in ("started", "finished"):
            document[name] = "2025" + document[name][4:]
        if before in self.results.objects:
            event = json.loads(self._read(before)) | {"time": document["finished"]}
            self.results.delete(before)
            after = event_key(document["job_id"], document["finished"])
            self.results.put(after, json.dumps(event).encode())

    def replace_result(self) -> None:
        if keys := self._keys("/result.json"):
            earlier = [state[k].data for state in self.earlier for k in keys if k in state]
            others = [b"", b"{}", self._read(self.rng.choice(keys)), *earlier]
            self.results.put(self.rng.choice(keys), self.rng.choice(others))

    def sign_again(self) -> None:
        """Write the same document in another form."""
        if keys := self._keys("/result.json"):
            key = self.rng.choice(keys)
            with suppress(ValueError):
                self.results.put(key, json.dumps(json.loads(self._read(key))).encode())

    def remove_result(self) -> None:
        if keys := self._keys("/result.json"):
            self.results.delete(self.rng.choice(keys))

    def remove_job(self) -> None:
        """Remove everything that names a job, the marks aside."""
        if keys := self._keys("/result.json"):
            job = job_id_of(self.rng.choice(keys))
            for store in (self.results, self.control):
                for key in [k for k in store.objects if job in k]:
                    store.delete(key)

    def remove_output(self) -> None:
        if outputs := self._keys(SEALED_SUFFIX):
            self.results.delete(self.rng.choice(outputs))

    def replace_output(self) -> None:
        if outputs := self._keys(SEALED_SUFFIX):
            data = self.rng.choice([b"", self._read(self.rng.choice(outputs))])
            self.results.put(self.rng.choice(outputs), data)

    def erase_falsely(self) -> None:
        """Remove an output, with a signed tombstone that is not about it."""
        if outputs := self._keys(SEALED_SUFFIX):
            key = self.rng.choice(outputs)
            job, data = job_id_of(key), self._read(key)
            result = self.results.objects.get(result_key(job))
            document = {
                "schema": "voicedrop/tombstone/1",
                "job_id": job,
                "number": len(list(self.results.list(tombstones_prefix(job)))),
                "result_sha256": hashlib.sha256(result.data if result else b"").hexdigest(),
                "items": ["hello"],
                "files": [{"key": key, "sealed_sha256": hashlib.sha256(data).hexdigest()}],
                "reason": "asked to",
                "erased": format_timestamp(self.time),
            }
            place = tombstone_key(job, document["number"])  # type: ignore[arg-type]
            is_queued = True
            match self.rng.choice(["digest", "result", "job", "queue"]):
                case "digest":
                    document["files"][0]["sealed_sha256"] = "0" * 64  # type: ignore[index]
                case "result":
                    document["result_sha256"] = "0" * 64
                case "job":
                    document["job_id"] = "0" * 32
                case _:
                    is_queued = False
            self.results.put(place, signed.sign(document, self.runtime.keys.signing))
            if is_queued:
                sequencer.enqueue(self.control, self._leaf(place))
            self.results.delete(key)

    def change_tombstone(self) -> None:
        if keys := self._keys(".json", "/tombstones/"):
            self._change(self.rng.choice(keys), self.rng.choice(_TOMBSTONE_CHANGES))

    def change_note(self) -> None:
        if keys := self._notes():
            later = {"at": "2099-01-01T00:00:00Z"}
            self._change(self.rng.choice(keys), lambda document: document.update(later))

    def remove_tombstone_or_note(self) -> None:
        if keys := [*self._keys(".json", "/tombstones/"), *self._notes()]:
            key = self.rng.choice(keys)
            self.results.delete(key)
            if self.rng.random() < 0.5:
                self.results.delete(proof_key_of(key))

    def roll_back(self) -> None:
        """Return a part of the bucket to an earlier state."""
        prefix = self.rng.choice(["", LOG, OUTPUTS, WITHDRAWN, LOG_CHECKPOINTS])
        state = self.rng.choice(self.earlier)
        kept = {k: v for k, v in self.results.objects.items() if not k.startswith(prefix)}
        self.results.objects = kept | {k: v for k, v in state.items() if k.startswith(prefix)}

    # --- attacks on the queue, the proofs and the log

    def queue_leaf(self) -> None:
        if keys := self._documents():
            leaf = self._leaf(self.rng.choice(keys))
            if isinstance(leaf, Leaf) and self.rng.random() < 0.3:
                leaf = Leaf(job=leaf.job, result_sha256="0" * 64)
            sequencer.enqueue(self.control, leaf)

    def empty_queue(self) -> None:
        for key in [info.key for info in self.control.list(queue_key(""))]:
            self.control.delete(key)

    def remove_proof(self) -> None:
        if keys := self._documents():
            self.results.delete(proof_key_of(self.rng.choice(keys)))

    def forge_proof(self) -> None:
        if keys := self._documents():
            self._forge_proof(self.rng.choice(keys))

    def _forge_proof(self, key: str) -> None:
        """Prove a document by a log of its own, which nobody sees."""
        keys = self._documents()
        tree = merkle.Tree(merkle.leaf_hash(self._leaf(other).dump()) for other in keys)
        at = keys.index(key)
        path = merkle.inclusion_proof(at, tree.size, tree.node)
        proof = sequencer._format_proof(at, path, self._checkpoint(tree))
        self.results.put(proof_key_of(key), proof)

    def append_leaves(self) -> None:
        """Log the documents as they are stored now, a second time."""
        if keys := self._documents():
            chosen = self.rng.sample(keys, self.rng.randint(1, len(keys)))
            self._put_batch(len(self._entries()), [self._leaf(key).dump() for key in chosen])

    def rewrite_log(self) -> None:
        """Create the log again, of what is stored now or with some entries left out."""
        entries = self._current_entries()
        for _ in range(self.rng.choice([0, 0, 1])):
            if entries:
                entries.pop(self.rng.randrange(len(entries)))
        for key in [info.key for info in self.results.list(LOG)]:
            self.results.delete(key)
        self._put_batch(0, entries)

    def replace_entries(self) -> None:
        """Change the entries in place, and any of the objects that follow from them."""
        entries = self._current_entries()
        tree = merkle.Tree(map(merkle.leaf_hash, entries))
        parts: list[dict[str, bytes]] = [{}, {}, {}, {}]
        for number, bundle in enumerate(tiles.split_into_bundles(entries)):
            parts[0][tiles.key("entries", number, len(bundle))] = tiles.bundle(bundle)
        for level, number, data in tree.tiles():
            parts[1][tiles.key(str(level), number, len(data) // merkle.HASH)] = data
        starts = [start for start, _ in log.read_batches(self.results) if start < len(entries)]
        for start, end in pairwise([*starts, len(entries)]):
            parts[2][batch_key(start)] = tiles.bundle(entries[start:end])
        parts[3][checkpoint_key(tree.size)] = self._checkpoint(tree).encode()
        count = self.rng.choice([1, 2, 3, 4, 4, 4])
        for part in self.rng.sample(parts, count):
            for key, data in part.items():
                self.results.put(key, data)

    def cut_log(self) -> None:
        """Remove the end of the log."""
        sizes = [info.key for info in self.results.list(LOG_CHECKPOINTS)]
        if sizes:
            at = int(self.rng.choice(sizes)[-20:])
            for prefix in (LOG_CHECKPOINTS, LOG_BATCHES):
                for info in list(self.results.list(prefix)):
                    if int(info.key[-20:]) >= at + (prefix == LOG_CHECKPOINTS):
                        self.results.delete(info.key)

    def plant_checkpoint(self) -> None:
        """Sign a checkpoint of another size, root or name."""
        size, name = self.rng.randint(0, 9), self.rng.choice([ORIGIN, "voicedrop/other"])
        note = signed_note.Checkpoint(name, size, self.rng.randbytes(32)).text()
        place = checkpoint_key(self.rng.randint(size, 9))
        self.results.put(place, signed_note.sign(note, name, self.runtime.keys.signing).encode())

    def remove_log_object(self) -> None:
        if keys := [info.key for info in self.results.list(LOG)]:
            self.results.delete(self.rng.choice(keys))

    def remove_log(self) -> None:
        for key in [info.key for info in self.results.list(LOG)]:
            self.results.delete(key)

    # --- helpers

    def _keys(self, suffix: str, within: str = "") -> list[str]:
        keys = [info.key for info in self.results.list(OUTPUTS)]
        return [key for key in keys if key.endswith(suffix) and within in key]

    def _notes(self) -> list[str]:
        return [key for key in self.results.objects if re.fullmatch(r"withdrawn/.*\.json", key)]

    def _documents(self) -> list[str]:
        return [
            *self._keys("/result.json"),
            *self._keys(".json", "/tombstones/"),
            *self._notes(),
        ]

    def _read(self, key: str) -> bytes:
        return self.results.objects[key].data

    def _leaf(self, key: str) -> AnyLeaf:
        """Return the leaf of a document as it is stored now."""
        digest = hashlib.sha256(self._read(key)).hexdigest()
        if key.startswith(WITHDRAWN):
            _, recording, name = key.removesuffix(".json").split("/")
            record, _, again = name.partition(".")
            return WithdrawalLeaf(
                recording=recording, record=record, again=int(again or 0), sha256=digest
            )
        if "/tombstones/" in key:
            return TombstoneLeaf(job=job_id_of(key), number=int(key[-10:-5]), sha256=digest)
        return Leaf(job=job_id_of(key), result_sha256=digest)

    def _entries(self) -> list[bytes]:
        return [entry for _, batch in log.read_batches(self.results) for entry in batch]

    def _current_entries(self) -> list[bytes]:
        """Return the entries of the log, each for its document as it is stored now."""
        stored = set(self._documents())
        leaves = ((entry, parse_leaf(entry)) for entry in self._entries())
        return [
            self._leaf(leaf.document_key).dump() if leaf and leaf.document_key in stored else entry
            for entry, leaf in leaves
        ]

    def _checkpoint(self, tree: merkle.Tree) -> str:
        text = signed_note.Checkpoint(ORIGIN, tree.size, merkle.root(tree.size, tree.node)).text()
        return signed_note.sign(text, ORIGIN, self.runtime.keys.signing)

    def _put_batch(self, start: int, entries: list[bytes]) -> None:
        """Fix a batch as a sequencer does, and have it completed."""
        data = tiles.bundle(entries)
        digest = hashlib.sha256(data).hexdigest()
        about = {"schema": "voicedrop/batch/1", "log": ORIGIN, "start": start, "sha256": digest}
        record = base64url.encode(signed.sign(about, self.runtime.keys.signing))
        self.results.put(batch_key(start), data, metadata={sequencer.BATCH_RECORD: record})
        self.integrate()

    def _change(self, key: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a signed document, sign it again, and sometimes forge its proof."""
        with suppress(Refused):
            document = signed.verify(self._read(key), self.runtime.keys.verifying)
            change(document)
            self.results.put(key, signed.sign(document, self.runtime.keys.signing))
            if self.rng.random() < 0.3:
                self._forge_proof(key)

    # --- what somebody else kept, and what must be noticed

    def _keep(self) -> _Kept:
        kept = _Kept(log.read_latest_checkpoint(self.results) or "", {}, {})
        for entry in self._entries():
            leaf = parse_leaf(entry)
            assert leaf
            data = kept.documents[leaf.document_key] = self._read(leaf.document_key)
            document = json.loads(data)
            for item in document.get("items", []) if isinstance(leaf, Leaf) else []:
                if output := item.get("output"):
                    file = output["key"], output["sealed_sha256"]
                    kept.files[file] = leaf.digest
        return kept

    def _judge(self, kept: _Kept) -> None:
        played, stored = self.played, self.results.objects
        for key, data in kept.documents.items():
            if key not in stored:
                played.removed.append(key)
            elif stored[key].data != data:
                played.rewritten.append(key)
        of_documents = bool(played.rewritten or played.removed)
        for (key, digest), result in kept.files.items():
            there = key in stored and hashlib.sha256(stored[key].data).hexdigest() == digest
            if not there and not self._is_erased(key, digest, result):
                played.removed.append(key)
        # The queue is empty after lawful work, so that the control bucket is not needed.
        control = self.control if self.rng.random() < 0.7 else None
        sources = Sources(
            results=self.results,
            keys=ReadingKeys(verifying=self.runtime.keys.verifying, watermark={}, wrapping=None),
            control=control,
        )
        self._judge_one("log verify", _verify_log(sources, kept.checkpoint), of_documents)
        # Of jobs that finished before `since`, an audit looks at the documents alone.
        since = self.rng.choice(["", "", "2030-01-01"])
        is_violated = of_documents if since else bool(played.rewritten or played.removed)
        self._judge_one("audit", _audit(sources, kept.checkpoint, since), is_violated)

    def _judge_one(self, name: str, problem: str, is_violated: bool) -> None:
        if is_violated and not problem:
            self.played.missed.append(f"{name} passed")
        if self.played.lawful and problem:
            self.played.missed.append(f"{name} did not pass: {problem}")

    def _is_erased(self, key: str, digest: str, result: str) -> bool:
        """Return whether a signed tombstone of the job says so that is logged, queued or new."""
        job = job_id_of(key)
        entries = set(self._entries())
        for info in self.results.list(tombstones_prefix(job)):
            with suppress(Refused, KeyError, ValueError):
                one = signed.verify(self._read(info.key), self.runtime.keys.verifying)
                leaf = self._leaf(info.key)
                is_new = self.time - info.modified <= 60
                is_queued = queue_key(leaf.name) in self.control.objects
                if (
                    (one["job_id"], one["result_sha256"]) == (job, result)
                    and {"key": key, "sealed_sha256": digest} in one["files"]
                    and (leaf.dump() in entries or is_queued or is_new)
                ):
                    return True
        return False


def _verify_log(sources: Sources, checkpoint: str) -> str:
    """Return what `voicedrop log verify --checkpoint` says is wrong; empty: nothing."""
    try:
        output = check_log(sources, checkpoint)
    except JobError as exc:
        return str(exc)
    return "\n".join(output.lines) if output.exit_code else ""


def _audit(sources: Sources, checkpoint: str, since: str) -> str:
    """Return what `voicedrop audit --checkpoint` says is wrong; empty: nothing."""
    report = build_report(audit_bucket(sources, earlier=checkpoint, since=since), sources, since)
    return "\n".join(f"{one.code} {one.key} {one.message}" for one in report.findings)


_CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda document: document.update(labels={"a": "b"}),
    lambda document: document.update(status="failed"),
    lambda document: document.update(consent_policy="optional"),
    lambda document: document["manifest"].update(sha256="0" * 64),
    lambda document: document.update(voices={}),
    lambda document: document.update(items=[]),
]
_TOMBSTONE_CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda document: document.update(reason="another reason"),
    lambda document: document.update(erased="2025-01-01T00:00:00.000Z"),
    lambda document: document.update(files=[]),
    lambda document: document.update(number=9),
    lambda document: document["files"][0:1] and document["files"].pop(),
]
LAWFUL = [
    _Sequence.finish_job,
    _Sequence.integrate,
    _Sequence.erase,
    _Sequence.withdraw,
    _Sequence.pass_time,
]
ATTACKS = [
    _Sequence.change_result,
    _Sequence.back_date,
    _Sequence.replace_result,
    _Sequence.sign_again,
    _Sequence.remove_result,
    _Sequence.remove_job,
    _Sequence.remove_output,
    _Sequence.replace_output,
    _Sequence.erase_falsely,
    _Sequence.change_tombstone,
    _Sequence.change_note,
    _Sequence.remove_tombstone_or_note,
    _Sequence.roll_back,
    _Sequence.queue_leaf,
    _Sequence.empty_queue,
    _Sequence.remove_proof,
    _Sequence.forge_proof,
    _Sequence.append_leaves,
    _Sequence.rewrite_log,
    _Sequence.replace_entries,
    _Sequence.cut_log,
    _Sequence.plant_checkpoint,
    _Sequence.remove_log_object,
    _Sequence.remove_log,
]
