"""Audit a bucket of a thousand results, clean and with each of seven wrongs, and time it.

    python -m bench.audit [--results 1000] [--jobs 2] [--keep FOLDER]

The results are made by the parts of the pipeline from synthetic speech of about two seconds each
(tests/support/audited_bucket.py); everything the audit looks at is genuine. Needs no network.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.settings import Settings
from handlers.cli import audit as auditing
from handlers.cli.screen import Progress
from tests.audit import test_findings as wrongs
from tests.support.audited_bucket import fill

Spoil = Callable[[Path], None]


def remove_a_leaf(root: Path) -> None:
    """From the newest bundle of the log, which the next sequencer would build on."""
    files = [path for path in root.glob("results/log/tile/entries/**/*") if path.is_file()]
    newest = max(files, key=lambda path: path.stat().st_mtime)
    data = newest.read_bytes()
    newest.write_bytes(data[2 + int.from_bytes(data[:2], "big") :])


SPOILS: dict[str, tuple[Spoil, set[str]]] = {
    "one flipped bit in a sealed object": (wrongs.flip_a_bit, {"OBJECT_CHANGED"}),
    "a swapped object": (wrongs.swap_objects, {"OBJECT_CHANGED"}),
    "a removed result": (wrongs.remove_a_result, {"RESULT_MISSING"}),
    "an added foreign object": (wrongs.add_a_foreign_object, {"OBJECT_UNCLAIMED"}),
    "a changed result field": (wrongs.change_a_field, {"SIGNATURE_INVALID"}),
    "a removed log leaf": (remove_a_leaf, {"LOG_INVALID"}),
    "an unmarked output": (wrongs.release_without_a_mark, {"WATERMARK_VERIFY_FAILED"}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where to leave the reports")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "clean"
        began = time.process_time()
        fill(root, range(wanted.results))
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(
            f"made {wanted.results} results, {size >> 20} MiB, {time.process_time() - began:.0f} s"
        )
        good = report("clean", root, wanted, set())
        for number, (name, (spoil, codes)) in enumerate(SPOILS.items()):
            copy = Path(folder) / str(number)
            shutil.copytree(root, copy)
            spoil(copy)
            good &= report(name, copy, wanted, codes)
            shutil.rmtree(copy)
    return 0 if good else 1


def report(name: str, root: Path, wanted: argparse.Namespace, codes: set[str]) -> bool:
    """Whether what was found is what there is to find."""
    out = root.parent / f"audit {name}".replace(" ", "-")
    settings = Settings.from_environ(
        {"VOICEDROP_BUCKET": str(root), "VOICEDROP_KEYS": str(root / "keys")}
    )
    wall, processor = time.perf_counter(), time.process_time()
    request = auditing.AuditRequest(out=out, workers=wanted.jobs)
    shown = auditing.audit(settings, request, Progress(quiet=True))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    data: dict[str, Any] = json.loads((out / "report.json").read_text())
    if wanted.keep:
        shutil.copytree(out, wanted.keep / out.name, dirs_exist_ok=True)
    found = {finding["code"] for finding in data["findings"]}
    good = bool(codes) == bool(found) and codes <= found and shown.exit_code == bool(codes)
    counted = f"{len(data['findings'])} findings: {', '.join(sorted(found)) or 'none'}"
    print(f"{'ok ' if good else 'BAD'} {name}: {counted}; {wall:.1f} s, CPU {processor:.1f} s")
    return good


if __name__ == "__main__":
    sys.exit(main())
