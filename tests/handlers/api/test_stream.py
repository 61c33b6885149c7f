"""Speech over a WebSocket: what a caller hears, and how a conversation ends."""

from __future__ import annotations

import base64
import json
import socket as socket_module
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from anyio import to_thread
from starlette.applications import Starlette
from starlette.testclient import WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import watermark
from core.job.streamed import ListenerLeft
from handlers.api.callers import Tokens, hash_token
from handlers.api.stream import SocketListener
from handlers.cli.serve import create_server
from handlers.server.tokens import ProcessTokens
from tests.support.http_service import ADDRESS, CONSENT, RECORDING, Running, running_service
from tests.support.listeners import TEXT
from tests.support.runtime import find_mark, voice_of

URL = ADDRESS.replace("http", "ws", 1) + "/stream"
FILES: dict[str, Any] = {
    "recording": {"base64": base64.b64encode(RECORDING).decode(), "name": "alice.flac"},
    "consent": {"base64": base64.b64encode(CONSENT).decode()},
}
REQUEST = FILES | {"text": TEXT, "language": "en", "voice": "alice"}

TWO_ITEMS = {
    "schema": "voicedrop/job/1",
    "voices": {"alice": {"language": "en"}},
    "items": [{"id": name, "text": "Words that are spoken."} for name in "ab"],
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with running_service(tmp_path) as running:
        yield running


def hear(
    socket: WebSocketTestSession, until: Callable[[int], bool] = lambda count: False
) -> tuple[Any, Any, Any]:
    """Return what begins a stream, its samples, and what ends it."""
    start, sound = socket.receive_json(), b""
    while True:
        message = socket.receive()
        if "bytes" not in message or message["bytes"] is None:
            return start, np.frombuffer(sound, "<i2") / np.float32(32767), message
        sound += message["bytes"]
        if until(len(sound) // 2):
            socket.send_json({"type": "cancel"})
            until = never


def never(count: int) -> bool:
    return False


def test_a_caller_hears_speech_while_it_is_made(service: Running) -> None:
    with service.client.websocket_connect(URL) as socket:
        socket.send_json(REQUEST)
        start, heard, _ = hear(socket)
    assert {n: start[n] for n in ("type", "item", "rate", "encoding", "channels")} == {
        "type": "start",
        "item": "speech",
        "rate": 24_000,
        "encoding": "s16le",
        "channels": 1,
    }
    assert start["label"]["ProduceID"] == f"{start['job']}/speech"
    keys = service.runtime.keys.watermark
    found = watermark.detect_any(heard.astype(np.float32), 24_000, keys, thorough=False)
    assert find_mark(service.runtime, found.payload or 0).job == start["job"]  # type: ignore[union-attr]
    view = service.client.get(f"/jobs/{start['job']}").json()
    streamed = view["result"]["items"][0]["streamed"]
    assert (streamed["nonce"], streamed["complete"]) == (start["nonce"], True)
    assert streamed["seconds"] == pytest.approx(len(heard) / 24_000, abs=0.001)
    opened = service.client.get(
        f"/jobs/{start['job']}/items/speech", headers={"Accept": "audio/wav"}
    )
    assert len(opened.content) > 2 * len(heard)
    with service.client.websocket_connect(URL) as socket:  # the voice is kept
        socket.send_json({"text": "Some more words, in the same voice.", "voice": "alice"})
        _, _, end = hear(socket)
    assert '"status":"succeeded"' in end["text"]


def test_a_caller_who_cancels_gets_the_result_of_what_was_sent(service: Running) -> None:
    with service.client.websocket_connect(URL) as socket:
        socket.send_json(REQUEST | {"text": TEXT * 30})
        start, heard, _ = hear(socket, lambda count: count > 24_000)
    item = service.client.get(f"/jobs/{start['job']}").json()["result"]["items"][0]
    assert [notice["code"] for notice in item["notices"]] == ["STREAM_SHORTENED"]
    assert item["streamed"]["complete"] is False
    assert item["streamed"]["seconds"] >= len(heard) / 24_000 - 0.001


def test_who_hangs_up_leaves_a_finished_job_and_no_token(tmp_path: Path) -> None:
    tokens = ProcessTokens(1)
    with running_service(tmp_path, tokens=tokens) as service:
        with service.client.websocket_connect(URL) as socket:
            socket.send_json(REQUEST | {"text": TEXT * 30})
            job = socket.receive_json()["job"]
        until = time.monotonic() + 20
        while not service.client.get(f"/jobs/{job}").json()["finished"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert len(voice_of(service.runtime).spoken) == 1
        while (token := tokens.acquire()) is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        tokens.release(token)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("{", "JSON_SYNTAX"),
        ("{}", "REQUEST_INVALID"),
        ('{"text": "Words.", "voice": "nobody"}', "VOICE_UNKNOWN"),
        (REQUEST | {"text": ""}, "TEXT_EMPTY"),
        (REQUEST | {"consent": None}, "CONSENT_MISSING"),
        (FILES | {"manifest": TWO_ITEMS}, "FIELD_UNSUPPORTED"),
    ],
)
def test_what_is_refused_leaves_no_job(service: Running, request_: Any, code: str) -> None:
    with service.client.websocket_connect(URL) as socket:
        if isinstance(request_, str):
            socket.send_text(request_)
        else:
            socket.send_json(request_)
        answer = socket.receive_json()
        assert (answer["type"], answer["errors"][0]["code"]) == ("error", code)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1008
    assert not list(service.runtime.inbox.list("jobs/"))


def test_only_callers_who_may_listen_are_admitted(tmp_path: Path) -> None:
    setting = f"acme:clone+listen:{hash_token('good')} poor:clone:{hash_token('poor')}"
    with running_service(tmp_path, Tokens(setting)) as service:
        for token, status in (("bad", 401), ("poor", 403)):
            with (
                pytest.raises(WebSocketDenialResponse) as denied,
                service.client.websocket_connect(URL, headers=bearer(token)),
            ):
                pass
            assert denied.value.status_code == status
        with service.client.websocket_connect(URL, headers=bearer("good")) as socket:
            socket.send_json(REQUEST)
            assert socket.receive_json()["type"] == "start"
        assert [info.key for info in service.runtime.inbox.list("jobs/acme/")]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_page_of_another_site_hears_nothing(service: Running) -> None:
    origin = {"Origin": "http://evil.example"}
    with (
        pytest.raises(WebSocketDisconnect),
        service.client.websocket_connect(URL, headers=origin) as socket,
    ):
        socket.receive_json()


def test_too_many_streams_are_told_to_come_again(tmp_path: Path) -> None:
    with (
        running_service(tmp_path, tokens=ProcessTokens(0)) as service,
        pytest.raises(WebSocketDenialResponse) as denied,
        service.client.websocket_connect(URL),
    ):
        pass
    assert denied.value.status_code == 429


def test_the_client_websockets_hears_it_from_a_server(tmp_path: Path) -> None:
    with running_service(tmp_path) as service, listening(service.app) as port:
        with connect(f"ws://127.0.0.1:{port}/stream", max_size=None) as socket:
            socket.send(json.dumps(REQUEST))
            messages = list(socket)
        assert json.loads(messages[0])["type"] == "start"
        assert all(isinstance(message, bytes) for message in messages[1:-1])
        assert json.loads(messages[-1])["status"] == "succeeded"
        evil = Headers({"Origin": "http://evil.example"})
        with (
            pytest.raises(InvalidStatus),
            connect(f"ws://127.0.0.1:{port}/stream", additional_headers=evil),
        ):
            pass


@contextmanager
def listening(app: Starlette) -> Iterator[int]:
    """Listen as `voicedrop serve` does; yield the port."""
    with socket_module.create_server(("127.0.0.1", 0)) as listener:
        server = create_server(app, "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def test_a_caller_who_takes_nothing_has_left() -> None:
    async def stuck(message: Any) -> None:
        await anyio.sleep_forever()

    listener = SocketListener(stuck, idle_seconds=0.05)

    def speak() -> None:
        with pytest.raises(ListenerLeft):
            listener.hear(np.zeros(9, np.float32))
        with pytest.raises(ListenerLeft):
            listener.check()

    anyio.run(to_thread.run_sync, speak)
