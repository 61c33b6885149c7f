"""How soon a container is ready: importing `handlers.server.app`, and `POST /initialize`.

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
    tell("python -c 'import handlers.server.app'", [timed(command) for _ in range(runs)])
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in ("inbox", "results", "control"):
            (place / "bucket" / part).mkdir(parents=True)
        keys.create_keys(place / "keys")
        tell("POST /initialize", [initialize(place) for _ in range(runs)])


def tell(what: str, seconds: list[float]) -> None:
    each = ", ".join(f"{s:.2f}" for s in seconds)
    print(f"{what}: median {statistics.median(seconds):.2f} s of {each}")


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    return time.perf_counter() - start


def initialize(place: Path) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {
        "FC_SERVER_PORT": str(port),
        "VOICEDROP_BUCKET": str(place / "bucket"),
        "VOICEDROP_KEYS": str(place / "keys"),
        "VOICEDROP_CACHE": str(place / "cache"),
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
