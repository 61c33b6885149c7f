"""Stores over the test server, and threads that start together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from core.storage.oss import Credentials, OssStore
from core.storage.port import Info, Store
from core.storage.retry import Retry
from tests.support.oss_server import OssServer

T = TypeVar("T")
KEYS = Credentials("contract-id", "contract-secret")
QUICK = Retry(first_pause=0.001, longest_pause=0.01)


def oss_store(
    server: OssServer,
    bucket: str = "results",
    *,
    keys: Callable[[], Credentials] = lambda: KEYS,
    retry: Retry = QUICK,
    patience: float = 30.0,
) -> OssStore:
    timeout = (3.0, patience)
    return OssStore(bucket, server.endpoint, server.region, keys, retry=retry, timeout=timeout)


def head(store: Store, key: str) -> Info:
    """Return the properties of an object that must exist."""
    found = store.head(key)
    assert found is not None, key
    return found


def patient(attempts: int) -> Retry:
    return replace(QUICK, attempts=attempts)


def together(count: int, action: Callable[[int], T]) -> list[T]:
    """Return the results of `count` threads that start at the same moment."""
    gate = threading.Barrier(count)

    def run(number: int) -> T:
        gate.wait()
        return action(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
