"""The routes of the HTTP interface (docs/http.md; `/openapi.json` describes them)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import anyio
import msgspec
from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from core.crypto.keys import Keyring
from core.errors import Failed, JobError, Refused, Unavailable
from core.storage.object_keys import result_key, trace_key
from core.version import VERSION
from handlers.api import clone, intake, job_views, openapi, speech, traces, voices
from handlers.api.bodies import BoundedBodies, arriving, release_body
from handlers.api.callers import Authenticate, Caller, SameHost, Scope
from handlers.api.clone import CloneRequest, Upload
from handlers.api.intake import Accepted, Count, Desk, RefusedJob, count_nothing
from handlers.api.job_views import JobView
from handlers.api.opened import Opened, find_output, open_output
from handlers.api.problems import answer_error, answer_status
from handlers.api.stream import Speak, StreamRoute
from handlers.api.traces import TraceView
from handlers.server.tokens import Tokens

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

MAX_WAIT = 300.0
"""Seconds that a caller may wait for a result in one request (`Prefer: wait=N`)."""
FIRST_LOOK, LAST_LOOK = 0.05, 0.5
"""Seconds between two looks for a result, at first and in the end."""
_ID = re.compile(r"[0-9a-f]{32}")
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?=$|[,;\s])")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes need."""

    desk: Desk
    authenticate: Authenticate
    tokens: Tokens
    """Each request that stores something holds one."""
    keys: Keyring | None = None
    """None: nothing can be opened here."""
    begin: Callable[[str], None] = lambda key: None
    """Called with the key of a manifest or clip that was stored."""
    speak: Speak | None = None
    """Speaks to callers while they hear; None: no engine is here."""
    count: Count = count_nothing
    """Counts a new job against the quota of its producer."""
    is_full: Callable[[], bool] = lambda: False
    """Whether too many jobs wait for the worker."""


class Routes:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._inbox, self._results = service.desk.inbox, service.desk.results

    async def clone(self, request: Request) -> Response:
        caller = self._caller(request, "clone")
        async with self.token():
            wanted, files = await read_clone(request)
            accepted = await to_thread.run_sync(
                self._store, wanted, files, caller, _idempotency_key(request)
            )
        self._begin(request, accepted.manifest)
        return await self._answer_job(request, accepted.job_id, caller)

    async def speech(self, request: Request) -> Response:
        caller = self._caller(request, "clone", "listen")
        async with self.token():
            _require_type(request, ("application/json",))
            async with arriving():
                wanted = speech.parse_speech(clone.load_json(await request.body()))
            accepted = await to_thread.run_sync(self._store, wanted, {}, caller, "")
        self._begin(request, accepted.manifest)
        if not await self._wait(accepted.job_id, MAX_WAIT):
            raise Unavailable("OVERLOADED", f"Job {accepted.job_id} is not finished yet.")
        headers = {"X-Voicedrop-Job": accepted.job_id}
        return await self._audio(accepted.job_id, "", caller, request, headers)

    async def voices(self, request: Request) -> Response:
        caller = self._caller(request, "read")
        limit, after = _limit(request), request.query_params.get("after", "")
        stores = self._inbox, self._results
        page = await to_thread.run_sync(
            partial(voices.list_voices, caller, *stores, limit=limit, after=after)
        )
        return _json(page)

    async def trace(self, request: Request) -> Response:
        caller = self._caller(request, "trace")
        async with self.token():
            clip = await read_clip(request)
            trace_id, key = await to_thread.run_sync(traces.store_clip, clip, caller, self._inbox)
        self._begin(request, key)
        seconds = _preferred_wait(request)
        await self._wait_for(trace_key(trace_id), seconds)
        view = await self._trace_view(trace_id)
        headers = {"Location": f"/traces/{trace_id}"}
        return _json(view, 200 if view.report else 202, headers)

    async def traced(self, request: Request) -> Response:
        self._caller(request, "trace")
        view = await self._trace_view(_id_of(request, "trace"))
        if not view.report and await self._wait_for(
            trace_key(view.trace), _preferred_wait(request)
        ):
            view = await self._trace_view(view.trace)
        return _json(view)

    async def openapi(self, _: Request) -> Response:
        return Response(await to_thread.run_sync(openapi.document), 200, {}, "application/json")

    async def jobs(self, request: Request) -> Response:
        caller = self._caller(request, "read")
        limit, before = _limit(request), request.query_params.get("before", "")
        page = await to_thread.run_sync(
            partial(
                job_views.list_jobs, caller, self._inbox, self._results, limit=limit, before=before
            )
        )
        return _json(page)

    async def job(self, request: Request) -> Response:
        caller = self._caller(request, "read")
        view = await self._view(_job_id(request), caller)
        if not view.finished and await self._wait(view.job, _preferred_wait(request)):
            view = await self._view(view.job, caller)
        return _json(view)

    async def cancel(self, request: Request) -> Response:
        caller = self._caller(request, "clone")
        view = await self._view(_job_id(request), caller)
        cancelled = await to_thread.run_sync(job_views.cancel_job, view, self._inbox)
        self._service.begin(view.manifest)  # one that waits for a file ends now
        return _json(cancelled, 202)

    async def output(self, request: Request) -> Response:
        """An item or joined file: what the result states about it, or its audio."""
        caller = self._caller(request, "read")
        view = await self._view(_job_id(request), caller)
        if _wants_audio(request):
            return await self._audio(view.job, request.path_params["name"], caller, request)
        found = await to_thread.run_sync(
            find_output, view.job, request.path_params["name"], _is_chapter(request), self._results
        )
        return _json(found)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"service": "voicedrop", "version": VERSION})

    def _caller(self, request: Request, *scopes: Scope) -> Caller:
        caller = self._service.authenticate(request.headers)
        caller.require(*scopes)
        return caller

    @asynccontextmanager
    async def token(self) -> AsyncIterator[None]:
        """Raises Unavailable OVERLOADED if no token is free, or too many jobs wait."""
        token = None
        if not self._service.is_full():
            token = await to_thread.run_sync(self._service.tokens.acquire)
        if token is None:
            raise Unavailable("OVERLOADED")
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._service.tokens.release, token)

    def _store(
        self, wanted: CloneRequest, files: dict[str, Upload], caller: Caller, idempotency: str
    ) -> Accepted:
        desk = self._service.desk
        known = voices.read_voice(wanted.voice, caller, desk.inbox) if wanted.voice else None
        new = clone.to_job(wanted, files, caller, known)
        job = intake.check_job(new, caller, desk)
        return intake.store_job(new, job, caller, desk, idempotency, self._service.count)

    def _begin(self, request: Request, key: str) -> None:
        release_body(request)
        self._service.begin(key)

    async def _trace_view(self, trace_id: str) -> TraceView:
        return await to_thread.run_sync(traces.read_trace, trace_id, self._inbox, self._results)

    async def _view(self, job_id: str, caller: Caller) -> JobView:
        return await to_thread.run_sync(
            job_views.read_job, job_id, caller, self._inbox, self._results
        )

    async def _answer_job(self, request: Request, job_id: str, caller: Caller) -> Response:
        """Answer how far a new job is: with its audio if that is asked for, and as a finished job
        if the caller waits for it."""
        seconds = MAX_WAIT if _wants_audio(request) else _preferred_wait(request)
        is_finished = await self._wait(job_id, seconds)
        headers = {"Location": f"/jobs/{job_id}"}
        if is_finished and _wants_audio(request):
            return await self._audio(job_id, "", caller, request, headers)
        if seconds:
            headers["Preference-Applied"] = f"wait={seconds:g}"
        view = await self._view(job_id, caller)
        return _json(view, 200 if view.finished else 202, headers)

    async def _audio(
        self,
        job_id: str,
        name: str,
        caller: Caller,
        request: Request,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """`name`: of the item or joined file; empty: the first item."""
        caller.require("listen")
        if self._service.keys is None:
            raise Refused("NOT_OPENED_HERE")
        opened: Opened = await to_thread.run_sync(
            open_output, job_id, name, _is_chapter(request), self._results, self._service.keys
        )
        return Response(opened.data, 200, headers or {}, opened.media_type)

    async def _wait(self, job_id: str, seconds: float) -> bool:
        """Wait for the result of a job; return whether it is there."""
        return await self._wait_for(result_key(job_id), seconds)

    async def _wait_for(self, key: str, seconds: float) -> bool:
        pause = FIRST_LOOK
        with anyio.move_on_after(seconds):
            while await to_thread.run_sync(self._results.head, key) is None:
                await anyio.sleep(pause)
                pause = min(pause * 1.5, LAST_LOOK)
            return True
        return False


def create_app(service: Service, *, same_host: str = "") -> Starlette:
    """Return the application. `same_host`: the loopback address on which it listens, where requests
    of other sites are refused; empty if callers identify themselves."""
    routes = Routes(service)
    stream = StreamRoute(service.desk, service.authenticate, routes.token, service.speak)
    guards = [Middleware(SameHost, host=same_host)] if same_host else []
    return Starlette(
        routes=[
            Route("/clone", routes.clone, methods=["POST"]),
            Route("/jobs", routes.jobs),
            Route("/jobs/{job}", routes.job),
            Route("/jobs/{job}", routes.cancel, methods=["DELETE"]),
            Route("/jobs/{job}/items/{name}", routes.output),
            Route("/jobs/{job}/chapters/{name}", routes.output),
            Route("/voices", routes.voices),
            Route("/trace", routes.trace, methods=["POST"]),
            Route("/traces/{trace}", routes.traced),
            Route("/v1/audio/speech", routes.speech, methods=["POST"]),
            Route("/openapi.json", routes.openapi),
            WebSocketRoute("/stream", stream.answer),
            Route("/healthz", routes.health),
        ],
        middleware=[*guards, Middleware(BoundedBodies)],
        exception_handlers={
            JobError: _job_error,
            RefusedJob: _refused_job,
            HTTPException: _http_error,
            Exception: _bug,
        },
    )


async def read_clone(request: Request) -> tuple[CloneRequest, dict[str, Upload]]:
    """Return the request and its files. Raises Refused and HTTPException."""
    kind = _require_type(request, ("application/json", *_FORMS))
    async with arriving():
        if kind == "application/json":
            value = clone.load_json(await request.body())
            wanted = clone.parse_request(value)
            return wanted, clone.decode_files(wanted)
        async with request.form(max_files=4, max_fields=32, max_part_size=MAX_FIELD) as form:
            return await _read_form(form)


async def read_clip(request: Request) -> Upload:
    """Return the clip of a form, or the body itself. Raises Refused and HTTPException."""
    kind = _require_type(request, (_FORMS[0], "application/octet-stream", "audio/"))
    async with arriving():
        if kind != _FORMS[0]:
            return Upload(await request.body())
        async with request.form(max_files=1, max_fields=0) as form:
            clip = form.get("clip")
            if not isinstance(clip, UploadFile):
                raise Refused("REQUEST_INVALID", "Send the file as `clip`.", pointer="/clip")
            return await _read_upload(clip)


def _require_type(request: Request, kinds: tuple[str, ...]) -> str:
    """Return the media type of the body. Raises HTTPException 415 if it is none of these; one that
    ends with a slash stands for all subtypes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any(kind == one or (one.endswith("/") and kind.startswith(one)) for one in kinds):
        raise HTTPException(415, f"Send {' or '.join(kinds)}.")
    return kind


_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
MAX_FIELD = 32 << 20
"""Bytes of a field of a form; a manifest may have as many."""


async def _read_form(form: FormData) -> tuple[CloneRequest, dict[str, Upload]]:
    fields: dict[str, str] = {}
    files: dict[str, Upload] = {}
    for name, value in form.multi_items():
        pointer = f"/{name[:80]}"
        if name in fields or name in files:
            raise Refused("REQUEST_INVALID", "The form has this field twice.", pointer=pointer)
        if isinstance(value, str):
            fields[name] = value
        elif name == "manifest":
            fields[name] = (await value.read()).decode(errors="surrogateescape")
        elif name in clone.FILES:
            files[name] = await _read_upload(value)
        else:
            raise Refused("REQUEST_INVALID", "There is no file of this name.", pointer=pointer)
    return clone.parse_form(fields), files


async def _read_upload(file: UploadFile) -> Upload:
    return Upload(await file.read(), file.filename or "")


def _json(view: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(view), status, headers, "application/json")


def _job_id(request: Request) -> str:
    return _id_of(request, "job")


def _id_of(request: Request, what: str) -> str:
    found: str = request.path_params[what]
    if not _ID.fullmatch(found):
        raise Refused("OBJECT_MISSING", f"There is no such {what}.", pointer=f"/{what}", advice="")
    return found


def _is_chapter(request: Request) -> bool:
    return "/chapters/" in request.url.path


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "20")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= job_views.MAX_PAGE):
        message = f"A page has 1 to {job_views.MAX_PAGE} entries."
        raise Refused("REQUEST_INVALID", message, pointer="/limit")
    return int(text)


def _preferred_wait(request: Request) -> float:
    """Return how long the caller prefers to wait for the result (RFC 7240), in seconds."""
    found = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return min(float(found[1]), MAX_WAIT) if found else 0.0


def _wants_audio(request: Request) -> bool:
    return request.headers.get("accept", "").strip().lower().startswith("audio/")


def _idempotency_key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if key and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "An Idempotency-Key has 1 to 255 printable ASCII characters without spaces."
        raise Refused("REQUEST_INVALID", message, pointer="/Idempotency-Key")
    return key


async def _job_error(request: Request, raised: Exception) -> Response:
    return answer_error(cast(JobError, raised), path=request.url.path)


async def _refused_job(request: Request, raised: Exception) -> Response:
    errors = cast(RefusedJob, raised).errors
    return answer_error(errors[0], errors=errors, path=request.url.path)


async def _http_error(request: Request, raised: Exception) -> Response:
    error = cast(HTTPException, raised)
    headers = dict(error.headers or {})
    return answer_status(error.status_code, error.detail, request.url.path, headers)


async def _bug(request: Request, _: Exception) -> Response:
    return answer_error(Failed("INTERNAL"), path=request.url.path)
