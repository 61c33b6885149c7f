"""`voicedrop serve`: the HTTP interface and a worker in one process, over folders or buckets."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from core.errors import Misconfigured
from core.settings import Settings
from core.speech import reference
from handlers import metrics, wiring
from handlers.api.app import Service, create_app
from handlers.api.callers import choose_authentication, of_loopback
from handlers.api.intake import count_against_quota
from handlers.api.local import LocalWorker
from handlers.api.stream import MAX_MESSAGE
from handlers.cli import exit_codes
from handlers.cli.init import create_folders_and_keys
from handlers.cli.screen import CommandOutput, Progress
from handlers.server.tokens import create_tokens

KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 5
"""How long requests in progress may take at the end."""


def serve_until_stopped(
    settings: Settings, bucket: Path | None, host: str, port: int, progress: Progress
) -> CommandOutput:
    """Answer until Ctrl-C or SIGTERM. Raises Misconfigured, as if the port is in use."""
    authenticate = choose_authentication(settings, host)
    _create_what_is_missing(settings, bucket, progress)
    reference.start(behind=True)  # becomes ready beside what follows
    metrics.start(settings.metrics)
    runtime = wiring.create_local_runtime(settings, progress)
    wiring.check_stores(runtime)
    wiring.require_recogniser(settings)
    reader = wiring.secret_reader(settings, wiring.CurrentCredentials(os.environ))
    worker = LocalWorker(runtime, progress.print)
    service = Service(
        desk=runtime,
        authenticate=authenticate,
        tokens=create_tokens(settings, reader.reveal("VOICEDROP_REDIS", settings.redis)),
        keys=runtime.keys,
        begin=worker.begin,
        speak=worker.speak,
        count=count_against_quota(runtime),
        is_full=worker.is_full,
    )
    app = create_app(service, same_host=host if authenticate is of_loopback else "")
    server = create_server(app, host, port)
    listening = _listen(host, port)
    worker.start()
    address = f"http://{host}:{listening.getsockname()[1]}"
    progress.print(f"Listening on {address} until Ctrl-C. Results go to {settings.results}.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):  # which the server raises again at its end
            server.run(sockets=[listening])
        progress.print("Stopping after the steps in progress; Ctrl-C again: at once.")
    finally:
        worker.stop()
    line = "Stopped. The next `voicedrop serve` or `watch` continues what is not finished."
    return CommandOutput({}, [line], exit_codes.INTERRUPTED)


def create_server(app: Starlette, host: str, port: int) -> uvicorn.Server:
    """Return a server of the application, which is not running yet."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="asyncio",
            http="h11",
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )


def _create_what_is_missing(settings: Settings, bucket: Path | None, progress: Progress) -> None:
    """Make folders and keys where nothing is yet."""
    places = [settings.inbox, settings.results, settings.control]
    folders = [Path(place) for place in places if wiring.is_folder(place)]
    if len(folders) == len(places) and not any(folder.exists() for folder in folders):
        for line in create_folders_and_keys(settings, bucket).lines[:-2]:
            progress.print(line)


def _listen(host: str, port: int) -> socket.socket:
    """Raises Misconfigured SETTING_INVALID if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
    except OSError as exc:
        listening.close()
        message = f"Cannot listen on {host} port {port}: {exc.strerror}. Choose another --port."
        raise Misconfigured("SETTING_INVALID", message, advice="") from exc
    return listening
