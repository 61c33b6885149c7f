"""core.storage.port.put_once_or_read: every caller gets the first writer's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from core.errors import JobError
from core.storage.local import LocalStore
from core.storage.port import Body, Store, put_once_or_read
from tests.support.stores import together


def test_every_caller_gets_the_bytes_of_the_first_writer(store: Store) -> None:
    got = together(8, lambda n: put_once_or_read(store, "k", b"%d" % n, limit=1))
    assert set(got) == {store.get("k", limit=1).data}


def test_an_object_above_the_limit_is_not_read(store: Store) -> None:
    store.put("k", b"xx")
    with pytest.raises(JobError, match="OBJECT_TOO_LARGE"):
        put_once_or_read(store, "k", b"x", limit=1)


class Disappearing(LocalStore):
    """Deletes an object between the write and the read."""

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        written = super().put_once(key, data, metadata=metadata)
        self.delete(key)
        return written


def test_an_object_deleted_meanwhile_is_a_temporary_error(tmp_path: Path) -> None:
    store = Disappearing(tmp_path)
    store.put("k", b"x")
    with pytest.raises(
        JobError, match="STORAGE_UNAVAILABLE: k exists but cannot be read"
    ) as caught:
        put_once_or_read(store, "k", b"y", limit=1)
    assert (caught.value.retry, caught.value.pointer) == (True, "k")
