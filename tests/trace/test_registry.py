from __future__ import annotations

from pathlib import Path

import pytest

from core.storage.local import LocalStore
from core.storage.object_keys import mark_key
from core.trace import registry
from core.trace.registry import Mark, register, resolve

KEY = bytes(range(32))


@pytest.fixture
def results(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_a_payload_resolves_to_its_job_and_item(results: LocalStore) -> None:
    payload = register(results, KEY, "j1", "hello")
    assert resolve(results, payload) == Mark(job="j1", item="hello")


def test_an_item_keeps_its_payload_when_it_is_repeated(results: LocalStore) -> None:
    assert register(results, KEY, "j1", "hello") == register(results, KEY, "j1", "hello")


def test_a_payload_in_use_is_never_allocated_again(results: LocalStore) -> None:
    """Another item uses the first candidate, which happens to one item in four billion."""
    free = register(results, KEY, "j1", "hello")
    other = LocalStore(results._root.parent / "other")
    other._root.mkdir()
    other.put(mark_key(free), results.get(mark_key(free), limit=999).data.replace(b"j1", b"j0"))
    second = register(other, KEY, "j1", "hello")
    assert second != free
    assert resolve(other, second) == Mark(job="j1", item="hello")
    assert resolve(other, free) == Mark(job="j0", item="hello")


def test_another_key_gives_other_payloads(results: LocalStore) -> None:
    assert register(results, KEY, "j", "i") != register(results, bytes(32), "j", "i")


def test_an_unknown_payload_resolves_to_nothing(results: LocalStore) -> None:
    assert resolve(results, 0xDEADBEEF) is None
    assert mark_key(0xDEADBEEF) == "marks/de/deadbeef.json"


def test_a_store_without_a_free_payload_is_an_error(results: LocalStore) -> None:
    mark = Mark(job="j1", item="hello")
    for number in range(registry.MAX_CANDIDATES):
        payload = registry._candidate(KEY, mark, number)
        results.put(mark_key(payload), b'{"item":"x","job":"y","schema":"voicedrop/mark/1"}')
    with pytest.raises(Exception, match="no free watermark payload"):
        register(results, KEY, "j1", "hello")
