"""The failing object store of `chaos`, as a process of its own.

    python -m tests.support.faults.chaos_store FAILING SEED  # serves until standard input ends

FAILING is the share of calls that fail.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support.oss_server import Fault, OssServer
from tests.support.oss_server.faults import Kind
from tests.support.stores import KEYS

BUCKETS = ("inbox", "results", "control")


class serving:  # noqa: N801 - a context manager, used like a function
    """The OSS server as a process of its own."""

    def __init__(self, failing: float, seed: int) -> None:
        self._arguments = [str(failing), str(seed)]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.faults.chaos_store", *self._arguments],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)  # the server ends with its standard input


def serve(failing: float, seed: int) -> None:
    with OssServer(seed=seed) as server:
        server.add_key(KEYS.access_key_id, KEYS.access_key_secret)
        for name in BUCKETS:
            server.create_bucket(name)
        shares: dict[Kind, float] = {"error": 0.6, "reset": 0.2, "lost_reply": 0.2}
        for kind, share in shares.items():
            server.inject(Fault(kind, chance=failing * share, times=10**9))
        sys.stdout.write(server.endpoint + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    serve(float(sys.argv[1]), int(sys.argv[2]))
