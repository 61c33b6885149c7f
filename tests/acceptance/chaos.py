"""Real worker processes over a failing object store, one killed every second.

    python -m tests.acceptance.chaos   # 8 workers, 525 jobs (25 in shards), 5 % of calls fail
    python -m tests.acceptance.chaos --workers 2 --jobs 10 --large 2

Prints one JSON document. Exit code 1, with the reason, if a result, an event or an output is
missing, duplicated or unreadable, or if a sweep finds something left to do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported, as workers are forked
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.support.faults.chaos import Chaos, ChaosOptions


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.chaos", description=__doc__)
    for name in ("workers", "jobs", "large", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(ChaosOptions, name))
    for name in ("failing", "lost", "kill_every", "limit"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=getattr(ChaosOptions, name)
        )
    options = ChaosOptions(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        figures = Chaos(options, Path(folder)).run()
    print(json.dumps(figures, indent=2))
    return 1 if figures["left_over"] else 0


if __name__ == "__main__":
    sys.exit(main())
