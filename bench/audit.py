"""Audit a bucket of a thousand results, clean and with each of seven faults, and time it.

    python -m bench.audit [--results 1000] [--jobs 2] [--keep FOLDER]

The product itself makes the results, of about two seconds of speech each (bench/playback.py), which
takes ten minutes of processor time; every tenth is partial, every twentieth rejected. Needs no
network. Exit code 1 if an audit misses the fault, or finds one in the clean bucket.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import playback
from core.job.runtime import Runtime
from handlers import jobs
from handlers.cli.audit import AuditRequest, audit_results
from handlers.cli.screen import Progress
from handlers.jobs import carry_out

Spoil = Callable[[Path], None]


def fill(runtime: Runtime, numbers: Iterable[int]) -> None:
    """Carry out one job a number, and log the results."""
    voices = playback.manifest()["voices"]
    unconsented = {"reader": {**voices["reader"], "consent": "consent/missing.json"}}
    for number in numbers:
        items = [{"id": "hello", "text": f"These are two seconds: {number}."}]
        if number % 10 == 9:
            items.append({"id": "empty", "text": ""})
        document = playback.manifest(
            id=f"job-{number}", items=items, voices=unconsented if number % 20 == 19 else voices
        )
        key = f"jobs/{number}.manifest.json"
        runtime.inbox.put(key, json.dumps(document).encode())
        carry_out(key, runtime)
    jobs.integrate_log(runtime)


def sealed_objects(root: Path) -> list[Path]:
    return sorted(root.glob("results/out/*/hello.*.sealed"))


def flip_a_bit(root: Path) -> None:
    path = sealed_objects(root)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap_objects(root: Path) -> None:
    one, other, *_ = sealed_objects(root)
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def remove_a_result(root: Path) -> None:
    sealed_objects(root)[0].with_name("result.json").unlink()


def add_a_foreign_object(root: Path) -> None:
    sealed_objects(root)[0].with_name("extra.wav.sealed").write_bytes(b"hello")


def change_a_field(root: Path) -> None:
    path = sealed_objects(root)[0].with_name("result.json")
    path.write_bytes(path.read_bytes().replace(b'"required"', b'"optional"'))


def remove_a_log_entry(root: Path) -> None:
    """Remove it from the newest bundle of the log, on which the next sequencer builds."""
    files = [path for path in root.glob("results/log/tile/entries/**/*") if path.is_file()]
    newest = max(files, key=lambda path: path.stat().st_mtime)
    data = newest.read_bytes()
    newest.write_bytes(data[2 + int.from_bytes(data[:2], "big") :])


def mark_with_another_key(root: Path) -> None:
    """Make a signed and logged result whose output lacks the mark that the result states."""
    runtime = playback.runtime(root)
    foreign = dict.fromkeys(runtime.keys.watermark, bytes(32))
    fill(replace(runtime, keys=replace(runtime.keys, watermark=foreign)), [10**6])


SPOILS: dict[str, tuple[Spoil, set[str]]] = {
    "one flipped bit in a sealed object": (flip_a_bit, {"OBJECT_CHANGED"}),
    "a swapped object": (swap_objects, {"OBJECT_CHANGED"}),
    "a removed result": (remove_a_result, {"RESULT_MISSING"}),
    "an added foreign object": (add_a_foreign_object, {"OBJECT_UNCLAIMED"}),
    "a changed result field": (change_a_field, {"SIGNATURE_INVALID"}),
    "a removed log leaf": (remove_a_log_entry, {"LOG_INVALID"}),
    "an unmarked output": (mark_with_another_key, {"WATERMARK_VERIFY_FAILED"}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where to leave the reports")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "clean"
        began = time.process_time()
        root.mkdir()
        fill(playback.runtime(root), range(options.results))
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(
            f"made {options.results} results, {size >> 20} MiB, {time.process_time() - began:.0f} s"
        )
        good = report("clean", root, options, set())
        for number, (name, (spoil, codes)) in enumerate(SPOILS.items()):
            copy = Path(folder) / str(number)
            shutil.copytree(root, copy)
            spoil(copy)
            good &= report(name, copy, options, codes)
            shutil.rmtree(copy)
    return 0 if good else 1


def report(name: str, root: Path, options: argparse.Namespace, codes: set[str]) -> bool:
    """Audit a bucket and say whether the report has findings of the expected codes only."""
    out = root.parent / f"audit {name}".replace(" ", "-")
    wall, processor = time.perf_counter(), time.process_time()
    request = AuditRequest(out=out, workers=options.jobs)
    outcome = audit_results(playback.settings(root), request, Progress(quiet=True))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    data: dict[str, Any] = json.loads((out / "report.json").read_text())
    if options.keep:
        shutil.copytree(out, options.keep / out.name, dirs_exist_ok=True)
    found = {finding["code"] for finding in data["findings"]}
    good = bool(codes) == bool(found) and codes <= found and outcome.exit_code == bool(codes)
    counted = f"{len(data['findings'])} findings: {', '.join(sorted(found)) or 'none'}"
    print(f"{'ok ' if good else 'BAD'} {name}: {counted}; {wall:.1f} s, CPU {processor:.1f} s")
    return good


if __name__ == "__main__":
    sys.exit(main())
