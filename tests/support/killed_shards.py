"""Kill the workers of a job's shards, again and again, let others finish, and look at what is left.

    python -m tests.support.killed_shards FOLDER ROUNDS SEED

Each round cuts a fresh job; for every shard a process is forked and killed with SIGKILL at its own
moment, in several waves. The moments lie within half the time that shards take here when nobody is
killed, so that on a machine of any speed something is left for the next wave, which waits until no
lease holds it off. Then one worker a shard runs to its end, all at once, and after them a sweep as
the timer makes it. Prints one JSON line with how many workers were killed in the middle. Exit 1 at
the first job that does not end whole.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from core.errors import Unavailable
from core.job import commit
from core.job.runtime import Runtime
from core.result import document
from core.storage.object_keys import SHARD_SUFFIX, parse_shard_key
from handlers import sweep
from handlers.jobs import carry_out_shard
from tests.support.killed_worker import check_outputs, fork, warm_up
from tests.support.present import present
from tests.support.runtime import BuzzVoice, cut_job, local_runtime, put_job

ITEMS, WAVES = 6, 3
LEASE_SECONDS = 0.4


def main(root: Path, rounds: int, seed: int) -> int:
    draw = random.Random(seed)
    warm_up(root / "warm-up")
    unhurt, _ = put_split_job(root / "unhurt")
    start = time.monotonic()
    if finish_shards(unhurt):
        return 1
    latest = (time.monotonic() - start) / 2
    killed = 0
    for number in range(rounds):
        runtime, key = put_split_job(root / str(number))
        for _ in range(WAVES):
            killed += kill_wave(runtime, draw, latest)
            check_outputs(runtime, key, finished=False)
            time.sleep(LEASE_SECONDS)
        if finish_shards(runtime) or any_failed([fork(partial(sweep.run, runtime, grace=0))]):
            return 1
        check_finished(runtime, key)
    sys.stdout.write(json.dumps({"killed": killed, "rounds": rounds}) + "\n")
    return 0


def put_split_job(folder: Path) -> tuple[Runtime, str]:
    """A runtime, and the key of a job that waits there in shards."""
    runtime = local_runtime(
        folder,
        voice=BuzzVoice(seconds_each=0.05),
        lease_seconds=LEASE_SECONDS,
        shard_items=2,
        max_attempts=100,
    )
    items = [{"id": f"i{n}", "text": "One sentence. Then another one."} for n in range(ITEMS)]
    key = put_job(runtime, items=items)
    assert not any_failed([fork(lambda: split(key, runtime))])
    return runtime, key


def split(key: str, runtime: Runtime) -> None:
    cut_job(key, runtime)


def works(runtime: Runtime) -> list[str]:
    return [info.key for info in runtime.control.list("work/") if info.key.endswith(SHARD_SUFFIX)]


def kill_wave(runtime: Runtime, draw: random.Random, latest: float) -> int:
    """A worker for every shard, each killed at its own moment, by `latest` seconds; how many were
    still at work."""
    start = time.monotonic()
    victims = {
        fork(
            partial(
                carry_out_shard,
                work,
                replace(runtime, worker=f"w{parse_shard_key(work).number}"),
            )
        ): moment
        for work, moment in ((work, draw.uniform(0, latest)) for work in works(runtime))
    }
    killed = 0
    for victim, moment in sorted(victims.items(), key=lambda one: one[1]):
        time.sleep(max(0.0, start + moment - time.monotonic()))
        os.kill(victim, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(victim, 0)[1])
    return killed


def finish_shards(runtime: Runtime) -> bool:
    """One worker a shard, all at once, to the end; whether any of them failed."""
    return any_failed([fork(partial(retry_until_done, work, runtime)) for work in works(runtime)])


def any_failed(workers: list[int]) -> bool:
    """Whether any of them failed."""
    return any([os.waitpid(worker, 0)[1] for worker in workers])


def retry_until_done(work: str, runtime: Runtime) -> None:
    """What the platform does with a notification that met a held shard."""
    for _ in range(100):
        try:
            carry_out_shard(work, replace(runtime, worker=f"h{parse_shard_key(work).number}"))
        except Unavailable:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(work)


def check_finished(runtime: Runtime, key: str) -> None:
    """One result with every item, one event, and nothing left to be worked on."""
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
