"""Carry out one job in a process that records its network connections.

    python -m tests.support.watched_job FOLDER [ENDPOINT]

The audit hook is installed before the product or a library is imported. Prints one JSON document:
the status of the job and every address that was connected to, sent to or looked up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NETWORK_EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
called: list[str] = []


def record_call(event: str, arguments: tuple[Any, ...]) -> None:
    if event in NETWORK_EVENTS:
        where = arguments[1] if event in {"socket.connect", "socket.sendto"} else arguments[:2]
        called.append(f"{where[0]}:{where[1]}" if isinstance(where, tuple) else str(where))


def main(folder: Path, endpoint: str) -> None:
    from tests.support.container import ACCESS_KEY_ID, ACCESS_KEY_SECRET, BUCKETS, SECURITY_TOKEN
    from tests.support.runtime import finish_job, local_runtime, put_job

    stores: dict[str, Any] = {}
    if endpoint:
        from core.storage.oss import Credentials, OssStore

        keys = Credentials(ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN)
        stores = {b: OssStore(b, endpoint, "cn-hangzhou", lambda: keys) for b in BUCKETS}
    runtime = local_runtime(folder, **stores)
    answer = finish_job(put_job(runtime), runtime)
    json.dump({"ended": answer.status, "called": sorted(set(called))}, sys.stdout)


if __name__ == "__main__":
    sys.addaudithook(record_call)
    main(Path(sys.argv[1]), "".join(sys.argv[2:]))
