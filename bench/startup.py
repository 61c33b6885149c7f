"""Measure how fast a container is ready: the import of the server, and `POST /initialize`.

    python -m bench.startup [--runs 5]

Each run is a new process; the first one prepares the voice model in an empty cache.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core.crypto import keys

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    command = [sys.executable, "-c", "import handlers.server.app"]
    print_median(
        "python -c 'import handlers.server.app'", [run_timed(command) for _ in range(runs)]
    )
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("inbox", "results", "control"):
            (root / "bucket" / part).mkdir(parents=True)
        keys.create_keys(root / "keys")
        print_median("POST /initialize", [initialize(root) for _ in range(runs)])


def print_median(what: str, seconds: list[float]) -> None:
    each = ", ".join(f"{s:.2f}" for s in seconds)
    print(f"{what}: median {statistics.median(seconds):.2f} s of {each}")


def run_timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    return time.perf_counter() - start


def initialize(root: Path) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {
        "FC_SERVER_PORT": str(port),
        "VOICEDROP_BUCKET": str(root / "bucket"),
        "VOICEDROP_KEYS": str(root / "keys"),
        "VOICEDROP_CACHE": str(root / "cache"),
    }
    command = [sys.executable, "-m", "handlers.server"]
    server = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
    try:
        while not answers(port, "GET", "/"):
            time.sleep(0.02)
        start = time.perf_counter()
        if not answers(port, "POST", "/initialize"):
            raise RuntimeError("the server did not become ready")
        return time.perf_counter() - start
    finally:
        server.terminate()
        server.wait()


def answers(port: int, method: str, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
