"""The server with a scripted worker as a process: `python -m tests.support.server_process`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from core.errors import Misconfigured
from handlers.server.app import serve
from tests.support.running_server import ScriptedWorker


def worker_from(environ: Mapping[str, str], _: Callable[[str], None]) -> ScriptedWorker:
    if environ.get("TEST_NO_KEYS"):
        raise Misconfigured("KEY_NOT_FOUND", "no keys in ./keys")
    return AnnouncingWorker()


class AnnouncingWorker(ScriptedWorker):
    def close(self) -> None:
        sys.stdout.write("closed\n")


if __name__ == "__main__":
    sys.exit(serve(worker_from, os.environ))
