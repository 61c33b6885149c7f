"""Real processes: workers over an OSS server that fails, one of them killed every second.

One process, without threads, plays the platform: it forks the workers, hands each one notification
at a time, repeats and loses some, kills workers with SIGKILL and starts others. Everything between
a notification and the bucket is the product's own; only the voice is a small one, and the recording
that most jobs share is decoded before the workers are forked.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core.consent import records
from core.crypto import keys
from core.errors import JobError
from core.job.runtime import Runtime
from core.storage.object_keys import SHARD_SUFFIX, SHARDS
from core.storage.oss import OssStore
from core.storage.retry import Retry
from handlers import oss, sweep
from tests.support.faults import cached_audio
from tests.support.faults.chaos_store import BUCKETS, serving
from tests.support.faults.final_state import insist, look
from tests.support.faults.simulation import notification
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    consent_record,
    finish_job,
    local_runtime,
    put_job,
)
from tests.support.stores import KEYS

LEASE = 3.0
SHARD = 3
TRIES = 4
"""How often the platform delivers a notification that fails."""
RETRY = Retry(attempts=2, first_pause=0.02, longest_pause=0.1)
"""Less patient than in production, so that failures reach the pipeline."""
PATIENT = Retry(first_pause=0.02, longest_pause=0.1)
"""As many attempts as in production: among thousands of calls two failures in a row are certain."""


@dataclass(frozen=True)
class Plan:
    workers: int = 8
    jobs: int = 500
    large: int = 25
    """Further jobs, of so many items that they are cut into shards."""
    seed: int = 1
    failing: float = 0.05
    """Share of calls to the object store that fail."""
    lost: float = 0.02
    """Share of notifications that never come."""
    kill_every: float = 1.0
    limit: float = 3600.0
    """Seconds after which it has failed."""


@dataclass
class Worker:
    pid: int
    line: socket.socket
    order: dict[str, Any] | None = None


@dataclass
class Chaos:
    plan: Plan
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    swept: Counter[str] = field(default_factory=Counter)
    _shards: set[str] = field(default_factory=set)
    _queue: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _workers: list[Worker] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        started, cpu = time.monotonic(), sum(os.times()[:4])
        with serving(self.plan.failing, self.plan.seed) as endpoint, cached_audio.remembered():
            self._endpoint = endpoint
            self._draw = random.Random(self.plan.seed)
            self._runtime = self._open("platform", PATIENT)
            self._warm()
            manifests = self._produce()
            try:
                self._work(started + self.plan.limit)
            finally:
                self._stop()
            found = look(self._runtime, manifests)
        return {
            **found,
            **self.counts,
            "swept": dict(self.swept),
            "wall_s": round(time.monotonic() - started, 1),
            "cpu_s": round(sum(os.times()[:4]) - cpu, 1),
        }

    def _open(self, name: str, retry: Retry = RETRY) -> Runtime:
        stores = {
            bucket: OssStore(bucket, self._endpoint, "cn-hangzhou", lambda: KEYS, retry=retry)
            for bucket in BUCKETS
        }
        given: dict[str, Any] = {
            "worker": name[-16:],
            "lease_seconds": LEASE,
            "max_attempts": 50,
            "shard_items": SHARD,
        }
        if (self.folder / "keys").exists():
            given["keys"] = keys.load_keyring(self.folder / "keys")
        return local_runtime(self.folder, voice=BuzzVoice(), **stores, **given)

    def _warm(self) -> None:
        """Workers are forked from here: with everything imported, and the common reference decoded,
        or new workers would spend their second of life on that."""
        warm = local_runtime(self.folder / "warm", keys=self._runtime.keys)
        finish_job(put_job(warm, items=[{"id": "a", "text": "Warm."}]), warm)

    def _produce(self) -> list[str]:
        """Upload everything; one in ten recordings comes after its manifest."""
        data = REFERENCE.read_bytes()
        insist(partial(self._runtime.inbox.put, "refs/alice.flac", data))
        consent = records.format_consent(consent_record(data))
        insist(partial(self._runtime.inbox.put, "consent/alice.json", consent))
        draw, manifests = self._draw, []
        for number in range(self.plan.jobs + self.plan.large):
            key = f"jobs/{number}.manifest.json"
            large = number >= self.plan.jobs
            late = draw.random() < 0.1
            reference_key = f"refs/{number}.flac" if late else "refs/alice.flac"
            document = {
                "schema": "voicedrop/job/1",
                "voices": {
                    "alice": {
                        "reference": reference_key,
                        "language": "en",
                        "consent": "consent/alice.json",
                    }
                },
                "items": [
                    {"id": f"i{n}", "text": "A few words of speech."}
                    for n in range(draw.randint(SHARD + 1, 9) if large else draw.randint(1, SHARD))
                ],
            }
            data = json.dumps(document).encode()
            insist(partial(self._runtime.inbox.put, key, data))
            manifests.append(key)
            self._announce(key, 0.0)
            if late:
                self._later(draw.uniform(1, 5), {"upload": reference_key})
        return manifests

    def _announce(self, key: str, after: float) -> None:
        if self._draw.random() < self.plan.lost:
            self.counts["notifications_lost"] += 1
            return
        for _ in range(self._draw.randint(1, 5)):
            self.counts["notifications"] += 1
            self._later(after + self._draw.uniform(0, 5), {"deliver": key, "tries": 1})

    def _announce_shards(self) -> None:
        """What the trigger on the control bucket does when a shard is put."""
        found = insist(lambda: list(self._runtime.control.list(SHARDS)))
        arrived = {info.key for info in found if info.key.endswith(SHARD_SUFFIX)}
        for key in sorted(arrived - self._shards):
            self._announce(key, 0.0)
        self.counts["shards"] += len(arrived - self._shards)
        self._shards |= arrived

    def _later(self, seconds: float, order: dict[str, Any]) -> None:
        heapq.heappush(self._queue, (time.monotonic() + seconds, self._draw.getrandbits(60), order))

    def _work(self, until: float) -> None:
        kill, told = time.monotonic() + self.plan.kill_every, 0.0
        look = 0.0
        self._later(5.0, {"sweep": LEASE})
        while True:
            now = time.monotonic()
            if now > look:
                look = now + 0.3
                self._announce_shards()
            if now > until:
                raise TimeoutError(f"not done after {self.plan.limit} s: {self.counts}")
            while len(self._workers) < self.plan.workers:
                self._fork()
            if now > kill:
                kill = now + self.plan.kill_every
                self._kill()
            self._hand_out(now)
            self._listen()
            if now > told:
                told = now + 10.0
                sys.stderr.write(f"{len(self._queue)} orders waiting, {dict(self.counts)}\n")
            if self.counts["settled"] == 2:
                return

    def _hand_out(self, now: float) -> None:
        for worker in self._workers:
            if not self._queue or self._queue[0][0] > now:
                return
            if worker.order is None:
                _, _, order = heapq.heappop(self._queue)
                if "upload" in order:
                    data = REFERENCE.read_bytes()
                    insist(partial(self._runtime.inbox.put, order["upload"], data))
                    self._announce(order["upload"], 0.0)
                    continue
                worker.order = order
                worker.line.sendall(json.dumps(order).encode() + b"\n")

    def _listen(self) -> None:
        ready, _, _ = select.select([worker.line for worker in self._workers], [], [], 0.02)
        for worker in [w for w in self._workers if w.line in ready]:
            try:
                answer = worker.line.recv(1 << 16)
            except ConnectionError:
                answer = b""
            order, worker.order = worker.order, None
            if not answer:
                self._bury(worker)
            if order:
                self._answered(order, json.loads(answer) if answer else {"error": "killed"})

    def _answered(self, order: dict[str, Any], answer: dict[str, Any]) -> None:
        if "sweep" in order:
            self.swept.update(answer.get("counts", {}))
            quiet = not self._queue and answer.get("open") == 0
            self.counts["settled"] = self.counts["settled"] + 1 if quiet else 0
            self._later(0.5 if not self._queue else 5.0, {"sweep": LEASE})
        elif "error" in answer:
            self.counts[f"answer_{answer['error']}"] += 1
            if order["tries"] < TRIES:
                again = order | {"tries": order["tries"] + 1}
                self._later(self._draw.uniform(0, LEASE) * 2 ** order["tries"] / 2, again)

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in self._workers:
                other.line.close()
            try:
                self._serve(theirs)
            finally:
                os._exit(1)
        theirs.close()
        self._workers.append(Worker(pid, ours))

    def _serve(self, line: socket.socket) -> None:
        """The worker's life."""
        name = f"{os.getpid():x}-{time.monotonic_ns() & 0xFFFF:x}"
        runtime, sweeper = self._open(name), self._open(name, PATIENT)
        for text in line.makefile():
            order = json.loads(text)
            try:
                if "sweep" in order:
                    answer = sweep.summary(sweep.run(sweeper, grace=order["sweep"]))
                else:
                    oss.handle(notification(order["deliver"]), runtime)
                    answer = {"done": True}
            except JobError as exc:
                answer = {"error": exc.code}
            line.sendall(json.dumps(answer).encode())

    def _kill(self) -> None:
        """One that is at work. The storm is over with the last notification: what was lost by then
        the sweeper finds in peace, or no sweep of a large bucket would ever end."""
        busy = [worker for worker in self._workers if worker.order]
        if any("deliver" in order for _, _, order in self._queue) and busy:
            worker = self._draw.choice(busy)
            os.kill(worker.pid, signal.SIGKILL)
            self.counts["killed"] += 1
            at_shard = (worker.order or {}).get("deliver", "").startswith(SHARDS)
            self.counts["killed_at_a_shard"] += at_shard

    def _bury(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.line.close()
        _, status = os.waitpid(worker.pid, 0)
        self.counts["died_by_itself"] += not os.WIFSIGNALED(status)

    def _stop(self) -> None:
        for worker in self._workers:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
            worker.line.close()
