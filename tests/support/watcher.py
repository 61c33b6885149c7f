"""`voicedrop watch` as a process, with the synthetic voice: `python -m tests.support.watcher DIR`.

With `--once` it stops when nothing is left to do. The folders are those of `local_runtime(DIR)`.
"""

from __future__ import annotations

import os
from pathlib import Path

import typer

from handlers.cli import screen
from handlers.cli.watch import watch_until_stopped
from tests.support.runtime import BuzzVoice, local_runtime

SECONDS_EACH = 0.4
"""Duration of each item in seconds, so that a test can act while the next one is made."""


def main(folder: Path, once: bool = False) -> None:
    with screen.Progress() as progress:
        runtime = local_runtime(
            folder,
            voice=BuzzVoice(seconds_each=SECONDS_EACH),
            worker=f"watcher-{os.getpid()}",
            observe=progress,
            lease_seconds=300,
        )
        output = watch_until_stopped(runtime, once=once, poll=0.1, progress=progress)
    screen.show(output, as_json=False)


if __name__ == "__main__":
    typer.run(main)
