"""Compare one `voicedrop watch` with two: `python -m bench.watchers [--items N] [--rounds N]`.

The same job is made by one and by two processes, in turn, as one piece and cut into shards of
a tenth of its items. Prints the median wall time of each and how many times faster two are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
INBOX = ROOT / "examples" / "inbox"
TEXT = "This is sentence number {} of a job that one or two processes speak."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run(root, "init")
        shutil.copytree(INBOX, root / "bucket/inbox", dirs_exist_ok=True)
        watch(root, 1, 200)  # learns the voice and speaks the example
        seconds: dict[tuple[str, int], list[float]] = {}
        for number in range(arguments.rounds):
            for name, size in (("one piece", 200), ("tenths", max(1, arguments.items // 10))):
                for watchers in (1, 2):
                    put_job(root, f"{number}-{size}-{watchers}", arguments.items)
                    spent = watch(root, watchers, size)
                    seconds.setdefault((name, watchers), []).append(spent)
    for name in ("one piece", "tenths"):
        one, two = (statistics.median(seconds[name, watchers]) for watchers in (1, 2))
        print(f"{name}: one watch {one:.1f} s, two {two:.1f} s, {one / two:.2f} times as fast")


def put_job(root: Path, name: str, items: int) -> None:
    document = json.loads((INBOX / "jobs/hello.manifest.json").read_text())
    document["items"] = [{"id": f"i{n}", "text": TEXT.format(n)} for n in range(items)]
    document["id"] = name  # other bytes, so that it is another job
    (root / f"bucket/inbox/jobs/{name}.manifest.json").write_text(json.dumps(document))


def watch(root: Path, watchers: int, shard_items: int) -> float:
    """Run `watch --once` in so many processes at once; return the seconds until all have ended."""
    start = time.perf_counter()
    environ = {"VOICEDROP_SHARD_ITEMS": str(shard_items)}
    running = [start_command(root, "watch", "--once", **environ) for _ in range(watchers)]
    for process in running:
        if process.wait():
            raise SystemExit("a watch failed")
    return time.perf_counter() - start


def run(root: Path, *words: str) -> None:
    if start_command(root, *words).wait():
        raise SystemExit(f"{words} failed")


def start_command(root: Path, *words: str, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "handlers.cli", *words],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
