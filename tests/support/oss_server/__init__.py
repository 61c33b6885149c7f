"""A small OSS over HTTP, for tests: real signatures, real error XML, and faults on demand.

    with OssServer() as server:
        server.add_key("id", "secret")
        server.create_bucket("results")
        server.inject(Fault("lost_reply", method="PUT"))
        auth = oss2.AuthV4("id", "secret")
        bucket = oss2.Bucket(auth, server.endpoint, "results", region=server.region)

As a process: `python -m tests.support.oss_server --help`.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.oss_server.faults import Fault, Faults
from tests.support.oss_server.state import AccessKey, Bucket, State, Stored, md5
from tests.support.oss_server.wire import Server

__all__ = ["Fault", "OssServer"]


class OssServer:
    """`folder` keeps buckets and objects (not unfinished uploads) across processes; `seed`: for
    faults with a chance below 1; `ahead`: seconds by which the server's clock is ahead."""

    def __init__(
        self,
        *,
        port: int = 0,
        region: str = "cn-hangzhou",
        folder: Path | None = None,
        seed: int = 0,
        ahead: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.region = region
        self.state = State(region, folder, ahead)
        self.faults = Faults(seed)
        self._server = Server(("127.0.0.1", port), self.state, self.faults)
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> OssServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        self._thread.join()
        if self._server.errors:
            raise self._server.errors[0]

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def add_key(
        self,
        name: str,
        secret: str,
        *,
        token: str = "",
        expires: float = float("inf"),
        buckets: Collection[str] | None = None,
        policy: Callable[[str, str], bool] | None = None,
    ) -> None:
        """With a `token` the key is temporary, until `expires` (Unix seconds). `buckets` are those
        that it may access, None for all. `policy`: see AccessKey."""
        allowed = None if buckets is None else frozenset(buckets)
        self.state.keys[name] = AccessKey(name, secret, token, expires, allowed, policy)

    def create_bucket(self, name: str, *, versioning: str = "", acl: str = "private") -> None:
        if name not in self.state.buckets:
            bucket = Bucket(name, owner="test-owner", acl=acl, versioning=versioning)
            self.state.store_bucket(bucket)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return the objects of a bucket, without a request."""
        with self.state.lock:
            found = self.state.buckets[bucket].objects
            return {key: stored.data for key, stored in found.items()}

    def place(self, bucket: str, key: str, data: bytes, **fields: Any) -> None:
        """Put an object without a request; `fields` are those of Stored."""
        with self.state.lock:
            kind = {"content-type": "application/octet-stream"}
            stored = Stored(data, md5(data), **{"headers": kind, **fields})
            self.state.store(self.state.buckets[bucket], key, stored)

    def inject(self, fault: Fault) -> Fault:
        return self.faults.add(fault)
