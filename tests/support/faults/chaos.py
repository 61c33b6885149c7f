"""Real worker processes over a failing OSS server, one of them killed every second.

One process, without threads, acts as the platform: it forks the workers, delivers one notification
at a time to each, repeats and loses some, kills workers with SIGKILL and starts others. Everything
between a notification and the bucket is the product's own code. Only the voice is a test double,
and the recording that most jobs share is decoded before the workers are forked.
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
from tests.support.events import notification
from tests.support.faults import cached_audio
from tests.support.faults.chaos_store import BUCKETS, serving
from tests.support.faults.final_state import check_final_state, retry
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    consent_record,
    finish_job,
    local_runtime,
    put_job,
)
from tests.support.stores import KEYS

LEASE_SECONDS = 3.0
SHARD_ITEMS = 3
LANES = 2
MAX_DELIVERIES = 4
"""Deliveries of a notification that fails."""
RETRY = Retry(attempts=2, first_pause=0.02, longest_pause=0.1)
"""Fewer attempts than in production, so that failures reach the pipeline."""
PATIENT = Retry(first_pause=0.02, longest_pause=0.1)
"""As many attempts as in production: thousands of calls include two failures in a row."""


@dataclass(frozen=True)
class ChaosOptions:
    workers: int = 8
    jobs: int = 500
    large: int = 25
    """Number of further jobs that are split into shards."""
    seed: int = 1
    failing: float = 0.05
    """Share of calls to the object store that fail."""
    lost: float = 0.02
    """Share of notifications that are not delivered."""
    kill_every: float = 1.0
    limit: float = 3600.0
    """Seconds after which the run fails."""


@dataclass
class Worker:
    pid: int
    connection: socket.socket
    order: dict[str, Any] | None = None


@dataclass
class Chaos:
    options: ChaosOptions
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    swept: Counter[str] = field(default_factory=Counter)
    _shards: set[str] = field(default_factory=set)
    _queue: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _workers: list[Worker] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        started, cpu = time.monotonic(), sum(os.times()[:4])
        with serving(self.options.failing, self.options.seed) as endpoint, cached_audio.memoised():
            self._endpoint = endpoint
            self._rng = random.Random(self.options.seed)
            self._runtime = self._open("platform", PATIENT)
            self._warm()
            manifests = self._produce()
            try:
                self._work(started + self.options.limit)
            finally:
                self._stop()
            final_state = check_final_state(self._runtime, manifests)
        return {
            **final_state,
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
        fields: dict[str, Any] = {
            "worker": name[-16:],
            "lease_seconds": LEASE_SECONDS,
            "max_attempts": 50,
            "shard_items": SHARD_ITEMS,
            "lanes": LANES,
        }
        if (self.folder / "keys").exists():
            fields["keys"] = keys.load_keyring(self.folder / "keys")
        return local_runtime(self.folder, voice=BuzzVoice(), **stores, **fields)

    def _warm(self) -> None:
        """Import everything and decode the common reference before the workers are forked, so that
        they do not spend their second of life on that."""
        warm = local_runtime(self.folder / "warm", keys=self._runtime.keys)
        finish_job(put_job(warm, items=[{"id": "a", "text": "Warm."}]), warm)

    def _produce(self) -> list[str]:
        """Upload everything; one in ten recordings is uploaded after its manifest."""
        data = REFERENCE.read_bytes()
        retry(partial(self._runtime.inbox.put, "refs/alice.flac", data))
        consent = records.format_consent(consent_record(data))
        retry(partial(self._runtime.inbox.put, "consent/alice.json", consent))
        rng, manifests = self._rng, []
        for number in range(self.options.jobs + self.options.large):
            key = f"jobs/{number}.manifest.json"
            large = number >= self.options.jobs
            late = rng.random() < 0.1
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
                    for n in range(
                        rng.randint(SHARD_ITEMS + 1, 9) if large else rng.randint(1, SHARD_ITEMS)
                    )
                ],
            }
            data = json.dumps(document).encode()
            retry(partial(self._runtime.inbox.put, key, data))
            manifests.append(key)
            self._announce(key, 0.0)
            if late:
                self._later(rng.uniform(1, 5), {"upload": reference_key})
        return manifests

    def _announce(self, key: str, after: float) -> None:
        if self._rng.random() < self.options.lost:
            self.counts["notifications_lost"] += 1
            return
        for _ in range(self._rng.randint(1, 5)):
            self.counts["notifications"] += 1
            self._later(after + self._rng.uniform(0, 5), {"deliver": key, "tries": 1})

    def _announce_shards(self) -> None:
        """Announce new shards, as the trigger on the control bucket does."""
        listed = retry(lambda: list(self._runtime.control.list(SHARDS)))
        arrived = {info.key for info in listed if info.key.endswith(SHARD_SUFFIX)}
        for key in sorted(arrived - self._shards):
            self._announce(key, 0.0)
        self.counts["shards"] += len(arrived - self._shards)
        self._shards |= arrived

    def _later(self, seconds: float, order: dict[str, Any]) -> None:
        heapq.heappush(self._queue, (time.monotonic() + seconds, self._rng.getrandbits(60), order))

    def _work(self, until: float) -> None:
        next_kill, next_report = time.monotonic() + self.options.kill_every, 0.0
        next_look = 0.0
        self._later(5.0, {"sweep": LEASE_SECONDS})
        while True:
            now = time.monotonic()
            if now > next_look:
                next_look = now + 0.3
                self._announce_shards()
            if now > until:
                raise TimeoutError(f"not done after {self.options.limit} s: {self.counts}")
            while len(self._workers) < self.options.workers:
                self._fork()
            if now > next_kill:
                next_kill = now + self.options.kill_every
                self._kill_one()
            self._assign_orders(now)
            self._receive_answers()
            if now > next_report:
                next_report = now + 10.0
                sys.stderr.write(f"{len(self._queue)} orders waiting, {dict(self.counts)}\n")
            if self.counts["settled"] == 2:
                return

    def _assign_orders(self, now: float) -> None:
        for worker in self._workers:
            if not self._queue or self._queue[0][0] > now:
                return
            if worker.order is None:
                _, _, order = heapq.heappop(self._queue)
                if "upload" in order:
                    data = REFERENCE.read_bytes()
                    retry(partial(self._runtime.inbox.put, order["upload"], data))
                    self._announce(order["upload"], 0.0)
                    continue
                worker.order = order
                worker.connection.sendall(json.dumps(order).encode() + b"\n")

    def _receive_answers(self) -> None:
        ready, _, _ = select.select([worker.connection for worker in self._workers], [], [], 0.02)
        for worker in [w for w in self._workers if w.connection in ready]:
            try:
                answer = worker.connection.recv(1 << 16)
            except ConnectionError:
                answer = b""
            order, worker.order = worker.order, None
            if not answer:
                self._remove_dead(worker)
            if order:
                self._handle_answer(order, json.loads(answer) if answer else {"error": "killed"})

    def _handle_answer(self, order: dict[str, Any], answer: dict[str, Any]) -> None:
        if "sweep" in order:
            self.swept.update(answer.get("counts", {}))
            is_done = not self._queue and answer.get("open") == 0
            self.counts["settled"] = self.counts["settled"] + 1 if is_done else 0
            self._later(0.5 if not self._queue else 5.0, {"sweep": LEASE_SECONDS})
        elif "error" in answer:
            self.counts[f"answer_{answer['error']}"] += 1
            if order["tries"] < MAX_DELIVERIES:
                next_delivery = order | {"tries": order["tries"] + 1}
                self._later(
                    self._rng.uniform(0, LEASE_SECONDS) * 2 ** order["tries"] / 2, next_delivery
                )

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in self._workers:
                other.connection.close()
            try:
                self._serve(theirs)
            finally:
                os._exit(1)
        theirs.close()
        self._workers.append(Worker(pid, ours))

    def _serve(self, connection: socket.socket) -> None:
        name = f"{os.getpid():x}-{time.monotonic_ns() & 0xFFFF:x}"
        runtime, sweeper = self._open(name), self._open(name, PATIENT)
        for text in connection.makefile():
            order = json.loads(text)
            try:
                if "sweep" in order:
                    answer = sweep.summarise(sweep.run_sweep(sweeper, grace=order["sweep"]))
                else:
                    oss.handle(notification(order["deliver"]), runtime)
                    answer = {"done": True}
            except JobError as exc:
                answer = {"error": exc.code}
            connection.sendall(json.dumps(answer).encode())

    def _kill_one(self) -> None:
        """Kill a busy worker, as long as notifications are queued. After the last one none is
        killed, because no sweep of a large bucket would ever finish."""
        busy = [worker for worker in self._workers if worker.order]
        if any("deliver" in order for _, _, order in self._queue) and busy:
            worker = self._rng.choice(busy)
            os.kill(worker.pid, signal.SIGKILL)
            self.counts["killed"] += 1
            at_shard = (worker.order or {}).get("deliver", "").startswith(SHARDS)
            self.counts["killed_at_a_shard"] += at_shard

    def _remove_dead(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        _, status = os.waitpid(worker.pid, 0)
        self.counts["died_by_itself"] += not os.WIFSIGNALED(status)

    def _stop(self) -> None:
        for worker in self._workers:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
            worker.connection.close()
