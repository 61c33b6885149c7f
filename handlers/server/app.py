"""The custom-container contract of Function Compute over HTTP.

    POST /invoke      carry out a notification: 200 when done, 404 to have it delivered again
    POST /initialize  load the models; does nothing if they are loaded
    GET  /pre-stop    accept no more work, wait for the calls in progress, drop the models
    GET  /pre-freeze  wait for the calls in progress
    GET  /healthz     200 when ready for work, 503 when not
    GET  /            name and version; the HTTP trigger reaches only this and /healthz

The platform reads the header `x-fc-status`, not the status line: without the header every answer
counts as success and the notification is lost. After a 404 it is delivered again, and after the
last attempt it goes to the failure destination of s.yaml.
Source: Alibaba Cloud, "Custom container: function handler, lifecycle hooks, health checks".
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import Failed, JobError, Misconfigured, Unavailable
from core.version import VERSION
from handlers.server.instance import DRAIN_SECONDS, Instance, Worker
from handlers.server.jsonlog import current_request, log_to
from handlers.server.secrecy import Mask, disable_core_dumps, find_secrets
from handlers.server.tokens import Tokens, create_tokens

if TYPE_CHECKING:
    import uvicorn

    from core.settings import Settings
    from core.storage.oss import Credentials

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

log = logging.getLogger("voicedrop.server")

MAX_BODY = 1024 * 1024  # an asynchronous call has at most 128 KiB, a batch of EventBridge 256 KiB
BODY_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 900  # the platform reuses connections for 15 minutes
# How soon the platform repeats is not documented. If it did so at once, all its attempts could fall
# within the lease of a worker that has just been killed, and the job would not be finished.
RETRY_PAUSE_SECONDS = 5.0


_CONTROL_PATHS: tuple[list[str], ...] = (
    [],
    ["/invoke"],
    ["/initialize"],
    ["/pre-stop"],
    ["/pre-freeze"],
)
"""The values of `x-fc-control-path` with which the platform calls the control paths."""


class Endpoints:
    def __init__(self, instance: Instance, mask: Mask, retry_pause: float) -> None:
        self._instance, self._mask, self._retry_pause = instance, mask, retry_pause

    async def invoke(self, request: Request) -> Response:
        request_id = _check_caller(request)
        with _request_log("Invoke", request_id):
            body = await _body(request)
            try:
                credentials = credentials_of(request.headers)
                self._mask.add(credentials)
                summary = await self._instance.work(body, credentials, request_id)
            except Exception as error:
                if isinstance(error, Unavailable):
                    await anyio.sleep(self._retry_pause)
                return _failure(error, request_id, self._mask)
            return Response(summary, headers={"x-fc-status": "200"}, media_type="application/json")

    def hook(self, phase: str, step: Callable[[Credentials | None], Awaitable[None]]) -> Endpoint:
        async def answer(request: Request) -> Response:
            request_id = _check_caller(request)
            with _request_log(phase, request_id):
                credentials = credentials_of(request.headers)
                self._mask.add(credentials)
                try:
                    await step(credentials)
                except Exception as error:
                    return _failure(error, request_id, self._mask, final=404)
                return JSONResponse({"ready": self._instance.ready}, headers={"x-fc-status": "200"})

        return answer

    async def healthz(self, _: Request) -> Response:
        ready = self._instance.ready
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    async def about(self, _: Request) -> Response:
        ready = self._instance.ready
        return JSONResponse({"service": "voicedrop", "version": VERSION, "ready": ready})


def create_app(
    worker: Worker,
    open_tokens: Callable[[Credentials | None], Tokens],
    mask: Mask,
    *,
    drain_seconds: float = DRAIN_SECONDS,
    retry_pause: float = 0.0,
    at_once: int = 1,
) -> Starlette:
    """`at_once`: how many calls are carried out at once; more wait."""
    instance = Instance(worker, open_tokens, drain_seconds, at_once)
    endpoints = Endpoints(instance, mask, retry_pause)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await instance.stop()

    return Starlette(
        routes=[
            Route("/invoke", endpoints.invoke, methods=["POST"]),
            Route("/initialize", endpoints.hook("Initialize", instance.reopen), methods=["POST"]),
            Route("/pre-stop", endpoints.hook("PreStop", lambda _: instance.stop())),
            Route("/pre-freeze", endpoints.hook("PreFreeze", lambda _: instance.drain())),
            Route("/healthz", endpoints.healthz),
            Route("/", endpoints.about),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


def _check_caller(request: Request) -> str:
    """Return the request's id. Accepts only requests that the platform makes itself.

    To those of the HTTP trigger it adds `x-fc-control-path: /http-invoke`: there the caller chooses
    the path, and anyone on the internet could start jobs or stop the instance. A request without
    that header does not come from the trigger.
    """
    if request.headers.getlist("x-fc-control-path") not in _CONTROL_PATHS:
        raise HTTPException(404, "No such path.")
    return request.headers.get("x-fc-request-id") or uuid.uuid4().hex


@contextmanager
def _request_log(phase: str, request_id: str) -> Iterator[None]:
    """Print the lines by which the platform assigns log lines to requests, and have the lines
    between them state the id."""
    _print(f"FC {phase} Start RequestId: {request_id}")
    token = current_request.set(request_id)
    try:
        yield
    finally:
        current_request.reset(token)
        _print(f"FC {phase} End RequestId: {request_id}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # an instance may be frozen as soon as it has answered


async def _body(request: Request) -> bytes:
    body, headers = bytearray(), {"x-fc-status": "404"}
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    message = f"The body is larger than {MAX_BODY} bytes."
                    raise HTTPException(413, message, headers=headers)
    except TimeoutError:
        message = f"The body did not arrive within {BODY_SECONDS:g} s."
        raise HTTPException(408, message, headers=headers) from None
    except ClientDisconnect:
        raise HTTPException(400, "The body is incomplete.", headers=headers) from None
    return bytes(body)


def credentials_of(headers: Mapping[str, str]) -> Credentials | None:
    """Return the credentials of the function's role, or None if the platform puts them into the
    environment."""
    key, secret = headers.get("x-fc-access-key-id"), headers.get("x-fc-access-key-secret")
    if not key or not secret:
        return None
    from core.storage.oss import Credentials

    return Credentials(key, secret, headers.get("x-fc-security-token", ""))


def _failure(error: Exception, request_id: str, mask: Mask, *, final: int = 200) -> Response:
    """Answer 404 if the notification must be delivered again, else `final`.

    It must be after errors that an operator has to correct (keys, buckets), too, because nothing
    was recorded about the job yet.
    """
    known = error if isinstance(error, JobError) else Failed("INTERNAL")
    is_retryable = known.retry or known is not error or isinstance(known, Misconfigured)
    fields: dict[str, Any] = {
        "code": known.code,
        "message": mask(known.message),
        "advice": known.advice,
        "pointer": mask(known.pointer),
        "retryable": is_retryable,
    }
    extra = {"request_id": request_id, "error": fields}
    if known is error:
        log.warning("request failed", extra=extra)
    else:
        trace = mask("".join(traceback.format_exception(error)))
        log.error("request failed", extra=extra | {"trace": trace})
    status = 404 if is_retryable else final
    return JSONResponse({"error": fields}, status, headers={"x-fc-status": str(status)})


_ROUTER_MESSAGES = {404: "No such path.", 405: "This path does not take this method."}
"""Status code -> message, in place of those of the router."""


async def _http_error(_: Request, raised: Exception) -> Response:
    error = cast(HTTPException, raised)
    message = _ROUTER_MESSAGES.get(error.status_code, error.detail)
    fields = {"code": f"HTTP_{error.status_code}", "message": message}
    return JSONResponse({"error": fields}, error.status_code, headers=error.headers)


def server_config(app: Starlette, port: int) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        app,
        host="0.0.0.0",  # noqa: S104  (the platform calls from outside the container)
        port=port,
        loop="asyncio",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,  # the platform forbids both
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(DRAIN_SECONDS),
    )


WorkerFrom: TypeAlias = Callable[[Mapping[str, str], Callable[[str], None]], Worker]
"""Creates the worker from the environment, and a function that gets secrets to be masked."""


def serve(worker_from: WorkerFrom, environ: Mapping[str, str]) -> int:
    """Run until SIGTERM; return 1 if the settings are wrong, which is logged."""
    import uvicorn

    from core.settings import SETTINGS, Settings
    from handlers import metrics

    disable_core_dumps()
    mask = Mask(find_secrets(environ, SETTINGS["keys"].read(environ)))
    log_to(sys.stdout, mask)
    try:
        port = port_of(environ)
        settings = Settings.from_environ(environ)
        open_tokens = _token_opener(settings, environ, mask)
        worker = worker_from(environ, mask.add_secret)
        metrics.start(settings.metrics)
    except JobError as error:
        log.critical("cannot start", extra={"code": error.code, "error": error.message})
        return 1
    pause, at_once = RETRY_PAUSE_SECONDS, settings.calls
    app = create_app(worker, open_tokens, mask, retry_pause=pause, at_once=at_once)
    uvicorn.Server(server_config(app, port)).run()
    return 0


def _token_opener(
    settings: Settings, environ: Mapping[str, str], mask: Mask
) -> Callable[[Credentials | None], Tokens]:
    """Return what opens the tokens, with the credentials of the function's role if the setting only
    says where the URL of the Redis is. Raises Misconfigured SETTING_INVALID for another setting."""
    from handlers.secret_settings import is_reference
    from handlers.wiring import CurrentCredentials, secret_reader

    if not settings.redis or not is_reference(settings.redis):
        tokens = create_tokens(settings, settings.redis)
        return lambda _: tokens
    current = CurrentCredentials(environ)
    reader = secret_reader(settings, current, mask.add_secret)

    def open_tokens(given: Credentials | None) -> Tokens:
        with current.of_call(given):
            return create_tokens(settings, reader.reveal("VOICEDROP_REDIS", settings.redis))

    return open_tokens


def port_of(environ: Mapping[str, str]) -> int:
    """Raises Misconfigured SETTING_INVALID."""
    names = ("FC_SERVER_PORT", "FC_CUSTOM_LISTEN_PORT")
    name = next((name for name in names if environ.get(name)), names[0])
    text = environ.get(name) or "9000"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise Misconfigured("SETTING_INVALID", f"{name} must be a port from 1 to 65535.")
    return int(text)


def main() -> int:
    from handlers.worker import worker_from

    return serve(worker_from, os.environ)
