"""A batch of many items: how long a dry run takes, and what memory a worker of one shard needs.

    OMP_NUM_THREADS=1 python -m bench.batch --items 1000 10000 100000

Each figure comes from a process of its own over three folders. The dry run loads no engine; the
shard is made with a small real voice that buzzes (tests/support/runtime.py), and everything else is
the product's: consent, watermark, label, seal, signature. One item in a hundred has no text. Prints
one JSON document.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.job.runtime import Runtime
from core.job.waiting import Shared
from handlers.oss import carry_out, carry_out_shard
from tests.support.runtime import drop, runtime

SHARD = 200


def lines(count: int) -> bytes:
    texts = ("" if n % 100 == 99 else f"Row {n} is here." for n in range(count))
    return b"\n".join(
        json.dumps({"id": f"row-{n:06}", "text": text}).encode() for n, text in enumerate(texts)
    )


def manifest(made: Runtime, count: int, **fields: Any) -> str:
    key = drop(made, **fields)
    header = json.loads(made.inbox.get(key, limit=10**6).data)
    del header["items"]
    made.inbox.put(f"{key}l", json.dumps(header).encode() + b"\n" + lines(count))
    return f"{key}l"


def validate(folder: Path, count: int) -> dict[str, Any]:
    made = runtime(folder)
    key = manifest(made, count, mode="validate")
    start, cpu = time.perf_counter(), time.process_time()
    done = carry_out(key, made)
    spent = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    errors = made.results.get(done.attachments["errors"].key, limit=10**9).data.splitlines()
    numbers = [json.loads(line)["line"] for line in errors]
    if numbers != [n + 2 for n in range(count) if n % 100 == 99]:
        raise ValueError("errors.jsonl does not name the bad lines")
    if done.estimate is None:
        raise ValueError("the result of the dry run holds no estimate")
    return {**spent, "failed": done.totals.failed, "estimate_s": done.estimate.audio_s}


def plan(folder: Path, count: int) -> dict[str, Any]:
    made = runtime(folder, shard_items=SHARD)
    key = manifest(made, count)
    start = time.perf_counter()
    with suppress(Shared):
        carry_out(key, made)
    return {"wall_s": time.perf_counter() - start}


def work(folder: Path, count: int) -> dict[str, Any]:
    made = runtime(folder, shard_items=SHARD)
    (job,) = (folder / "control" / "work").iterdir()
    start = time.perf_counter()
    carry_out_shard(f"work/{job.name}/00001.jsonl", made)
    return {"wall_s": time.perf_counter() - start, "items": SHARD}


STEPS = {"validate": validate, "plan": plan, "work": work}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.batch", description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, folder, count = options.step
        found = STEPS[name](Path(folder), int(count))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**{k: round(v, 2) for k, v in found.items()}, "peak_mb": round(peak)}))
        return 0
    table = {count: measure(count) for count in options.items}
    print(json.dumps(table, indent=2))
    return 0


def measure(count: int) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in STEPS:
            place = Path(folder) / ("dry" if name == "validate" else "wet")
            command = [sys.executable, "-m", "bench.batch", "--step", name, str(place), str(count)]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name] = json.loads(ran.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
