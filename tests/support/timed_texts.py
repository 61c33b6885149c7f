"""Read a text with each front end, and print the processor time that it took.

    python -m tests.support.timed_texts < TEXTS

TEXTS: a JSON object, front end -> text. Prints a JSON object, front end -> seconds.
"""

from __future__ import annotations

import json
import sys
import time

from tests.acceptance.texts import WARM_UP, read_text


def measure(name: str, text: str) -> float:
    read_text(name, WARM_UP)
    start = time.process_time()
    said = read_text(name, text)
    assert said == "ok", f"{name}: {said}"
    return time.process_time() - start


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps({name: measure(name, text) for name, text in json.load(sys.stdin).items()})
    )
