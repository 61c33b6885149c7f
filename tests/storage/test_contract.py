"""The contract of `Store`, for a folder and for OSS over HTTP."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from core.errors import JobError, Refused
from core.storage.object_keys import parse_output_key, parse_shard_key
from core.storage.port import Store
from tests.support.stores import head, together

_BAD_KEYS = {
    "empty": "",
    "leading slash": "/a",
    "leading backslash": "\\a",
    "empty segment": "a//b",
    "folder": "a/",
    "this folder": "a/./b",
    "parent": "../a",
    "inner parent": "a/../../b",
    "only parent": "..",
    "nul": "a\0b",
    "too long": "é" * 512,
    "lone surrogate": "a\ud800",
}


def _refusal(code: str) -> AbstractContextManager[pytest.ExceptionInfo[JobError]]:
    return pytest.raises(JobError, match=f"^{code}:")


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"\0", b"x" * 300_000], ids=["empty", "nul", "large"])
def test_get_returns_what_was_put(store: Store, data: bytes) -> None:
    store.put("a/b.bin", data)
    found = store.get("a/b.bin", limit=len(data))
    assert found.data == data
    assert (found.info.key, found.info.size) == ("a/b.bin", len(data))


def test_a_file_is_put_once_and_fetched_into_a_file(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000  # more than two chunks
    with (tmp_path / "from").open("w+b") as source, (tmp_path / "into").open("w+b") as target:
        source.write(data)  # the position is now at the end, but it is read from its beginning
        target.write(b"earlier content")
        assert store.put_once("big", source, metadata={"kind": "test"})
        assert not store.put_once("big", source)
        info = store.fetch("big", target, limit=len(data))
        target.seek(0)
        assert target.read() == data
        assert (info.size, info.metadata) == (len(data), {"kind": "test"})
        with _refusal("OBJECT_TOO_LARGE"):
            store.fetch("big", target, limit=len(data) - 1)
        with _refusal("OBJECT_MISSING"):
            store.fetch("nothing", target, limit=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    ["plain", "a b+c%2fd.txt", "é/中文/日本語.wav", "a&b=c?d#e", "dots..in/.hidden", "x" * 255],
)
def test_unusual_keys_work_in_every_operation(store: Store, key: str) -> None:
    assert store.put_once(key, b"1")
    store.put(key, b"2", metadata={"kind": "test"})
    assert store.get(key, limit=9).data == b"2"
    assert head(store, key).metadata == {"kind": "test"}
    assert [info.key for info in store.list("")] == [key]
    store.delete(key)
    assert store.head(key) is None


@pytest.mark.slow
@pytest.mark.parametrize("key", _BAD_KEYS.values(), ids=_BAD_KEYS.keys())
def test_bad_keys_are_refused_by_every_operation(store: Store, key: str) -> None:
    for operation in (
        lambda: store.get(key, limit=1),
        lambda: store.head(key),
        lambda: store.put(key, b""),
        lambda: store.put_once(key, b""),
        lambda: store.append(key, b"", position=0),
        lambda: store.delete(key),
    ):
        with _refusal("KEY_INVALID"):
            operation()


def test_a_missing_object_is_refused_by_get_and_none_for_head(store: Store) -> None:
    with _refusal("OBJECT_MISSING"):
        store.get("nothing", limit=1)
    assert store.head("nothing") is None
    assert store.head("nothing/below") is None


def test_deleting_a_missing_object_is_no_error(store: Store) -> None:
    store.delete("nothing")


def test_an_object_above_the_limit_is_refused(store: Store) -> None:
    store.put("big", b"12345")
    assert store.get("big", limit=5).data == b"12345"
    with _refusal("OBJECT_TOO_LARGE"):
        store.get("big", limit=4)


def test_put_replaces_data_and_metadata(store: Store) -> None:
    store.put("k", b"old", metadata={"a": "1", "b": "2"})
    store.put("k", b"new", metadata={"b": "3"})
    found = store.get("k", limit=9)
    assert (found.data, found.info.metadata) == (b"new", {"b": "3"})
    store.put("k", b"last")
    assert head(store, "k").metadata == {}


def test_metadata_is_returned_as_given(store: Store) -> None:
    metadata = {"item-1": "a b;c=d", "envelope": "A" * 4000, "empty": ""}
    assert store.put_once("k", b"", metadata=metadata)
    assert head(store, "k").metadata == metadata
    assert store.get("k", limit=0).info.metadata == metadata


@pytest.mark.slow
@pytest.mark.parametrize(
    "metadata",
    [
        {"under_score": "1"},
        {"Upper": "1"},
        {"a": "é"},
        {"a": "b\nc"},
        {"a": " b"},
        {"a": "x" * 8192},
    ],
    ids=["underscore", "upper case", "not ascii", "line break", "outer space", "too much"],
)
def test_metadata_that_oss_would_change_or_refuse_raises_value_error(
    store: Store, metadata: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="metadata"):
        store.put("k", b"", metadata=metadata)
    assert store.head("k") is None


def test_put_once_keeps_the_first(store: Store) -> None:
    assert store.put_once("k", b"first", metadata={"by": "first"}) is True
    assert store.put_once("k", b"second", metadata={"by": "second"}) is False
    found = store.get("k", limit=9)
    assert (found.data, found.info.metadata) == (b"first", {"by": "first"})


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False], ids=["equal bytes", "different bytes"])
def test_of_32_concurrent_writers_exactly_one_succeeds(store: Store, same: bool) -> None:
    def write(number: int) -> bool:
        data = b"equal" if same else f"writer {number}".encode()
        return store.put_once("race", data, metadata={"writer": str(number)})

    wins = together(32, write)
    assert sum(wins) == 1
    found = store.get("race", limit=99)
    assert found.info.metadata == {"writer": str(wins.index(True))}
    assert found.data == (b"equal" if same else f"writer {wins.index(True)}".encode())


def test_a_changed_object_is_refused_under_its_old_etag(store: Store) -> None:
    store.put("k", b"old")
    old = head(store, "k").etag
    assert store.get("k", limit=9, etag=old).data == b"old"
    store.put("k", b"new")
    assert head(store, "k").etag != old
    with _refusal("OBJECT_CHANGED"):
        store.get("k", limit=9, etag=old)


def test_head_get_and_list_agree_on_an_object(store: Store) -> None:
    store.put("k", b"data", metadata={"a": "b"})
    head, got, (listed,) = store.head("k"), store.get("k", limit=9).info, store.list("")
    assert head == got
    assert (listed.key, listed.size, listed.etag) == (head.key, head.size, head.etag)
    assert int(listed.modified) == int(head.modified)
    assert listed.metadata == {}


def test_append_is_compare_and_swap(store: Store) -> None:
    assert store.append("log", b"one;", position=0) is True
    assert store.append("log", b"two;", position=0) is False
    assert store.append("log", b"two;", position=4) is True
    assert store.append("log", b"gap;", position=99) is False
    assert store.get("log", limit=99).data == b"one;two;"


def test_of_16_appenders_at_one_position_exactly_one_succeeds(store: Store) -> None:
    wins = together(16, lambda number: store.append("log", b"%02d" % number, position=0))
    assert sum(wins) == 1
    assert store.get("log", limit=99).data == b"%02d" % wins.index(True)


def test_appenders_that_retry_until_they_succeed_lose_nothing(store: Store) -> None:
    def join(number: int) -> None:
        for _ in range(200):
            info = store.head("log")
            if store.append("log", b"<%d>" % number, position=info.size if info else 0):
                return
        pytest.fail("never won")

    together(8, join)
    data = store.get("log", limit=999).data
    assert sorted(data[1:-1].split(b"><")) == [b"%d" % number for number in range(8)]


@pytest.mark.slow
def test_readers_never_see_a_mixture_of_two_versions(store: Store) -> None:
    versions = {letter * 50_000: letter.decode() for letter in (b"a", b"b", b"c")}
    store.put("k", b"a" * 50_000, metadata={"v": "a"})

    def work(number: int) -> list[tuple[str, str]]:
        if number < 2:
            for data, letter in list(versions.items()) * 5:
                store.put("k", data, metadata={"v": letter})
            return []
        seen = [store.get("k", limit=50_000) for _ in range(15)]
        return [(versions[found.data], found.info.metadata["v"]) for found in seen]

    for seen in together(5, work):
        assert all(data == described for data, described in seen)


def test_list_is_in_the_byte_order_of_utf_8(store: Store) -> None:
    keys = [
        "a",
        "a-b",
        "a.b",
        "a0",
        "b/c/d",
        "b/c-d",
        "B",
        "é",
        "z/1",
        "z/2",
        "日本",
        "\uffee",
        "𝄞",
    ]
    keys.remove("a")
    keys += ["a/b", "a/b0"]
    for key in keys:
        store.put(key, b"")
    expected = sorted(keys, key=str.encode)
    assert [info.key for info in store.list("")] == expected
    for after in [*keys, "a/", "b", "b/c", "zz", "\U0010ffff"]:
        found = [info.key for info in store.list("", after=after)]
        assert found == [key for key in expected if key.encode() > after.encode()], after
    for prefix in ["a", "a/", "a/b", "b/", "b/c", "é", "zz", "b/c/d/", "/", "../", "x//y"]:
        found = [info.key for info in store.list(prefix)]
        assert found == [key for key in expected if key.startswith(prefix)], prefix
    assert [info.key for info in store.list("b/", after="b/c-d")] == ["b/c/d"]


def test_list_is_lazy_and_tolerates_deleted_objects(store: Store) -> None:
    for number in range(5):
        store.put(f"d{number}/x", b"")
    listing = store.list("")
    assert next(listing).key == "d0/x"
    store.delete("d4/x")
    assert {info.key for info in listing} >= {"d1/x", "d2/x", "d3/x"}


def test_an_empty_bucket_lists_nothing(store: Store) -> None:
    assert list(store.list("")) == []
    assert list(store.list("some/prefix/")) == []


def test_the_store_has_a_clock(store: Store) -> None:
    first = store.now()
    store.put("k", b"")
    assert abs(first - time.time()) < 5
    assert first - 1.5 <= head(store, "k").modified <= store.now() + 1.5


def test_the_check_passes_where_put_once_is_safe(store: Store) -> None:
    store.check(writable_once=True)
    store.check(writable_once=False)
    assert list(store.list("")) == []
    assert store.name == "results"


def test_large_objects_survive_unchanged(store: Store) -> None:
    data = hashlib.shake_256(b"noise").digest(3_000_000)
    store.put("big", data)
    assert store.get("big", limit=3_000_000).data == data


def test_a_refusal_names_the_key(store: Store) -> None:
    with pytest.raises(Refused) as caught:
        store.get("some/key", limit=1)
    assert caught.value.pointer == "some/key"
    assert caught.value.retry is False


@pytest.mark.parametrize("parse", [parse_output_key, parse_shard_key])
@pytest.mark.parametrize("key", ["", "out/x", "shards/x", "jobs/a.manifest.json"])
def test_the_key_of_another_object_is_refused(parse: Callable[[str], object], key: str) -> None:
    with pytest.raises(Refused, match="Not the key of a") as refusal:
        parse(key)
    assert (refusal.value.code, refusal.value.pointer) == ("KEY_INVALID", key)
