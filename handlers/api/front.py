"""The front function in the cloud: it checks, stores and reports, and has neither engine nor keys.

    python -m handlers.api      in the container of the function, from the same image as the worker

A bad request wakes no card: nothing is stored for it, so that no notification is sent. Sealed
outputs are answered as addresses that are signed for a quarter of an hour; consumers with keys open
them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import JobError
from core.job.label_policy import LabelPolicy
from core.settings import SETTINGS, ConsentPolicy, Settings
from core.storage.port import Store
from core.text.spoken import FrontEnd
from handlers import wiring
from handlers.api.app import Service, create_app
from handlers.api.callers import choose_authentication
from handlers.server.app import credentials_of, port_of, server_config
from handlers.server.jsonlog import log_to
from handlers.server.secrecy import Mask, disable_core_dumps, find_secrets
from handlers.server.tokens import ProcessTokens
from handlers.wiring import CurrentCredentials

EVERYWHERE = "0.0.0.0"  # noqa: S104  (the platform calls from outside the container)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What the front needs of a `Runtime`."""

    inbox: Store
    results: Store
    consent: ConsentPolicy
    front_end: FrontEnd
    labels: LabelPolicy
    producer: str


class TakeCredentials:
    """Uses the credentials of the function's role that the platform puts into each request; a
    caller cannot send such headers."""

    def __init__(self, app: ASGIApp, credentials: CurrentCredentials, mask: Mask) -> None:
        self._app, self._credentials, self._mask = app, credentials, mask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = credentials_of(Headers(scope=scope)) if scope["type"] == "http" else None
        self._mask.add(given)
        with self._credentials.of_call(given):
            await self._app(scope, receive, send)


def create_front(settings: Settings, credentials: CurrentCredentials, mask: Mask) -> Starlette:
    """Raises Misconfigured, as if no caller needs a token."""
    settings.refuse_loops()
    desk = Front(
        inbox=wiring.open_store(settings.inbox, settings, credentials),
        results=wiring.open_store(settings.results, settings, credentials),
        consent=settings.consent,
        front_end=wiring.engine_front_end(settings),
        labels=wiring.label_policy(settings),
        producer=settings.label_producer,
    )
    service = Service(
        desk=desk,
        authenticate=choose_authentication(settings, EVERYWHERE),
        tokens=ProcessTokens(settings.tokens),
    )
    app = create_app(service)
    app.add_middleware(TakeCredentials, credentials=credentials, mask=mask)
    return app


def serve(environ: Mapping[str, str]) -> int:
    """Run until SIGTERM; return 1 if the settings are wrong, which is logged."""
    import logging

    disable_core_dumps()
    mask = Mask(find_secrets(environ, SETTINGS["keys"].read(environ)))
    log_to(sys.stdout, mask)
    try:
        port = port_of(environ)
        app = create_front(Settings.from_environ(environ), CurrentCredentials(environ), mask)
    except JobError as error:
        extra = {"code": error.code, "error": error.message}
        logging.getLogger("voicedrop.front").critical("cannot start", extra=extra)
        return 1
    uvicorn.Server(server_config(app, port)).run()
    return 0


def main() -> int:
    return serve(os.environ)
