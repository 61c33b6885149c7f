"""A batch of many items: how long a dry run takes, and what memory a worker of one shard needs.

    OMP_NUM_THREADS=1 python -m bench.batch --items 1000 10000 100000

Each figure comes from a process of its own over three folders. The dry run loads no engine; the
shard is made with a voice that plays back the example recording (bench/playback.py), and everything
else is the product's: consent, watermark, label, seal, signature. One item in a hundred has no
text. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import playback
from core.job.runtime import Finished, Runtime
from core.storage.object_keys import shard_key
from handlers.jobs import carry_out, carry_out_shard

SHARD_ITEMS = 200
KEY = "jobs/batch.manifest.jsonl"


def put_manifest(runtime: Runtime, count: int, **fields: Any) -> None:
    header = playback.manifest(**fields)
    del header["items"]
    texts = ("" if n % 100 == 99 else f"Row {n} is here." for n in range(count))
    items = ({"id": f"row-{n:06}", "text": text} for n, text in enumerate(texts))
    lines = (json.dumps(line).encode() for line in (header, *items))
    runtime.inbox.put(KEY, b"\n".join(lines))


def validate(folder: Path, count: int) -> dict[str, Any]:
    runtime = playback.runtime(folder)
    put_manifest(runtime, count, mode="validate")
    start, cpu = time.perf_counter(), time.process_time()
    outcome = carry_out(KEY, runtime)
    if not isinstance(outcome, Finished):
        raise TypeError(f"the dry run ended as {outcome}")
    done = outcome.result
    spent = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    errors = runtime.results.get(done.attachments["errors"].key, limit=10**9).data.splitlines()
    numbers = [json.loads(line)["line"] for line in errors]
    if numbers != [n + 2 for n in range(count) if n % 100 == 99]:
        raise ValueError("errors.jsonl does not name the bad lines")
    if done.estimate is None:
        raise ValueError("the result of the dry run holds no estimate")
    return {**spent, "failed": done.totals.failed, "estimate_s": done.estimate.audio_s}


def plan(folder: Path, count: int) -> dict[str, Any]:
    runtime = playback.runtime(folder, VOICEDROP_SHARD_ITEMS=str(SHARD_ITEMS))
    put_manifest(runtime, count)
    start = time.perf_counter()
    carry_out(KEY, runtime)
    return {"wall_s": time.perf_counter() - start}


def work(folder: Path, count: int) -> dict[str, Any]:
    runtime = playback.runtime(folder, VOICEDROP_SHARD_ITEMS=str(SHARD_ITEMS))
    (job,) = (folder / "control" / "work").iterdir()
    start = time.perf_counter()
    carry_out_shard(shard_key(job.name, 1), runtime)
    return {"wall_s": time.perf_counter() - start, "items": SHARD_ITEMS}


STEPS = {"validate": validate, "plan": plan, "work": work}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.batch", description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, folder, count = options.step
        figures = STEPS[name](Path(folder), int(count))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**{k: round(v, 2) for k, v in figures.items()}, "peak_mb": round(peak)}))
        return 0
    table = {count: measure(count) for count in options.items}
    print(json.dumps(table, indent=2))
    return 0


def measure(count: int) -> dict[str, Any]:
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in STEPS:
            root = Path(folder) / ("dry" if name == "validate" else "wet")
            command = [sys.executable, "-m", "bench.batch", "--step", name, str(root), str(count)]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            figures[name] = json.loads(ran.stdout)
    return figures


if __name__ == "__main__":
    sys.exit(main())
