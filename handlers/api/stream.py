"""`WS /stream`: speech that is heard while it is made (docs/streams.md).

    caller   text    the fields of POST /clone as JSON, files in base64
                     {"type": "cancel"} at any time afterwards
    server   text    `Started`, before the first sound
             binary  samples: 16 bits, signed, little-endian, mono
             text    `Ended`, or `NotSpoken` if there is no job; then the socket is closed

A thread speaks, and waits until the caller has taken what it sent.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import anyio
import msgspec
import numpy as np
from anyio import CapacityLimiter, from_thread, to_thread
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from core.audio.waveform import Samples
from core.errors import JobError, Refused, Unavailable
from core.job.streamed import Listener, ListenerLeft, StreamStart, only_item
from core.label.aigc import Aigc
from core.result.document import Result, Status
from core.result.item_result import Problem
from handlers.api import clone, intake, voices
from handlers.api.callers import Authenticate, Caller
from handlers.api.intake import Desk, RefusedJob
from handlers.api.problems import answer_error

MAX_MESSAGE = 16 << 20
"""Bytes of a message of a caller: a request with its recording in base64."""
REQUEST_SECONDS = 30.0
"""How long the request may take to arrive."""
IDLE_SECONDS = 60.0
"""How long a caller may take nothing of what was sent."""
NORMAL, REFUSED, LATER = 1000, 1008, 1013
"""Codes with which the socket is closed (RFC 6455 and the registry of IANA)."""
_PCM = np.dtype("<i2")


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="start", tag_field="type"):
    """The sound begins."""

    job: str
    item: str
    rate: int
    """Samples a second."""
    encoding: str = "s16le"
    channels: int = 1
    nonce: str
    """Where the watermark starts, as in the result."""
    label: Aigc | None
    """The label that the law requires; null if it is waived."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="type"):
    """The job is finished; `GET /jobs/JOB` answers its signed result."""

    job: str
    status: Status
    seconds: float
    """Of sound that were sent."""
    complete: bool
    """Whether that is all."""
    error: Problem | None = None


class NotSpoken(msgspec.Struct, frozen=True, kw_only=True, tag="error", tag_field="type"):
    """The request was refused, or the job is not finished."""

    errors: list[Problem]


class _Cancel(msgspec.Struct, tag="cancel", tag_field="type"):
    """The caller wants to hear no more."""


class Speak(Protocol):
    def __call__(self, key: str, manifest: bytes, listener: Listener) -> Result:
        """Speak a new manifest to a listener, as `handlers.jobs.carry_out_stream` does."""
        ...


class StreamRoute:
    def __init__(
        self,
        desk: Desk,
        authenticate: Authenticate,
        hold_token: Callable[[], AbstractAsyncContextManager[None]],
        speak: Speak | None,
    ) -> None:
        """`speak`: None if no engine is here."""
        self._desk, self._authenticate = desk, authenticate
        self._hold_token, self._speak = hold_token, speak
        # The tokens limit how many streams there are.
        self._threads = CapacityLimiter(10_000)

    async def answer(self, socket: WebSocket) -> None:
        try:
            caller = self._authenticate(socket.headers)
            caller.require("clone", "listen")
            if self._speak is None:
                raise Refused("NOT_OPENED_HERE")
            async with self._hold_token():
                await socket.accept()
                await self._converse(socket, caller, self._speak)
        except JobError as exc:
            if socket.client_state != WebSocketState.CONNECTING:
                raise
            await socket.send_denial_response(answer_error(exc, path=socket.url.path))
        except WebSocketDisconnect:
            return

    async def _converse(self, socket: WebSocket, caller: Caller, speak: Speak) -> None:
        try:
            with anyio.fail_after(REQUEST_SECONDS):
                request = await socket.receive()
            key, manifest = await to_thread.run_sync(self._prepare, request, caller)
            result = await self._speak_to(socket, partial(speak, key, manifest))
        except TimeoutError:
            await _close(socket, [Refused("REQUEST_INVALID", "No request arrived.")])
        except RefusedJob as exc:
            await _close(socket, exc.errors)
        except JobError as exc:
            await _close(socket, [exc])
        else:
            await _send(socket, _describe_end(result))
            await socket.close(NORMAL)

    def _prepare(self, message: Message, caller: Caller) -> tuple[str, bytes]:
        """Return the key and the bytes of the manifest, of which everything else is stored."""
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        wanted = clone.parse_request(clone.load_json((message.get("text") or "").encode()))
        known = voices.read_voice(wanted.voice, caller, self._desk.inbox) if wanted.voice else None
        new = clone.to_job(wanted, clone.decode_files(wanted), caller, known)
        job = intake.check_job(new, caller, self._desk)
        only_item(job)
        return intake.store_all_but_manifest(new, job, caller, self._desk), new.manifest

    async def _speak_to(self, socket: WebSocket, speak: Callable[[Listener], Result]) -> Result:
        """Speak in a thread, while messages of the caller are read. Raises JobError."""
        listener = SocketListener(socket.send)
        outcome: list[Result | JobError] = []
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, socket, listener)
            try:
                outcome += [await to_thread.run_sync(speak, listener, limiter=self._threads)]
            except JobError as exc:
                outcome += [exc]
            group.cancel_scope.cancel()
        if isinstance(outcome[0], JobError):
            raise outcome[0]
        return outcome[0]


class SocketListener:
    """Sends a stream to a caller, from the thread that speaks."""

    def __init__(
        self, send: Callable[[Any], Awaitable[None]], *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._send_message, self._idle_seconds = send, idle_seconds
        self.left = threading.Event()
        """Set if the caller hung up or wants to hear no more."""

    def begin(self, start: StreamStart) -> None:
        started = Started(
            job=start.job_id,
            item=start.item_id,
            rate=start.rate,
            nonce=start.nonce,
            label=start.label,
        )
        self._send({"text": msgspec.json.encode(started).decode()})

    def hear(self, samples: Samples) -> None:
        self._send({"bytes": np.rint(np.clip(samples, -1, 1) * 32767).astype(_PCM).tobytes()})

    def check(self) -> None:
        if self.left.is_set():
            raise ListenerLeft

    def _send(self, content: dict[str, Any]) -> None:
        self.check()
        try:
            from_thread.run(self._deliver, {"type": "websocket.send", **content})
        except Exception as exc:  # it hung up, or takes nothing
            self.left.set()
            raise ListenerLeft from exc

    async def _deliver(self, message: dict[str, Any]) -> None:
        """Return when the server can take more. It waits while too much is under way."""
        with anyio.fail_after(self._idle_seconds):
            await self._send_message(message)


async def _watch(socket: WebSocket, listener: SocketListener) -> None:
    """Tell the listener that the caller hung up or cancelled."""
    while not listener.left.is_set():
        message = await socket.receive()
        if message["type"] == "websocket.disconnect" or _is_cancel(message.get("text")):
            listener.left.set()


def _is_cancel(text: str | None) -> bool:
    try:
        return isinstance(msgspec.json.decode(text or "", type=_Cancel), _Cancel)
    except msgspec.DecodeError:
        return False


def _describe_end(result: Result) -> Ended:
    item = result.items[0] if result.items else None
    streamed = item.streamed if item else None
    return Ended(
        job=result.job_id,
        status=result.status,
        seconds=streamed.seconds if streamed else 0.0,
        complete=bool(streamed and streamed.complete),
        error=result.error or (item.error if item else None),
    )


async def _close(socket: WebSocket, errors: list[JobError]) -> None:
    await _send(socket, NotSpoken(errors=[Problem.from_error(error) for error in errors]))
    is_late = isinstance(errors[0], Unavailable)
    await socket.close(LATER if is_late else REFUSED, errors[0].code)


async def _send(socket: WebSocket, message: msgspec.Struct) -> None:
    await socket.send_text(msgspec.json.encode(message).decode())
