"""Kill a worker at a random time, let another one finish the job, and check the result.

    python -m tests.support.killed_worker FOLDER ROUNDS SEED

Each round forks a worker on a new job and kills it with SIGKILL; then a second worker runs. In most
rounds the voice is known, because learning it takes seconds. Prints one JSON line with the number
of workers that were killed while working. Exit code 1 at the first job that is incomplete.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
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

LONGEST_SECONDS = 0.5
"""About the longest time that the job takes with a known voice."""
LEARNING_SECONDS = 4.0
"""About the longest time that it takes with a new voice."""
NEW_VOICE_EACH = 15
"""In one of so many rounds the voice is new."""


def main(root: Path, rounds: int, seed: int) -> int:
    rng = random.Random(seed)
    warm_up(root / "warm-up")
    killed = 0
    for number in range(rounds):
        folder = root / str(number)
        is_known = number % NEW_VOICE_EACH > 0
        if is_known:
            keep_voice(root / "warm-up", folder)
        runtime = local_runtime(
            folder, voice=BuzzVoice(seconds_each=0.04), lease_seconds=0.4, lanes=2
        )
        items = [
            {"id": f"i{n}", "text": "One sentence of some length. Then another one. A third."}
            for n in range(2)
        ]
        key = put_job(runtime, items=items)
        first = fork(partial(carry_out, key, runtime))
        time.sleep(rng.uniform(0, LONGEST_SECONDS if is_known else LEARNING_SECONDS))
        os.kill(first, signal.SIGKILL)
        _, status = os.waitpid(first, 0)
        killed += os.WIFSIGNALED(status)
        check_outputs(runtime, key, finished=False)
        successor = replace(runtime, worker="second")
        second = fork(partial(retry_until_done, partial(finish_job, key, successor)))
        if os.waitpid(second, 0)[1] != 0:
            return 1
        check_outputs(runtime, key, finished=True)
    sys.stdout.write(json.dumps({"killed": killed, "rounds": rounds}) + "\n")
    return 0


def warm_up(folder: Path) -> None:
    """Carry out a job in this process, so that forks inherit imports and caches."""
    runtime = local_runtime(folder, voice=BuzzVoice(seconds_each=0))
    finish_job(put_job(runtime, items=[{"id": "warm", "text": "Up."}]), runtime)


def keep_voice(warm: Path, folder: Path) -> None:
    """Copy the keys and the control bucket of `warm_up`, in which the voice is known."""
    for name in ("keys", "control"):
        shutil.copytree(warm / name, folder / name)


def fork(work: Callable[[], object]) -> int:
    """Fork a worker process, which is safe because this process has one thread."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as exc:
            sys.stderr.write(f"{exc!r}\n")
            os._exit(1)
        os._exit(0)
    return pid


def retry_until_done(work: Callable[[], object]) -> None:
    """Repeat the work while it is leased by another worker, as the platform does."""
    for _ in range(100):
        try:
            work()
        except Unavailable:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError


def check_outputs(runtime: Runtime, key: str, *, finished: bool) -> None:
    """Check that every stored object is complete and, if `finished`, that all of them exist."""
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
