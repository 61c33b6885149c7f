"""Downloading models from a server that interrupts, cannot resume, or has other files."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.errors import Misconfigured, Refused, Unavailable
from core.voice.gpt_sovits.bundle import SPEC, Bundle
from core.voice.gpt_sovits.convert.bundle import Sources, convert
from core.voice.gpt_sovits.convert.download import (
    MODELS,
    File,
    Model,
    download_model,
    installed_bundles,
)


class ModelServer(ThreadingHTTPServer):
    """Serves files by path; can truncate responses and ignore Range headers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.truncate_at = 0
        self.supports_ranges = True
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: ModelServer

    def do_GET(self) -> None:
        server, requested = self.server, self.headers.get("Range", "")
        server.requests.append((self.path, requested))
        body = server.files.get(self.path.lstrip("/"))
        if body is None:
            return self.send_error(404)
        first = int(requested[6:-1]) if requested and server.supports_ranges else 0
        if requested and first >= len(body):
            return self.send_error(416)
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        rest = body[first:]
        self.wfile.write(rest[: server.truncate_at] if server.truncate_at else rest)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def models(server: ModelServer) -> dict[str, Model]:
    """A model of small files; those of T2S and SoVITS have known digests."""
    official = MODELS["gpt-sovits-v2"]
    server.files = {file.path.replace("=", "%3D"): content(file) for file in official.files}
    t2s, sovits = (
        File(file.path, hashlib.sha256(content(file)).hexdigest())
        for file in (official.t2s, official.sovits)
    )
    hubert, bert = (
        tuple(File(file.path) for file in files) for files in (official.hubert, official.bert)
    )
    return {"small": Model(t2s, sovits, None, hubert, bert)}


def content(file: File) -> bytes:
    return file.path.encode() * 99


def test_a_model_is_fetched_once(
    server: ModelServer, models: dict[str, Model], tmp_path: Path
) -> None:
    reports: list[tuple[str, int, int]] = []
    sources = download_model(
        "small",
        tmp_path,
        models=models,
        base_url=server.url,
        progress=lambda *report: reports.append(report),
    )
    assert sources.t2s.read_bytes() == content(models["small"].t2s)
    assert (sources.hubert / "pytorch_model.bin").is_file()
    assert sources.speaker is None
    assert all(received == total for _, received, total in reports)
    requests = len(server.requests)
    assert download_model("small", tmp_path, models=models, base_url=server.url) == sources
    assert len(server.requests) == requests


@pytest.mark.parametrize("ranges", [True, False], ids=["resumes", "starts again"])
def test_an_interrupted_download_resumes(
    server: ModelServer, models: dict[str, Model], tmp_path: Path, ranges: bool
) -> None:
    server.truncate_at = 1000
    with pytest.raises(Unavailable, match="STORAGE_UNAVAILABLE"):
        download_model("small", tmp_path, models=models, base_url=server.url)
    server.truncate_at, server.supports_ranges = 0, ranges
    sources = download_model("small", tmp_path, models=models, base_url=server.url)
    assert sources.t2s.read_bytes() == content(models["small"].t2s)
    assert ("bytes=1000-" in {requested for _, requested in server.requests}) is True


def test_a_complete_partial_file_is_kept(
    server: ModelServer, models: dict[str, Model], tmp_path: Path
) -> None:
    path = models["small"].t2s.path
    part = tmp_path / f"{path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(path.encode() * 99)
    assert (
        download_model("small", tmp_path, models=models, base_url=server.url).t2s.read_bytes()
        == path.encode() * 99
    )


def test_another_file_under_the_name_is_refused(
    server: ModelServer, models: dict[str, Model], tmp_path: Path
) -> None:
    path = models["small"].sovits.path
    server.files[path] = b"something else"
    with pytest.raises(Refused, match=path):
        download_model("small", tmp_path, models=models, base_url=server.url)
    assert not list((tmp_path / path).parent.glob("s2*"))


def test_a_missing_file_is_reported(
    server: ModelServer, models: dict[str, Model], tmp_path: Path
) -> None:
    server.files.clear()
    with pytest.raises(Unavailable, match="404"):
        download_model("small", tmp_path, models=models, base_url=server.url)


def test_a_server_that_does_not_answer_is_reported(
    models: dict[str, Model], tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        download_model("small", tmp_path, models=models, base_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            ssl.SSLCertVerificationError(1, "[SSL] in _ssl.c:1000"),
            "certificate of 127.0.0.1 cannot",
        ),
        (ssl.SSLError(1, "[SSL] in _ssl.c:1000"), "TLS connection to 127.0.0.1 failed"),
        (
            socket.gaierror(-2, "Name or service not known"),
            "host name 127.0.0.1 cannot be resolved",
        ),
        (OSError(113, "No route to host"), "did not answer"),
    ],
    ids=["certificate", "TLS", "name", "route"],
)
def test_a_failed_connection_is_explained(
    models: dict[str, Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: OSError,
    message: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError(reason)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(Unavailable, match="STORAGE_UNAVAILABLE") as caught:
        download_model("small", tmp_path, models=models, base_url="http://127.0.0.1:9")
    assert message in caught.value.message
    assert str(reason.strerror) not in caught.value.message


def test_models_come_over_https_only(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="ENDPOINT_INSECURE"):
        download_model("gpt-sovits-v2", tmp_path, base_url="http://example.com")


def test_an_unknown_model_is_refused_with_a_list_of_models(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="gpt-sovits-v2pro"):
        download_model("gpt-5", tmp_path)


def test_pro_models_include_their_speaker_encoder() -> None:
    for name in ("gpt-sovits-v2pro", "gpt-sovits-v2proplus"):
        assert all(file.sha256 for file in MODELS[name].files)
        assert any(file.path.startswith("sv/") for file in MODELS[name].files)


@pytest.mark.slow
def test_complete_bundles_are_listed(sources: Sources, bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / SPEC).write_bytes(b"{")
    (tmp_path / "other").mkdir()
    assert [mine.folder.name for mine in installed_bundles(tmp_path)] == ["mine"]
    with pytest.raises(Refused, match="OUTPUT_EXISTS"):
        convert(sources, tmp_path / "mine")
