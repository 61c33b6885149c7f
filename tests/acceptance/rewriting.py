"""Rewrite results and log at random with the signing key, against a checkpoint that was kept.

    python -m tests.acceptance.rewriting --runs 2000     # and each broken verifier until noticed
    python -m tests.acceptance.rewriting --seed 1234     # plays one sequence and prints it

Somebody changes, replaces, back-dates and removes results, outputs, tombstones, proofs, leaves and
the log itself, while jobs finish, are erased and logged. Both `voicedrop log verify --checkpoint`
and `voicedrop audit --checkpoint` must notice whenever a logged document is no longer what it was,
and must pass after lawful work alone. Prints one line of JSON; exit code 1 if something was missed
or a broken verifier was not noticed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from typing import Any

from tests.support.broken_verifiers import BROKEN
from tests.support.rewriting import play

MAX_RUNS = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.rewriting")
    parser.add_argument("--runs", type=int, default=2000, help="number of sequences")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="play only this seed")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.seed is not None:
        print(play(options.seed))
        return 0
    report = play_all(range(options.first, options.first + options.runs))
    report["broken_found_after"] = {name: runs_until_found(name) for name in BROKEN}
    print(json.dumps(report))
    return 1 if report["missed"] or None in report["broken_found_after"].values() else 0


def play_all(seeds: range) -> dict[str, Any]:
    start, counts, missed = time.process_time(), Counter[str](), list[str]()
    for seed in seeds:
        played = play(seed)
        counts["steps"] += len(played.steps)
        for name in ("rewritten", "removed", "lawful"):
            counts[name] += bool(getattr(played, name))
        missed += [f"seed {seed}: {one}" for one in played.missed]
    cpu = round(time.process_time() - start, 1)
    return {"sequences": len(seeds), **counts, "missed": missed, "cpu_s": cpu}


def runs_until_found(name: str) -> int | None:
    """Return the number of sequences until a broken verifier missed something; None: never."""
    with BROKEN[name]():
        return next((seed + 1 for seed in range(MAX_RUNS) if play(seed).missed), None)


if __name__ == "__main__":
    sys.exit(main())
