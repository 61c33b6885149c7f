"""The server as a process, as the container starts it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import Misconfigured
from handlers.server.app import port_of
from handlers.server.jsonlog import JsonLines
from handlers.server.secrecy import Mask
from tests.support.running_server import Client

ROOT = Path(__file__).parents[3]


def spawn(**environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.server_process"],
        cwd=ROOT,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(**environ: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    port = free_port()
    with spawn(FC_SERVER_PORT=str(port), **environ) as process:
        client = Client(port)
        try:
            for _ in range(400):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.025)
            yield process, client
        finally:
            client.connection.close()
            process.kill()


@pytest.mark.slow
def test_sigterm_lets_the_job_finish_then_closes_the_worker() -> None:
    with running() as (process, client):
        answers = []
        job = threading.Thread(
            target=lambda: answers.append(client.invoke({"sleep": 0.7}, x_fc_request_id="r-1"))
        )
        job.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line == "FC Invoke Start RequestId: r-1\n":
                break
        process.send_signal(signal.SIGTERM)
        job.join()
        rest, errors = process.communicate(timeout=10)
    assert answers[0][0].status == 200
    assert "FC Invoke End RequestId: r-1\n" in rest
    assert rest.index("closed\n") > rest.index("FC Invoke End")
    assert errors == ""


@pytest.mark.slow
def test_everything_else_in_the_log_is_one_json_object_a_line() -> None:
    with running() as (process, client):
        client.invoke({"crash": "two\nlines"}, x_fc_request_id="r-1")
        client.connection.close()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert errors == ""
    lines = [line for line in output.splitlines() if not line.startswith(("FC ", "closed"))]
    records = [json.loads(line) for line in lines]
    assert all({"time", "level", "logger", "message"} <= set(record) for record in records)
    (failure,) = [record for record in records if record["level"] == "ERROR"]
    assert failure["request_id"] == "r-1"
    assert failure["error"]["code"] == "INTERNAL"
    assert "two\nlines" in failure["trace"]


@pytest.mark.slow
def test_the_server_logs_why_it_cannot_start() -> None:
    with spawn(TEST_NO_KEYS="1") as process:
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors == ""
    record = json.loads(output)
    assert (record["level"], record["code"]) == ("CRITICAL", "KEY_NOT_FOUND")


@pytest.mark.slow
def test_the_real_server_names_the_setting_it_cannot_start_with() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "handlers.server"],
        cwd=ROOT,
        env=os.environ | {"VOICEDROP_CONSENT": "perhaps"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (1, "")
    record = json.loads(run.stdout)
    assert record["code"] == "SETTING_INVALID"
    assert "VOICEDROP_CONSENT" in record["error"]


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 9000),
        ({"FC_SERVER_PORT": "8080", "FC_CUSTOM_LISTEN_PORT": "1"}, 8080),
        ({"FC_CUSTOM_LISTEN_PORT": "8081"}, 8081),
        ({"FC_SERVER_PORT": "", "FC_CUSTOM_LISTEN_PORT": "8081"}, 8081),
    ],
    ids=["default", "first", "second", "empty"],
)
def test_the_platform_names_the_port(environ: dict[str, str], port: int) -> None:
    assert port_of(environ) == port


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "8e3", "٣"])
def test_an_invalid_port_is_refused_with_its_variable(text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        port_of({"FC_CUSTOM_LISTEN_PORT": text})
    assert caught.value.code == "SETTING_INVALID"
    assert "FC_CUSTOM_LISTEN_PORT" in caught.value.message


@pytest.mark.slow
def test_importing_the_server_is_quick_and_loads_nothing_heavy() -> None:
    code = """
import sys, time
start = time.perf_counter()
import handlers.server
took = time.perf_counter() - start
heavy = {"numpy", "scipy", "librosa", "onnxruntime", "oss2", "soundfile", "uvicorn", "msgspec"}
print(took, sorted(heavy & set(sys.modules)))
"""
    best = 10.0
    for _ in range(2):  # the first may have to compile
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        took, heavy = run.stdout.split(maxsplit=1)
        assert heavy.strip() == "[]"
        best = min(best, float(took))
    assert best < 1.0


def test_a_logged_exception_is_part_of_its_line() -> None:
    record = logging.makeLogRecord({"msg": "x %s", "args": ("y",), "levelname": "ERROR"})
    why = ValueError("why")
    record.exc_info = (type(why), why, None)
    line = JsonLines(Mask()).format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "x y"
    assert "ValueError: why" in json.loads(line)["trace"]


def test_secrets_are_masked_in_every_field_of_a_line() -> None:
    record = logging.makeLogRecord({"msg": "x", "keys": ["very-secret", ("very-secret", 1)]})
    line = JsonLines(Mask(["very-secret"])).format(record)
    assert json.loads(line)["keys"] == ["***", ["***", 1]]
