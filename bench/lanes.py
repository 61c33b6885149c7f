"""Compare items made one after the other with items made side by side.

    OMP_NUM_THREADS=1 python -m bench.lanes [--items 100] [--jobs 40] [--lanes 2] [--rounds 3]

A job of many items, and many jobs of one item in one `voicedrop watch`, with one lane and with
several in turn: each in a process of its own, by the embedded engine, in a voice that is known.
`--playback` measures everything but the engine. Prints the medians of wall time, processor time and
peak memory, and ends with an error if an output differs in a single byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import playback
from core import inference
from core.crypto import sealing
from core.job.runtime import Runtime
from handlers import wiring
from handlers.cli.screen import Progress
from handlers.cli.watch import watch_until_stopped

TEXT = "This is sentence number {} of a batch."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--lanes", type=int, default=inference.usable_cpus())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--playback", action="store_true")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        folder, lanes = Path(options.step[0]), int(options.step[1])
        # A process begins with the peak memory of the one that starts it, which must be small.
        done = measure(open_runtime(folder, options.playback, lanes)) if lanes else {}
        if not lanes:
            learn(folder, options.playback)
        print(json.dumps(done))
        return
    with tempfile.TemporaryDirectory() as name:
        template = Path(name) / "template"
        run_step(template, 0, options.playback)
        for jobs, items in ((1, options.items), (options.jobs, 1)):
            if jobs * items:
                compare(Path(name), template, jobs, items, options)


def compare(root: Path, template: Path, jobs: int, items: int, options: Any) -> None:
    taken: dict[int, list[dict[str, Any]]] = {1: [], options.lanes: []}
    for number in range(options.rounds):
        for lanes in (1, options.lanes)[:: 1 if number % 2 == 0 else -1]:
            folder = root / f"{jobs}-{number}-{lanes}"
            shutil.copytree(template, folder)
            put_jobs(folder, jobs, items)
            taken[lanes].append(run_step(folder, lanes, options.playback))
            shutil.rmtree(folder)
    if len({one["digest"] for runs in taken.values() for one in runs}) != 1:
        raise SystemExit("the outputs differ")
    print(f"{jobs} jobs of {items} items")
    medians = {
        lanes: {
            f: statistics.median(one[f] for one in runs) for f in ("wall_s", "cpu_s", "peak_mb")
        }
        for lanes, runs in taken.items()
    }
    for lanes, figures in medians.items():
        print(f"  {lanes} lanes: " + ", ".join(f"{k} {v:.2f}" for k, v in figures.items()))
    one, several = medians[1], medians[options.lanes]
    print(
        f"  {one['wall_s'] / several['wall_s']:.2f} times as fast, "
        f"{several['cpu_s'] / one['cpu_s']:.3f} of the processor time, "
        f"{several['peak_mb'] / one['peak_mb']:.2f} of the memory"
    )


def run_step(folder: Path, lanes: int, is_playback: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.lanes", "--step", str(folder), str(lanes)]
    command += ["--playback"] if is_playback else []
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def open_runtime(folder: Path, is_playback: bool, lanes: int) -> Runtime:
    if is_playback:
        return replace(playback.runtime(folder), lanes=lanes)
    settings = playback.settings(folder)
    runtime = wiring.create_runtime(settings, wiring.CurrentCredentials({}), lambda step: None)
    return replace(runtime, lanes=lanes)


def learn(template: Path, is_playback: bool) -> None:
    """Create the buckets, in which the voice is known."""
    playback.runtime(template)
    runtime = open_runtime(template, is_playback, 1)
    for info in list(runtime.inbox.list("jobs/")):
        runtime.inbox.delete(info.key)
    put_jobs(template, 1, 1, "learn")
    watch(runtime)
    shutil.rmtree(template / "results")
    (template / "results").mkdir()
    shutil.rmtree(template / "inbox" / "jobs")


def put_jobs(folder: Path, jobs: int, items: int, name: str = "job") -> None:
    (folder / "inbox" / "jobs").mkdir(parents=True, exist_ok=True)
    for number in range(jobs):
        texts = [TEXT.format(number * items + n) for n in range(items)]
        listed = [{"id": f"i{n}", "text": text} for n, text in enumerate(texts)]
        document = playback.manifest(items=listed, id=f"{name}-{number}")
        path = folder / "inbox" / "jobs" / f"{name}-{number}.manifest.json"
        path.write_text(json.dumps(document), encoding="utf-8")


def watch(runtime: Runtime) -> None:
    time.sleep(1.0)  # until the manifests count as complete
    output = watch_until_stopped(runtime, once=True, poll=1.0, progress=Progress(quiet=True))
    if output.exit_code:
        raise SystemExit(f"a job failed: {output.data}")


def measure(runtime: Runtime) -> dict[str, Any]:
    time.sleep(1.0)
    runtime.load_voice()
    cpu, start = time.process_time(), time.perf_counter()
    output = watch_until_stopped(runtime, once=True, poll=1.0, progress=Progress(quiet=True))
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if output.exit_code:
        raise SystemExit(f"a job failed: {output.data}")
    digest = digest_outputs(runtime)
    return {"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak, "digest": digest}


def digest_outputs(runtime: Runtime) -> str:
    """Return the SHA-256 of the opened outputs, in the order of their keys."""
    digest = hashlib.sha256()
    for info in runtime.results.list("out/"):
        if info.key.endswith(".sealed"):
            stored = runtime.results.get(info.key, limit=10**9)
            envelope = sealing.envelope_from_metadata(stored.info.metadata)
            digest.update(info.key.encode())
            digest.update(sealing.open_sealed(stored.data, envelope, runtime.keys.wrapping))
    return digest.hexdigest()


if __name__ == "__main__":
    main()
