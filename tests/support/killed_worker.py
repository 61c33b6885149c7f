"""Kill a worker at a random moment, let another one finish, and look at what was visible.

    python -m tests.support.killed_worker FOLDER ROUNDS SEED

Each round forks a worker on a fresh job and kills it with SIGKILL; then a second worker runs.
Prints one JSON line with how many workers were killed in the middle. Exit 1 at the first job that
does not end whole.
"""

from __future__ import annotations

import hashlib
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

from core.crypto import sealing
from core.documents import signed
from core.errors import Unavailable
from core.job import commit
from core.job.runtime import Runtime
from core.result.document import parse_result
from core.storage.object_keys import result_key
from handlers.jobs import carry_out
from tests.support.present import present
from tests.support.runtime import BuzzVoice, finish_job, local_runtime, put_job

LONGEST_SECONDS = 0.8
"""Seconds that the job takes at most, about."""


def main(root: Path, rounds: int, seed: int) -> int:
    draw = random.Random(seed)
    warm_up(root / "warm-up")
    killed = 0
    for number in range(rounds):
        folder = root / str(number)
        runtime = local_runtime(folder, voice=BuzzVoice(seconds_each=0.04), lease_seconds=0.4)
        items = [
            {"id": f"i{n}", "text": "One sentence of some length. Then another one. A third."}
            for n in range(2)
        ]
        key = put_job(runtime, items=items)
        victim = fork(partial(carry_out, key, runtime))
        time.sleep(draw.uniform(0, LONGEST_SECONDS))
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        killed += os.WIFSIGNALED(status)
        check_outputs(runtime, key, finished=False)
        heir = fork(partial(retry_until_done, key, replace(runtime, worker="heir")))
        if os.waitpid(heir, 0)[1] != 0:
            return 1
        check_outputs(runtime, key, finished=True)
    sys.stdout.write(json.dumps({"killed": killed, "rounds": rounds}) + "\n")
    return 0


def warm_up(folder: Path) -> None:
    """A whole job in this process: what it imports and works out, no fork has to do again."""
    runtime = local_runtime(folder, voice=BuzzVoice(seconds_each=0))
    finish_job(put_job(runtime, items=[{"id": "warm", "text": "Up."}]), runtime)


def fork(work: Callable[[], object]) -> int:
    """A worker process; single-threaded as we are, forking is safe."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as exc:
            sys.stderr.write(f"{exc!r}\n")
            os._exit(1)
        os._exit(0)
    return pid


def retry_until_done(key: str, runtime: Runtime) -> None:
    """What the platform does with a notification that met a held job."""
    for _ in range(100):
        try:
            finish_job(key, runtime)
        except Unavailable:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(key)


def check_outputs(runtime: Runtime, key: str, *, finished: bool) -> None:
    """Whatever is there is whole; if the job is finished, everything is there."""
    for info in runtime.results.list("out/"):
        stored = runtime.results.get(info.key, limit=10**8)
        if info.key.endswith(".sealed"):
            envelope = sealing.envelope_from_metadata(stored.info.metadata)
            sealing.open_sealed(stored.data, envelope, runtime.keys.wrapping)
    order = commit.read_manifest(key, runtime)
    if runtime.results.head(result_key(order.job_id)) is None:
        assert not finished, "no result"
        return
    document = runtime.results.get(result_key(order.job_id), limit=10**7).data
    signed.verify(document, runtime.keys.verifying)
    done = parse_result(document)
    assert done.status == "succeeded", done
    for item in done.items:
        output = present(item.output)
        sealed = runtime.results.get(output.key, limit=10**8).data
        assert hashlib.sha256(sealed).hexdigest() == output.sealed_sha256
    if finished:
        assert len(list(runtime.results.list("events/"))) == 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
