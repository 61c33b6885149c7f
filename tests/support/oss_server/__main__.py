"""Run the test server as a process: print its endpoint as a JSON line, serve until a signal."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from tests.support.oss_server import OssServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.oss_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--region", default="cn-hangzhou")
    parser.add_argument("--folder", type=Path, help="keep buckets and objects here")
    parser.add_argument("--seed", type=int, default=0, help="for faults with a chance below 1")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME[:VERSIONING]")
    parser.add_argument("--key", action="append", default=[], metavar="ID:SECRET[:TOKEN]")
    options = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    server = OssServer(
        port=options.port, region=options.region, folder=options.folder, seed=options.seed
    )
    for text in options.key:
        name, secret, token = (*text.split(":", 2), "")[:3]
        server.add_key(name, secret, token=token)
    for text in options.bucket:
        name, _, versioning = text.partition(":")
        server.create_bucket(name, versioning=versioning)
    with server:
        sys.stdout.write(json.dumps({"endpoint": server.endpoint, "region": server.region}) + "\n")
        sys.stdout.flush()
        stopping.wait()


if __name__ == "__main__":
    main()
