"""A random history in which consent is withdrawn while jobs, retries, shards, joining and sweeps go
on, determined by one seed. Afterwards nothing of the voice remains that was made later.

In some histories the record begins in the future, is replaced or deleted after it was withdrawn, or
is withdrawn a second time after another record admitted the voice again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any
from unittest import mock

from core.consent import gate, records, withdrawal
from core.consent.gate import ConsentRegister
from core.consent.withdrawal import WithdrawalNote, find_withdrawals
from core.job import kept_voice, withdrawn
from core.job.speech_cache import SpeechCache
from core.manifest.resolve import job_id
from core.result.document import Result
from core.storage.object_keys import SEALED_SUFFIX, job_id_of, queue_key, voice_key_key
from handlers import sweep
from handlers.sweep import SweepReport
from tests.support.faults.history import MakeSimulation, RandomFaults
from tests.support.faults.injector import Call, Fault
from tests.support.faults.simulation import (
    LEASE_SECONDS,
    NoFaults,
    Simulation,
    in_virtual_time,
    manifest,
    other_reference,
    reference,
)
from tests.support.faults.virtual_time import Host, Scheduler
from tests.support.runtime import consent_record

RECORD = "consent/alice.json"
RECORDING = hashlib.sha256(reference()).hexdigest()
RETRIED = "jobs/first.manifest.json"
AGAIN = "consent/again.json"


class SlowOutputs(RandomFaults):
    """Some workers stop for longer than their lease, or for ever, in the moment in which they store
    an output."""

    def fault(self, call: Call) -> Fault | None:
        is_output = call.operation == "put_once" and call.key.endswith(SEALED_SUFFIX)
        if is_output and self.scheduler.rng.random() < 0.2:
            self.fault_count += 1
            return self.scheduler.rng.choice(["freeze-before", "crash-after"])
        return super().fault(call)


@dataclass
class WithdrawalHistory:
    """What happened in one history."""

    seed: int
    withdrawn: bool = False
    outcomes: list[str] = field(default_factory=list)
    """Code or status of each item of the withdrawn voice."""
    again: bool = False
    """Withdrawn a second time."""
    future: bool = False
    """The records begin during the history."""
    replaced: str = ""
    """What replaced the record after it was withdrawn."""
    removed: int = 0
    """Outputs that were deleted and named."""
    orphans: int = 0
    """Outputs that a sweep deleted."""
    cached: int = 0
    """Items whose words were spoken before."""
    split_jobs: int = 0
    joined: int = 0
    faults: int = 0


def play_withdrawal(seed: int, make_simulation: MakeSimulation = Simulation) -> WithdrawalHistory:
    """Play the history of a seed. Raises AssertionError, whose message begins with the seed."""
    try:
        return _Run(seed, make_simulation).play()
    except AssertionError as exc:
        raise AssertionError(f"seed {seed}: {exc}") from None


class _Run:
    def __init__(self, seed: int, make_simulation: MakeSimulation) -> None:
        self.scheduler = Scheduler(seed)
        self.rng = self.scheduler.rng
        self.simulation = make_simulation(self.scheduler)
        faulty = self.rng.choice([RandomFaults, SlowOutputs])
        self.plan = faulty(self.simulation, self.rng.choice([0.0, 0.01, 0.05]))
        self.simulation.plan = self.plan
        self.simulation.on_sentence = self._speak
        self.simulation.on_shard = self._announce
        self.simulation.checker.may_delete = self._may_delete
        self.platform = self.simulation.host("platform")
        if self.rng.random() < 0.4:
            self.simulation.shard_items = self.rng.choice([1, 2])
        self.simulation.lanes = Random(f"{seed} lanes").choice([1, 2])
        self.simulation.speech_cache = Random(f"{seed} cache").choice(["off", "bucket"])
        self.simulation.has_helpers = Random(f"{seed} helpers").random() < 0.15
        self.jobs: dict[str, str] = {}
        """Key of a manifest that uses the withdrawn voice -> key of its consent record."""
        self.ids: dict[str, str] = {}
        """Job id -> key of its manifest, of the same manifests."""
        self.begins: dict[str, datetime] = {}
        """Key of a consent record -> when it begins."""
        self.withdrawals: list[float] = []
        """When consent was withdrawn."""
        self.notes: dict[str, WithdrawalNote] = {}
        self.revoked_at = float("inf")
        """When the object beside the record was uploaded first."""
        self.speaking: dict[str, int] = {}
        """Host -> sentences that it began with a voice that was known to be withdrawn."""
        self.history = WithdrawalHistory(seed)

    def play(self) -> WithdrawalHistory:
        with in_virtual_time(self.scheduler):
            self._produce()
            self.scheduler.run()
            self._sweep_until_done()
        self._check()
        self.history.faults = self.plan.fault_count
        return self.history

    # --- what producers, the speaker and the platform do

    def _produce(self) -> None:
        self._put_records()
        first = self._put_job(RETRIED, RECORD)
        for name, consent in (("copy", "consent/copy.json"), ("other", "consent/other.json")):
            if self.rng.random() < 0.4:
                self._later(6, partial(self._put_job, f"jobs/{name}.manifest.json", consent))
        if self.rng.random() < 0.7:
            retry = partial(
                self._put_job,
                "jobs/retry.manifest.json",
                self.rng.choice([RECORD, "consent/copy.json"]),
                retry_of=first,
                output={"concatenate": self.rng.choice(["none", "book", "chapters"])},
            )
            self._later(12, retry)
        self._later(6, partial(self._put_bob))
        self._later(self.rng.choice([0.5, 4, 12]), self._withdraw)
        if self.rng.random() < 0.4:
            self._later(12, self._sweep)
        if self.rng.random() < 0.3:
            self._later(16, self._consent_again)
            if self.rng.random() < 0.5:
                self._later(24, self._withdraw_again)

    def _put_records(self) -> None:
        begins = datetime(2026, 1, 1, tzinfo=UTC)
        if self.rng.random() < 0.2:
            self.history.future = True
            begins = datetime.fromtimestamp(self.scheduler.now + self.rng.uniform(1, 12), UTC)
        self.record = self._record(valid_from=begins)
        for key, data in {
            RECORD: self.record,
            "consent/copy.json": self.rng.choice([self.record, self.record + b"\n"]),
            "consent/other.json": self._record(id="another-record", valid_from=begins),
        }.items():
            self.begins[key] = begins
            self.simulation.put(key, data)
        bob = records.format_consent(consent_record(other_reference(), id="bob"))
        self.simulation.put("consent/bob.json", bob)
        self.simulation.put("refs/alice.flac", reference())
        self.simulation.put("refs/bob.flac", other_reference())

    def _record(self, **changes: Any) -> bytes:
        return records.format_consent(consent_record(reference(), **changes))

    def _put_job(self, key: str, consent: str, **fields: Any) -> str:
        items = self.rng.randint(1, 3) * (3 if self.simulation.has_helpers else 1)
        voices = {"alice": {"reference": "refs/alice.flac", "language": "en", "consent": consent}}
        if self.rng.random() < 0.3 and "output" not in fields:
            fields["output"] = {"concatenate": "book"}
        data = manifest(items, wait_s=60, voices=voices, **fields)
        if "retry_of" in fields:
            stored = json.loads(self.simulation.buckets["inbox"].objects[RETRIED].data)
            data = manifest(len(stored["items"]), wait_s=60, voices=voices, **fields)
        self.jobs[key] = consent
        made = job_id("inbox", key, data)
        self.ids[made] = key
        self.simulation.put(key, data)
        self._announce(key)
        return made

    def _put_bob(self) -> None:
        voices = {"bob": {"reference": "refs/bob.flac", "language": "en"}}
        voices["bob"]["consent"] = "consent/bob.json"
        self.simulation.put("jobs/bob.manifest.json", manifest(1, voices=voices, id="bob"))
        self._announce("jobs/bob.manifest.json")

    def _withdraw(self, *, by_command: bool = False) -> None:
        self.history.withdrawn = True
        self.withdrawals.append(self.scheduler.now)
        if by_command or self.rng.random() < 0.2:
            host = self.simulation.host("c")
            runtime = self.simulation.runtime(host, plan=self._calm())
            self.scheduler.spawn(
                lambda: runtime.consents.withdraw(self.record, runtime.results.now()), host
            )
            return
        self.simulation.put(f"{RECORD}.revoked", b"")
        self.revoked_at = min(self.revoked_at, self.scheduler.now)
        self._announce(f"{RECORD}.revoked")
        if self.rng.random() < 0.25:
            self._later(self.rng.choice([0.1, 8]), self._replace_record)

    def _replace_record(self) -> None:
        how = self.history.replaced = self.rng.choice(["new", "copy", "junk", "deleted"])
        if how == "new":
            self.begins[RECORD] = datetime.fromtimestamp(self.scheduler.now, UTC)
            data = self._record(id="new", valid_from=self.begins[RECORD])
        else:
            data = {"copy": self.record + b" ", "junk": b"{}"}.get(how, b"")
        if data:
            self.simulation.put(RECORD, data)
        else:
            del self._inbox[RECORD]

    def _consent_again(self) -> None:
        """New consent, valid from a later date, and a job with it."""
        if not self.history.withdrawn:
            return
        self.begins[AGAIN] = datetime.fromtimestamp(self.scheduler.now, UTC)
        self.simulation.put(AGAIN, self._record(id="again", valid_from=self.begins[AGAIN]))
        self._put_job("jobs/again.manifest.json", AGAIN)

    def _withdraw_again(self) -> None:
        """Withdraw the first record again, after another record admitted the voice."""
        if AGAIN in self.begins:
            self.history.again = True
            self._withdraw(by_command=self.history.replaced in ("junk", "deleted"))

    def _announce(self, key: str) -> None:
        lost = self.rng.random() < 0.1
        for _ in range(0 if lost else self.rng.choice([1, 1, 2]) + self.simulation.has_helpers):
            deliver = partial(self.simulation.deliver, key, times=4)
            self._later(self.rng.choice([0.02, 0.5, 5]), deliver)

    def _later(self, seconds: float, work: Callable[[], object]) -> None:
        self.scheduler.spawn(work, self.platform, self.rng.uniform(0, seconds))

    def _calm(self) -> NoFaults:
        return NoFaults(self.simulation.checker, self.scheduler)

    def _sweep(self, plan: NoFaults | None = None) -> bool:
        host = self.simulation.host("s")
        runtime = self.simulation.runtime(host, plan=plan)
        task = self.scheduler.spawn(lambda: sweep.run_sweep(runtime, grace=0.0), host)
        self.scheduler.pause(float("inf"), lambda: task.done)
        if task.error:
            self.simulation.record_unexpected(task.error)
            return False
        assert isinstance(task.result, SweepReport)
        self.history.orphans += sum("deleted" in f.action for f in task.result.findings)
        return not task.result.open_findings

    def _sweep_until_done(self) -> None:
        for _ in range(20):
            task = self.scheduler.spawn(partial(self._sweep, self._calm()), self.platform)
            self.scheduler.run()
            if task.result:
                return
            self.scheduler.now += LEASE_SECONDS * 4
        raise AssertionError("the sweeper did not finish in 20 runs")

    # --- what must hold

    def _known_at(self, manifest_key: str) -> float:
        """When the withdrawal was known to a job: at once if it names the record itself; with
        another record, as soon as its notes were written."""
        consent = self.jobs[manifest_key]
        begins = self.begins[consent]
        if consent == RECORD and begins.timestamp() <= self.revoked_at < float("inf"):
            return self.revoked_at
        known = (at for at, note in self._notes() if _reaches(note, begins))
        return min(known, default=float("inf"))

    def _notes(self) -> list[tuple[float, WithdrawalNote]]:
        """When each note was stored, and the note."""
        infos = [
            info
            for info in self.simulation.buckets["results"].list(f"withdrawn/{RECORDING}/")
            if info.key.endswith(".json")
        ]
        if any(info.key not in self.notes for info in infos):
            runtime = self.simulation.direct_runtime()
            found = find_withdrawals(RECORDING, runtime.results, runtime.keys.verifying)
            self.notes = {note.key: note for note in found}
        return [(info.modified, self.notes[info.key]) for info in infos]

    @property
    def _inbox(self) -> dict[str, Any]:
        return self.simulation.buckets["inbox"].objects

    def _may_delete(self, key: str) -> bool:
        made_for = self.ids.get(job_id_of(key), "")
        # It may have been decided before new consent replaced the record.
        was_over = self.jobs.get(made_for) == RECORD and self.revoked_at <= self.scheduler.now
        return key.endswith(SEALED_SUFFIX) and (was_over or self._is_over(made_for))

    def _is_over(self, manifest_key: str) -> bool:
        return manifest_key in self.jobs and self._known_at(manifest_key) <= self.scheduler.now

    def _speak(self, host: Host) -> None:
        """A worker may finish the items that it has begun, no more."""
        if all(map(self._is_over, self.jobs)) and host.name[0] in "wh":
            count = self.speaking[host.name] = self.speaking.get(host.name, 0) + 1
            if count > self.simulation.lanes:
                self.scheduler.report_violation(f"{host.name} went on after the withdrawal")
        self.plan.in_speech(host)

    def _check(self) -> None:
        results = self.simulation.checker.finished_results(
            self.simulation.direct_runtime(),
            [key for key in self._inbox if key.startswith("jobs/")],
        )
        self._check_outputs()
        for key, result in results.items():
            self._check_result(key, result)
            self.history.split_jobs += bool(result.parts)
            self.history.joined += sum(c.output is not None for c in result.chapters)
        self._check_kept()

    def _check_outputs(self) -> None:
        """No output was stored later than the withdrawal and is still there."""
        checker = self.simulation.checker
        for info in self.simulation.buckets["results"].list("out/"):
            made_for = self.ids.get(job_id_of(info.key), "")
            if info.key.endswith(SEALED_SUFFIX) and self._is_over(made_for):
                late = checker.stored_at[info.key] - self._known_at(made_for)
                assert late < 0, f"{info.key} was stored {late:.2f} s after the withdrawal"

    def _check_result(self, key: str, result: Result) -> None:
        runtime = self.simulation.direct_runtime()
        assert runtime.control.head(queue_key(result.job_id)), f"{key} is not queued for the log"
        replaced = self.history.replaced
        for item in self.simulation.checker.items(result):
            code = item.error.code if item.error else item.status
            if key in self.jobs:
                self.history.outcomes.append(code)
            self.history.cached += item.cached
            removed = [n.pointer for n in item.notices if n.code == "OUTPUT_REMOVED"]
            self.history.removed += len(removed)
            assert not removed or code == "CONSENT_REVOKED"
            if item.output:
                assert runtime.results.head(item.output.key), f"{item.output.key} is missing"
            allowed = {"succeeded", "RETRIES_EXHAUSTED"}
            if self.history.withdrawn and key in self.jobs:
                allowed.add("CONSENT_REVOKED")
            if self.history.future:
                allowed.add("CONSENT_EXPIRED")
            # The record is lost between the look for the object beside it and its own reading.
            allowed.add({"junk": "CONSENT_INVALID", "deleted": "CONSENT_MISSING"}.get(replaced, ""))
            assert code in allowed, f"{key} ended as {code}"

    def _check_kept(self) -> None:
        """Nothing biometric is left, unless consent was given again."""
        if not self.history.withdrawn:
            return
        runtime = self.simulation.direct_runtime()
        notes = [note for _, note in self._notes()]
        noted = max((note.at.timestamp() for note in notes), default=0.0)
        # Nothing says which recording a record covered that was lost before anybody read it.
        is_lost = self.history.replaced in ("junk", "deleted")
        assert is_lost or noted >= max(self.withdrawals) - 1e-5, "the withdrawal was not noted"
        kept = [info.key for info in runtime.control.list(f"voices/{RECORDING}/")]
        if voice_key_key(RECORDING) in kept:
            data = json.loads(runtime.control.get(voice_key_key(RECORDING), limit=10**6).data)
            begins = self.begins[data["consent"]]
            is_again = not any(_reaches(note, begins) for note in notes)
            # The voice itself says so if it was learned under that record.
            is_again = is_again and (bool(notes) or data["consent"] != RECORD)
            assert is_again, f"{kept} is left"
        else:
            assert not kept, f"{kept} is left"


def _reaches(note: WithdrawalNote, begins: datetime) -> bool:
    return begins <= note.at or begins == note.valid_from


@contextmanager
def _broken(*patched: tuple[Any, str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, answer in patched:
            stack.enter_context(mock.patch.object(owner, name, return_value=answer))
        yield


NOT_SWEPT = (ConsentRegister, "complete_withdrawal", None)
BROKEN = {
    "not-read-before-signing": partial(_broken, (withdrawn, "find_withdrawn", {})),
    "kept-without-a-look": partial(_broken, (kept_voice, "_refuse_withdrawn", None), NOT_SWEPT),
    "speech-kept-without-a-look": partial(_broken, NOT_SWEPT, (SpeechCache, "_forget", None)),
    "by-key-alone": partial(_broken, (ConsentRegister, "find_withdrawals", [])),
    "orphans-stay": partial(_broken, (withdrawn, "remove_unclaimed", [])),
    "replaced-is-forgotten": partial(_broken, (gate, "_is_noted", True)),
    "by-bytes-alone": partial(_broken, (withdrawal, "is_new_consent", True)),
    "once-only": partial(_broken, (withdrawal, "_put_again", None)),
}
"""The pipeline with one deliberate bug, which random histories must detect. Where a sweep would
make up for the bug, it does not run that step."""
