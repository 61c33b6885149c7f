"""Play random histories of the real pipeline over a failing store.

    python -m tests.acceptance.faults --histories 20000     # and each broken variant until detected
    python -m tests.acceptance.faults --into found.json --minutes 4.5   # resumes; repeat until done
    python -m tests.acceptance.faults --seed 1234           # plays one history and prints it

Runs `handlers.oss.handle`, `core.pipeline` and the sweeper unchanged, in virtual time; in two of
five histories the jobs are split into shards. Audio is computed once for each distinct input
(tests/support/faults/cached_audio.py). Prints one JSON document; exit code 1 if an invariant is
violated or a broken variant is not detected, 2 if histories are left to play.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.faults.broken_variants import VARIANTS, Variant
from tests.support.faults.history import play_history

MAX_HISTORIES = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.faults", description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000, help="number of histories")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="play only this seed")
    parser.add_argument("--into", type=Path, help="resume from this file and update it")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    options = parser.parse_args()
    if options.seed is not None:
        print(play_history(options.seed))
        return 0
    earlier = options.into and options.into.exists() and json.loads(options.into.read_text())
    report = earlier or {"histories": {"count": 0, "first_seed": options.first}, "seen_after": {}}
    deadline = time.monotonic() + 60 * options.minutes
    gc.freeze()  # so that collections do not traverse the imported modules
    report["histories"] = play_histories(report["histories"], options.histories, deadline)
    for name, variant in VARIANTS.items():
        if name not in report["seen_after"] and time.monotonic() < deadline:
            report["seen_after"][name] = histories_until_detected(variant)
    if options.into:
        options.into.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    missed = [name for name, (count, _) in report["seen_after"].items() if count is None]
    if report["histories"]["violations"] or missed:
        return 1
    is_complete = report["histories"]["count"] >= options.histories
    return 0 if is_complete and len(report["seen_after"]) == len(VARIANTS) else 2


def play_histories(before: dict[str, Any], count: int, deadline: float) -> dict[str, Any]:
    """Play `count` histories until the deadline, resuming from the totals in `before`; return the
    new totals."""
    start = time.process_time()
    total = Counter({name: n for name, n in before.items() if isinstance(n, int)})
    endings = Counter(before.get("jobs", {}))
    examples: list[str] = before.get("examples", [])
    while total["count"] < count and time.monotonic() < deadline:
        seed = before["first_seed"] + total["count"]
        total["count"] += 1
        try:
            history = play_history(seed)
        except AssertionError as exc:
            total["violations"] += 1
            examples = [*examples, str(exc)][:10]
            print(exc, file=sys.stderr)
            continue
        total.update(
            steps=history.steps,
            faults=history.faults,
            spoken=history.spoken,
            calm=history.is_calm,
            cut=history.split_jobs,
        )
        for result in history.results.values():
            endings[result.error.code if result.error else result.status] += 1
            total["items"] += result.totals.items
        if total["count"] % 1000 == 0:
            print(f"{total['count']} histories, {total['violations']} violations", file=sys.stderr)
    seconds = before.get("cpu_s", 0.0) + time.process_time() - start
    return {
        **total,
        "first_seed": before["first_seed"],
        "violations": total["violations"],
        "examples": examples,
        "jobs": dict(endings),
        "cpu_s": round(seconds, 1),
        "ms_each": round(1000 * seconds / max(total["count"], 1), 2),
    }


def histories_until_detected(variant: Variant) -> tuple[int | None, str]:
    """Return the number of histories until the first violation, or None, and its message."""
    with variant.apply():
        for seed in range(MAX_HISTORIES):
            try:
                play_history(seed, variant.make_simulation)
            except AssertionError as exc:
                return seed + 1, str(exc)
    return None, f"not detected within {MAX_HISTORIES}"


if __name__ == "__main__":
    sys.exit(main())
