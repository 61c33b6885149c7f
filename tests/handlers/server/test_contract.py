"""The HTTP contract with Function Compute."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core.errors import Failed, Unavailable
from handlers.server.app import MAX_BODY, create_app, server_config
from handlers.server.secrecy import Mask
from handlers.server.tokens import ProcessTokens
from tests.support.running_server import (
    Client,
    ScriptedWorker,
    invoke_in_parallel,
    running_server,
    status_pair,
)

NOTIFICATION = Path(__file__).with_name("notification.json").read_bytes()
STS = {
    "x_fc_access_key_id": "STS.idididid",
    "x_fc_access_key_secret": "secretsecret",
    "x_fc_security_token": "tokentoken",
}


@pytest.fixture
def worker() -> ScriptedWorker:
    return ScriptedWorker()


@pytest.fixture(scope="module")
def closing() -> Iterator[ThreadPoolExecutor]:
    """Threads in which servers end, which takes each a fifth of a second of waiting."""
    with ThreadPoolExecutor() as threads:
        yield threads


@pytest.fixture
def client(worker: ScriptedWorker, closing: ThreadPoolExecutor) -> Iterator[Client]:
    server = running_server(worker)
    yield server.__enter__()
    closing.submit(server.__exit__, None, None, None)


def test_the_worker_gets_the_body_byte_for_byte(worker: ScriptedWorker, client: Client) -> None:
    response, summary = client.invoke(NOTIFICATION, x_fc_request_id="r-1")
    assert status_pair(response) == (200, "200")
    assert response.headers["content-type"] == "application/json"
    assert summary == {"bytes": len(NOTIFICATION), "request": "r-1"}
    assert worker.calls == [(NOTIFICATION, None, "r-1")]


def test_invoke_warms_an_instance_without_initializer(
    worker: ScriptedWorker, client: Client
) -> None:
    client.invoke(b"")
    client.invoke(b"")
    assert worker.steps == ["warm", "handled", "handled"]


def test_a_request_without_id_gets_one(worker: ScriptedWorker, client: Client) -> None:
    client.invoke(b"")
    assert re.fullmatch("[0-9a-f]{32}", worker.calls[0][2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        (["Unavailable", "STORAGE_UNAVAILABLE"], (404, "404")),
        (["Misconfigured", "KEY_NOT_FOUND"], (404, "404")),
        (["Refused", "EVENT_INVALID"], (200, "200")),
        (["Failed", "RETRIES_EXHAUSTED"], (200, "200")),
    ],
    ids=lambda value: str(value[0]),
)
def test_only_retryable_errors_make_the_platform_retry(
    client: Client, fail: list[str], expected: tuple[int, str]
) -> None:
    response, answer = client.invoke({"fail": fail})
    assert status_pair(response) == expected
    assert answer["error"]["code"] == fail[1]
    assert answer["error"]["advice"]
    assert answer["error"]["retryable"] is (expected[0] == 404)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "paused"), [("Unavailable", True), ("Misconfigured", False), ("Refused", False)]
)
def test_only_temporary_errors_are_answered_after_a_pause(family: str, paused: bool) -> None:
    codes = {
        "Unavailable": "JOB_BUSY",
        "Misconfigured": "KEY_NOT_FOUND",
        "Refused": "EVENT_INVALID",
    }
    with running_server(ScriptedWorker(), retry_pause=0.3) as client:
        start = time.monotonic()
        client.invoke({"fail": [family, codes[family]]})
        assert (time.monotonic() - start >= 0.3) is paused


def test_after_a_crash_the_call_is_retried_and_the_answer_has_no_details(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    response, answer = client.invoke({"crash": "cannot open /secret/place"}, x_fc_request_id="r-9")
    assert status_pair(response) == (404, "404")
    assert answer["error"]["code"] == "INTERNAL"
    assert "/secret/place" not in json.dumps(answer)
    (record,) = [r for r in caplog.records if r.name == "voicedrop.server"]
    assert vars(record)["request_id"] == "r-9"
    assert "cannot open /secret/place" in vars(record)["trace"]


def test_credentials_come_from_the_headers(worker: ScriptedWorker, client: Client) -> None:
    client.invoke(b"", **STS)
    credentials = worker.calls[0][1]
    assert credentials is not None
    assert credentials.access_key_id == "STS.idididid"
    assert credentials.access_key_secret == "secretsecret"
    assert credentials.security_token == "tokentoken"
    assert "secretsecret" not in repr(credentials)
    assert "tokentoken" not in repr(credentials)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["x_fc_access_key_id", "x_fc_access_key_secret"])
def test_incomplete_credentials_are_ignored(
    worker: ScriptedWorker, client: Client, missing: str
) -> None:
    client.invoke(b"", **{name: value for name, value in STS.items() if name != missing})
    assert worker.calls[0][1] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "order",
    [
        {"crash": "signed tokentoken with secretsecret of STS.idididid"},
        {"fail": ["Unavailable", "STORAGE_UNAVAILABLE"], "message": "secretsecret tokentoken"},
    ],
    ids=["crash", "error"],
)
def test_secrets_that_an_sdk_quotes_are_neither_logged_nor_answered(
    client: Client,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    order: dict[str, Any],
) -> None:
    _, answer = client.invoke(order, **STS)
    logged = "".join(str(vars(record)) for record in caplog.records)
    printed = "".join(capsys.readouterr())
    for secret in STS.values():
        assert secret not in logged + printed + json.dumps(answer)
    assert "***" in logged


def test_the_platform_finds_its_lines_in_the_log(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.request("POST", "/initialize", headers={"x-fc-request-id": "r-0"})
    client.invoke({"fail": ["Failed", "INTERNAL"]}, x_fc_request_id="r-1")
    client.request("GET", "/pre-freeze", headers={"x-fc-request-id": "r-2"})
    client.request("GET", "/pre-stop", headers={"x-fc-request-id": "r-3"})
    assert capsys.readouterr().out.splitlines() == [
        "FC Initialize Start RequestId: r-0",
        "FC Initialize End RequestId: r-0",
        "FC Invoke Start RequestId: r-1",
        "FC Invoke End RequestId: r-1",
        "FC PreFreeze Start RequestId: r-2",
        "FC PreFreeze End RequestId: r-2",
        "FC PreStop Start RequestId: r-3",
        "FC PreStop End RequestId: r-3",
    ]


def test_initialize_is_idempotent_and_makes_the_instance_ready(
    worker: ScriptedWorker, client: Client
) -> None:
    assert client.request("GET", "/healthz")[0].status == 503
    for _ in range(3):
        response, answer = client.request("POST", "/initialize")
        assert status_pair(response) == (200, "200")
        assert answer == {"ready": True}
    assert worker.steps == ["warm"]
    assert client.request("GET", "/healthz")[0].status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("warm_error", "code"),
    [(Unavailable("STORAGE_UNAVAILABLE"), "STORAGE_UNAVAILABLE"), (OSError("x"), "INTERNAL")],
    ids=["error", "crash"],
)
def test_a_failed_initialize_says_why_and_may_be_tried_again(
    worker: ScriptedWorker, client: Client, warm_error: Exception, code: str
) -> None:
    worker.warm_error = warm_error
    response, answer = client.request("POST", "/initialize")
    assert status_pair(response) == (404, "404")
    assert answer["error"]["code"] == code
    assert client.request("GET", "/healthz")[0].status == 503
    worker.warm_error = None
    assert client.request("POST", "/initialize")[0].status == 200


@pytest.mark.slow
def test_health_and_a_second_initialize_wait_for_a_slow_first_one(
    worker: ScriptedWorker, client: Client
) -> None:
    worker.warm_seconds = 0.4
    other = Client(client.port)
    first = threading.Thread(target=other.request, args=("POST", "/initialize"))
    first.start()
    while not worker.steps:
        time.sleep(0.005)
    assert client.request("GET", "/healthz")[0].status == 503
    assert client.request("POST", "/initialize")[1] == {"ready": True}
    first.join()
    other.connection.close()
    assert worker.steps == ["warm"]


def test_a_permanent_error_at_start_fails_initialize(
    worker: ScriptedWorker, client: Client
) -> None:
    worker.warm_error = Failed("INTERNAL")
    assert client.request("POST", "/initialize")[0].status == 404


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_calls_run_at_once_and_the_rest_wait(worker: ScriptedWorker, at_once: int) -> None:
    with running_server(worker, at_once=at_once) as client:
        answers = invoke_in_parallel(client.port, [{"sleep": 0.02}] * 20)
        assert {status_pair(response) for response, _ in answers} == {(200, "200")}
        assert worker.max_running == at_once
        assert len(worker.calls) == 20
        waiting = threading.Thread(
            target=invoke_in_parallel, args=(client.port, [{"sleep": 0.2}] * at_once)
        )
        waiting.start()
        while worker.running < at_once:
            time.sleep(0.005)
        client.request("GET", "/pre-freeze")
        assert worker.running == 0
        waiting.join()


@pytest.mark.slow
def test_requests_beyond_the_tokens_are_told_to_retry(
    worker: ScriptedWorker, client: Client
) -> None:
    answers = invoke_in_parallel(client.port, [{"sleep": 0.5}] + [{"sleep": 0.001}] * 75)
    refused = [answer for response, answer in answers if status_pair(response) == (404, "404")]
    assert 20 <= len(refused) <= 26
    assert {answer["error"]["code"] for answer in refused} == {"OVERLOADED"}
    assert len(worker.calls) == 76 - len(refused)
    answers = invoke_in_parallel(client.port, [{"sleep": 0.001}] * 50)
    assert {status_pair(response) for response, _ in answers} == {(200, "200")}


@pytest.mark.slow
def test_health_answers_while_a_job_runs(worker: ScriptedWorker, client: Client) -> None:
    job = threading.Thread(target=invoke_in_parallel, args=(client.port, [{"sleep": 2}]))
    job.start()
    while not worker.running:
        time.sleep(0.005)
    start = time.monotonic()
    assert client.request("GET", "/healthz")[0].status == 200
    assert time.monotonic() - start < 1.5
    assert worker.running == 1
    job.join()


@pytest.mark.slow
def test_pre_stop_lets_the_job_finish_then_closes_once(
    worker: ScriptedWorker, client: Client
) -> None:
    answers = []
    job = threading.Thread(
        target=lambda: answers.extend(
            invoke_in_parallel(client.port, [{"sleep": 0.3}, {"sleep": 0.3}])
        )
    )
    job.start()
    while not worker.running:
        time.sleep(0.005)
    time.sleep(0.1)
    assert status_pair(client.request("GET", "/pre-stop")[0]) == (200, "200")
    assert worker.steps == ["warm", "handled", "close"]
    assert client.request("GET", "/pre-stop")[0].status == 200
    job.join()
    assert sorted(status_pair(response) for response, _ in answers) == [(200, "200"), (404, "404")]
    assert worker.steps.count("close") == 1


def test_a_stopped_instance_takes_no_work_until_it_is_initialized_again(
    worker: ScriptedWorker, client: Client
) -> None:
    client.request("GET", "/pre-stop")
    response, answer = client.invoke(b"")
    assert status_pair(response) == (404, "404")
    assert answer["error"]["code"] == "JOB_BUSY"
    assert client.request("GET", "/healthz")[0].status == 503
    client.request("POST", "/initialize")
    assert status_pair(client.invoke(b"")[0]) == (200, "200")
    client.request("GET", "/pre-stop")
    assert worker.steps == ["close", "warm", "handled", "close"]


@pytest.mark.slow
def test_a_job_that_exceeds_the_drain_time_does_not_block_the_stop() -> None:
    worker = ScriptedWorker()
    with running_server(worker, drain_seconds=0.1) as client:
        job = threading.Thread(target=invoke_in_parallel, args=(client.port, [{"sleep": 0.6}]))
        job.start()
        while not worker.running:
            time.sleep(0.005)
        start = time.monotonic()
        assert client.request("GET", "/pre-stop")[0].status == 200
        assert time.monotonic() - start < 0.45
        assert worker.steps == ["warm", "close"]
        job.join()


@pytest.mark.slow
def test_pre_freeze_waits_for_the_job_and_keeps_the_instance_open(
    worker: ScriptedWorker, client: Client
) -> None:
    job = threading.Thread(target=invoke_in_parallel, args=(client.port, [{"sleep": 0.2}]))
    job.start()
    while not worker.running:
        time.sleep(0.005)
    client.request("GET", "/pre-freeze")
    assert worker.steps == ["warm", "handled"]
    job.join()
    assert client.invoke(b"")[0].status == 200


def test_stopping_the_server_closes_the_worker() -> None:
    worker = ScriptedWorker()
    with running_server(worker) as client:
        client.invoke(b"")
    assert worker.steps == ["warm", "handled", "close"]


def test_a_body_over_the_limit_is_refused_unread(worker: ScriptedWorker, client: Client) -> None:
    response, answer = client.request("POST", "/invoke", bytes(MAX_BODY + 1))
    assert status_pair(response) == (413, "404")
    assert answer["error"]["code"] == "HTTP_413"
    assert worker.calls == []
    assert client.request("GET", "/")[0].status == 200


def test_a_body_in_chunks_is_joined(worker: ScriptedWorker, client: Client) -> None:
    client.connection.request("POST", "/invoke", iter([b"a" * 10, b"b" * 10]), encode_chunked=True)
    assert client.connection.getresponse().status == 200
    assert worker.calls[0][0] == b"a" * 10 + b"b" * 10


def test_a_body_at_the_limit_is_taken(worker: ScriptedWorker, client: Client) -> None:
    assert client.invoke(bytes(MAX_BODY))[1]["bytes"] == MAX_BODY


@pytest.mark.slow
def test_a_caller_that_disconnects_within_the_body_does_no_harm(
    worker: ScriptedWorker, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", client.port)) as raw:
        raw.sendall(b"POST /invoke HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
        time.sleep(0.1)
    time.sleep(0.1)
    assert worker.calls == []
    assert "FC Invoke End" in capsys.readouterr().out
    assert client.invoke(b"")[0].status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/nothing", 404), ("GET", "/invoke", 405), ("POST", "/pre-stop", 405)],
)
def test_unknown_paths_and_methods_are_answered_in_json(
    client: Client, method: str, path: str, expected: int
) -> None:
    response, answer = client.request(method, path)
    assert response.status == expected
    said = {404: "No such path.", 405: "This path does not take this method."}[expected]
    assert answer["error"] == {"code": f"HTTP_{expected}", "message": said}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/invoke"), ("POST", "/initialize"), ("GET", "/pre-stop"), ("GET", "/pre-freeze")],
)
def test_the_http_trigger_cannot_reach_the_control_paths(
    worker: ScriptedWorker, client: Client, method: str, path: str
) -> None:
    response, _ = client.request(method, path, headers={"x-fc-control-path": "/http-invoke"})
    assert response.status == 404
    assert worker.steps == []
    assert worker.calls == []


@pytest.mark.parametrize(
    "values",
    [
        ["/invoke", "/http-invoke"], ["/http-invoke", "/invoke"], ["/invoke", "/invoke"],
        ["/HTTP-invoke"], ["/http-invoke/"], ["/http-invoke "], ["/invoke/"], ["/INVOKE"],
        ["invoke"], ["/invoke, /http-invoke"], ["/invoke?"], [""], ["/anything"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/invoke", "/initialize", "/pre-stop", "/pre-freeze"])
def test_only_the_control_paths_as_the_platform_names_them_are_accepted(
    worker: ScriptedWorker, client: Client, path: str, values: list[str]
) -> None:
    method = "POST" if path in ("/invoke", "/initialize") else "GET"
    client.connection.putrequest(method, path)
    for value in values:
        client.connection.putheader("x-fc-control-path", value)
    client.connection.putheader("content-length", "0")
    client.connection.endheaders()
    response = client.connection.getresponse()
    response.read()
    assert response.status == 404
    assert worker.steps == []
    assert worker.calls == []


@pytest.mark.parametrize("value", ["/invoke", "/initialize", "/pre-stop", "/pre-freeze"])
def test_the_platform_reaches_the_control_paths(
    worker: ScriptedWorker, client: Client, value: str
) -> None:
    response, _ = client.request("POST", "/initialize", headers={"x-fc-control-path": value})
    assert response.status == 200
    assert worker.steps == ["warm"]


def test_the_front_page_says_what_runs(client: Client) -> None:
    response, answer = client.request("GET", "/", headers={"x-fc-control-path": "/http-invoke"})
    assert response.status == 200
    assert answer["service"] == "voicedrop"
    assert set(answer) == {"service", "version", "ready"}


def test_one_connection_serves_many_requests(client: Client) -> None:
    client.invoke(b"")
    socket_before = client.connection.sock
    for _ in range(5):
        client.invoke({"fail": ["Unavailable", "NO_SPACE"]})
        client.request("GET", "/nothing")
    assert client.connection.sock is socket_before


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/invoke", "/initialize"])
def test_answers_carry_no_header_that_the_platform_forbids(client: Client, path: str) -> None:
    response, _ = client.request("POST", path)
    names = {name.lower() for name in response.headers}
    assert names <= {"x-fc-status", "content-type", "content-length"}


def test_connections_are_kept_for_fifteen_minutes() -> None:
    config = server_config(create_app(ScriptedWorker(), lambda _: ProcessTokens(50), Mask()), 9000)
    assert config.timeout_keep_alive == 900
    assert (config.host, config.port) == ("0.0.0.0", 9000)  # noqa: S104
    assert config.workers == 1


@pytest.mark.parametrize(
    "lengths",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Content-Length: +5",
    ],
)
def test_a_request_of_two_lengths_hides_no_second_one(
    worker: ScriptedWorker, client: Client, lengths: str
) -> None:
    hidden = f"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: {len(NOTIFICATION)}\r\n\r\n"
    with socket.create_connection((client.connection.host, client.connection.port)) as raw:
        head = f"GET /healthz HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\n"
        raw.sendall(head.encode() + hidden.encode() + NOTIFICATION)
        raw.shutdown(socket.SHUT_WR)
        answers = b""
        while part := raw.recv(65536):
            answers += part
    assert answers.count(b"HTTP/1.1 ") <= 1
    assert worker.calls == []
