"""Withdraw consent at random moments of random histories of the real pipeline.

    python -m tests.acceptance.withdrawal --runs 1000     # and each broken variant until detected
    python -m tests.acceptance.withdrawal --seed 1234     # plays one history and prints it

Jobs, retries, shards, joining, sweeps, crashes and slow workers go on around the withdrawal, in
virtual time. The record may begin later, be replaced or deleted after it was withdrawn, or be
withdrawn again after another record admitted the voice. Afterwards nothing that was stored later
may remain, nothing biometric may be left, and every result must say how its items ended. Prints one
JSON document; exit code 1 if an invariant is violated or a broken variant is not detected.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from tests.support.faults.withdrawals import BROKEN, play_withdrawal

MAX_RUNS = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.withdrawal")
    parser.add_argument("--runs", type=int, default=1000, help="number of histories")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="play only this seed")
    options = parser.parse_args()
    if options.seed is not None:
        print(play_withdrawal(options.seed))
        return 0
    report = play_all(range(options.first, options.first + options.runs))
    report["seen_after"] = {name: runs_until_detected(name) for name in BROKEN}
    print(json.dumps(report, indent=2))
    return 1 if report["violations"] or None in report["seen_after"].values() else 0


def play_all(seeds: range) -> dict[str, Any]:
    start = time.process_time()
    totals, outcomes, replaced = Counter[str](), Counter[str](), Counter[str]()
    violations: list[str] = []
    for seed in seeds:
        try:
            history = asdict(play_withdrawal(seed))
        except AssertionError as exc:
            violations.append(str(exc))
            continue
        outcomes.update(history.pop("outcomes"))
        replaced[history.pop("replaced") or "not"] += 1
        totals.update({name: count for name, count in history.items() if name != "seed"})
    return {
        "runs": len(seeds),
        "violations": violations,
        "items": dict(outcomes),
        "replaced": dict(replaced),
        **totals,
        "cpu_s": round(time.process_time() - start, 1),
    }


def runs_until_detected(name: str) -> int | None:
    """Return the number of histories until the first violation; None if there is none."""
    with BROKEN[name]():
        for seed in range(MAX_RUNS):
            try:
                play_withdrawal(seed)
            except AssertionError:
                return seed + 1
    return None


if __name__ == "__main__":
    sys.exit(main())
