"""Random histories of the real pipeline over a store that fails in every way.

    python -m bench.faults --histories 20000        # and each broken variant until it is seen
    python -m bench.faults --seed 1234              # one history, to look at what a seed does

Runs `handlers.oss.handle`, `core.pipeline` and the sweeper as they are, in a virtual time; sound is
computed once for each distinct input (tests/faults/sound.py). Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from typing import Any

from tests.faults.history import play
from tests.faults.variants import VARIANTS, Variant

WITHIN = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="play this one alone")
    options = parser.parse_args()
    if options.seed is not None:
        print(play(options.seed))
        return 0
    found = {
        "histories": histories(options.first, options.histories),
        "seen_after": {name: seen_after(variant) for name, variant in VARIANTS.items()},
    }
    print(json.dumps(found, indent=2))
    missed = [name for name, (count, _) in found["seen_after"].items() if count is None]
    return 1 if found["histories"]["violations"] or missed else 0


def histories(first: int, count: int) -> dict[str, Any]:
    start = time.process_time()
    total: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    violations: list[str] = []
    for number, seed in enumerate(range(first, first + count), start=1):
        try:
            one = play(seed)
        except AssertionError as exc:
            violations.append(str(exc))
            print(exc, file=sys.stderr)
            continue
        total.update(
            steps=one.steps, faults=one.faults, spoken=one.spoken, calm=one.calm, cut=one.cut
        )
        for result in one.results.values():
            ended[result.error.code if result.error else result.status] += 1
            total["items"] += result.totals.items
        if number % 1000 == 0:
            print(f"{number} histories, {len(violations)} violations", file=sys.stderr)
    seconds = time.process_time() - start
    return {
        "count": count,
        "first_seed": first,
        "violations": len(violations),
        "examples": violations[:10],
        "jobs": dict(ended),
        **total,
        "cpu_s": round(seconds, 1),
        "ms_each": round(1000 * seconds / count, 2),
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
