"""Kill workers of shards repeatedly, let other workers finish the job, and check the result.

    python -m tests.support.killed_shards FOLDER ROUNDS SEED

Each round splits a new job. In several waves a process is forked for every shard and killed with
SIGKILL at a random time: within half the time that shards take here without kills, so that work is
left for the next wave on a machine of any speed. A wave starts when all leases have expired. Then
one worker per shard runs to its end, all at the same time, and after them a sweep. Prints one JSON
line with the number of workers that were killed while working. Exit code 1 at the first job that is
incomplete.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from core.job import commit
from core.job.runtime import Runtime
from core.result import document
from core.storage.object_keys import parse_shard_key
from handlers import sweep
from handlers.jobs import carry_out_shard
from tests.support.killed_worker import (
    check_outputs,
    fork,
    keep_voice,
    retry_until_done,
    warm_up,
)
from tests.support.present import present
from tests.support.runtime import BuzzVoice, local_runtime, put_job, split_job
from tests.support.shards import shard_keys

ITEMS, WAVES = 6, 3
LEASE_SECONDS = 0.4


def main(root: Path, rounds: int, seed: int) -> int:
    rng = random.Random(seed)
    warm_up(root / "warm-up")
    undisturbed, _ = put_split_job(root, "undisturbed")
    start = time.monotonic()
    if finish_shards(undisturbed):
        return 1
    latest = (time.monotonic() - start) / 2
    killed = 0
    for number in range(rounds):
        runtime, key = put_split_job(root, str(number))
        for _ in range(WAVES):
            killed += kill_wave(runtime, rng, latest)
            check_outputs(runtime, key, finished=False)
            time.sleep(LEASE_SECONDS)
        if finish_shards(runtime) or any_failed([fork(partial(sweep.run_sweep, runtime, grace=0))]):
            return 1
        check_finished(runtime, key)
    sys.stdout.write(json.dumps({"killed": killed, "rounds": rounds}) + "\n")
    return 0


def put_split_job(root: Path, name: str) -> tuple[Runtime, str]:
    """Put and split a job with a known voice; return its runtime and the key of its manifest."""
    folder = root / name
    keep_voice(root / "warm-up", folder)
    runtime = local_runtime(
        folder,
        voice=BuzzVoice(seconds_each=0.05),
        lease_seconds=LEASE_SECONDS,
        shard_items=2,
        max_attempts=100,
    )
    items = [{"id": f"i{n}", "text": "One sentence. Then another one."} for n in range(ITEMS)]
    key = put_job(runtime, items=items)
    assert not any_failed([fork(partial(split_job, key, runtime))])
    return runtime, key


def kill_wave(runtime: Runtime, rng: random.Random, latest: float) -> int:
    """Fork a worker for every shard and kill each within `latest` seconds; return the number of
    those that were still working."""
    start = time.monotonic()
    workers = [(rng.uniform(0, latest), fork(shard)) for shard in shards(runtime)]
    killed = 0
    for kill_at, worker in sorted(workers):
        time.sleep(max(0.0, start + kill_at - time.monotonic()))
        os.kill(worker, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(worker, 0)[1])
    return killed


def shards(runtime: Runtime) -> list[Callable[[], object]]:
    """Return for every unfinished shard the call that carries it out, with a worker of its own."""
    return [
        partial(carry_out_shard, key, replace(runtime, worker=f"w{parse_shard_key(key).number}"))
        for key in shard_keys(runtime)
    ]


def finish_shards(runtime: Runtime) -> bool:
    """Run one worker per shard to its end, all at the same time; True if any of them failed."""
    return any_failed([fork(partial(retry_until_done, shard)) for shard in shards(runtime)])


def any_failed(workers: list[int]) -> bool:
    """Wait for the workers; True if any of them failed."""
    return any([os.waitpid(worker, 0)[1] for worker in workers])


def check_finished(runtime: Runtime, key: str) -> None:
    """Check that there is one result with every item, one event, and no shard left."""
    check_outputs(runtime, key, finished=True)
    done = commit.read_result(commit.read_manifest(key, runtime).job_id, runtime)
    assert done is not None
    items = list(document.read_items(done, commit.part_reader(runtime)))
    assert [item.id for item in items] == [f"i{n}" for n in range(ITEMS)]
    stored = {info.key for info in runtime.results.list("out/") if info.key.endswith(".sealed")}
    assert stored == {present(item.output).key for item in items}
    assert list(runtime.control.list("work/")) == []


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
