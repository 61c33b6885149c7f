"""Random histories of the real pipeline over a store that fails in every way.

    python -m tests.acceptance.faults --histories 20000     # and each broken variant until detected
    python -m tests.acceptance.faults --into found.json --minutes 4.5   # resumes; repeat until done
    python -m tests.acceptance.faults --seed 1234           # plays one history and prints it

Runs `handlers.oss.handle`, `core.pipeline` and the sweeper as they are, in a virtual time; two jobs
in five of the histories are cut into shards. Sound is computed once for each distinct input
(tests/support/faults/cached_audio.py). Prints one JSON document; exit code 1 if an invariant broke
or a broken variant was not seen, 2 if there is more to play.
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
from tests.support.faults.history import play

WITHIN = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.faults", description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000, help="in all")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--into", type=Path, help="go on from what this file holds, and keep it")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop")
    options = parser.parse_args()
    if options.seed is not None:
        print(play(options.seed))
        return 0
    before = options.into and options.into.exists() and json.loads(options.into.read_text())
    found = before or {"histories": {"count": 0, "first_seed": options.first}, "seen_after": {}}
    until = time.monotonic() + 60 * options.minutes
    gc.freeze()  # what was imported is not looked through again at every collection
    found["histories"] = histories(found["histories"], options.histories, until)
    for name, variant in VARIANTS.items():
        if name not in found["seen_after"] and time.monotonic() < until:
            found["seen_after"][name] = seen_after(variant)
    if options.into:
        options.into.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    missed = [name for name, (count, _) in found["seen_after"].items() if count is None]
    if found["histories"]["violations"] or missed:
        return 1
    played = found["histories"]["count"] >= options.histories
    return 0 if played and len(found["seen_after"]) == len(VARIANTS) else 2


def histories(before: dict[str, Any], count: int, until: float) -> dict[str, Any]:
    """What came of the first `count` histories, of which `before` tells some, as far as time
    allows."""
    start = time.process_time()
    total = Counter({name: n for name, n in before.items() if isinstance(n, int)})
    ended = Counter(before.get("jobs", {}))
    examples: list[str] = before.get("examples", [])
    while total["count"] < count and time.monotonic() < until:
        seed = before["first_seed"] + total["count"]
        total["count"] += 1
        try:
            one = play(seed)
        except AssertionError as exc:
            total["violations"] += 1
            examples = [*examples, str(exc)][:10]
            print(exc, file=sys.stderr)
            continue
        total.update(
            steps=one.steps, faults=one.faults, spoken=one.spoken, calm=one.calm, cut=one.cut
        )
        for result in one.results.values():
            ended[result.error.code if result.error else result.status] += 1
            total["items"] += result.totals.items
        if total["count"] % 1000 == 0:
            print(f"{total['count']} histories, {total['violations']} violations", file=sys.stderr)
    seconds = before.get("cpu_s", 0.0) + time.process_time() - start
    return {
        **total,
        "first_seed": before["first_seed"],
        "violations": total["violations"],
        "examples": examples,
        "jobs": dict(ended),
        "cpu_s": round(seconds, 1),
        "ms_each": round(1000 * seconds / max(total["count"], 1), 2),
    }


def seen_after(variant: Variant) -> tuple[int | None, str]:
    """How many histories until the first violation, and what it was."""
    with variant.broken():
        for seed in range(WITHIN):
            try:
                play(seed, variant.setting)
            except AssertionError as exc:
                return seed + 1, str(exc)
    return None, f"not seen within {WITHIN}"


if __name__ == "__main__":
    sys.exit(main())
