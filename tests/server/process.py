"""The server as a process of its own: `python -m tests.server.process`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from core.errors import Misconfigured
from handlers.server import serve
from tests.server.running import Orders


def worker_from(environ: Mapping[str, str]) -> Orders:
    if environ.get("TEST_NO_KEYS"):
        raise Misconfigured("KEY_NOT_FOUND", "no keys in ./keys")
    return Announcing()


class Announcing(Orders):
    def close(self) -> None:
        sys.stdout.write("closed\n")


if __name__ == "__main__":
    sys.exit(serve(worker_from, os.environ))
