"""Fetching models from a home that is slow, breaks off, or lies."""

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
from core.voice.gpt_sovits.convert.download import MODELS, File, Model, get, installed


class Home(ThreadingHTTPServer):
    """Serves files by path, with ranges; may cut answers short or forget how to resume."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.cut = 0
        self.ranges = True
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Home

    def do_GET(self) -> None:
        home, wanted = self.server, self.headers.get("Range", "")
        home.asked.append((self.path, wanted))
        body = home.files.get(self.path.lstrip("/"))
        if body is None:
            return self.send_error(404)
        first = int(wanted[6:-1]) if wanted and home.ranges else 0
        if wanted and first >= len(body):
            return self.send_error(416)
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        rest = body[first:]
        self.wfile.write(rest[: home.cut] if home.cut else rest)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def models(home: Home) -> dict[str, Model]:
    """A model of small files, those of T2S and SoVITS with known digests."""
    official = MODELS["gpt-sovits-v2"]
    home.files = {file.path.replace("=", "%3D"): content(file) for file in official.files}
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


def test_a_model_is_fetched_once(home: Home, models: dict[str, Model], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    sources = get(
        "small", tmp_path, models=models, home=home.url, progress=lambda *what: told.append(what)
    )
    assert sources.t2s.read_bytes() == content(models["small"].t2s)
    assert (sources.hubert / "pytorch_model.bin").is_file()
    assert sources.speaker is None
    assert all(here == whole for _, here, whole in told)
    asked = len(home.asked)
    assert get("small", tmp_path, models=models, home=home.url) == sources
    assert len(home.asked) == asked


@pytest.mark.parametrize("ranges", [True, False], ids=["resumes", "starts again"])
def test_a_download_that_breaks_off_goes_on(
    home: Home, models: dict[str, Model], tmp_path: Path, ranges: bool
) -> None:
    home.cut = 1000
    with pytest.raises(Unavailable, match="STORAGE_UNAVAILABLE"):
        get("small", tmp_path, models=models, home=home.url)
    home.cut, home.ranges = 0, ranges
    sources = get("small", tmp_path, models=models, home=home.url)
    assert sources.t2s.read_bytes() == content(models["small"].t2s)
    assert ("bytes=1000-" in {wanted for _, wanted in home.asked}) is True


def test_a_part_that_was_whole_is_kept(
    home: Home, models: dict[str, Model], tmp_path: Path
) -> None:
    path = models["small"].t2s.path
    part = tmp_path / f"{path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(path.encode() * 99)
    assert (
        get("small", tmp_path, models=models, home=home.url).t2s.read_bytes() == path.encode() * 99
    )


def test_another_file_under_the_name_is_refused(
    home: Home, models: dict[str, Model], tmp_path: Path
) -> None:
    path = models["small"].sovits.path
    home.files[path] = b"something else"
    with pytest.raises(Refused, match=path):
        get("small", tmp_path, models=models, home=home.url)
    assert not list((tmp_path / path).parent.glob("s2*"))


def test_a_missing_file_is_said(home: Home, models: dict[str, Model], tmp_path: Path) -> None:
    home.files.clear()
    with pytest.raises(Unavailable, match="404"):
        get("small", tmp_path, models=models, home=home.url)


def test_a_home_that_is_gone_is_said(models: dict[str, Model], tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        get("small", tmp_path, models=models, home="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            ssl.SSLCertVerificationError(1, "[SSL] in _ssl.c:1000"),
            "certificate of 127.0.0.1 cannot",
        ),
        (ssl.SSLError(1, "[SSL] in _ssl.c:1000"), "TLS connection to 127.0.0.1 failed"),
        (socket.gaierror(-2, "Name or service not known"), "name 127.0.0.1 cannot be resolved"),
        (OSError(113, "No route to host"), "did not answer"),
    ],
    ids=["certificate", "TLS", "name", "route"],
)
def test_why_there_is_no_connection_is_said_in_our_words(
    models: dict[str, Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: OSError,
    said: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError(reason)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(Unavailable, match="STORAGE_UNAVAILABLE") as caught:
        get("small", tmp_path, models=models, home="http://127.0.0.1:9")
    assert said in caught.value.message
    assert str(reason.strerror) not in caught.value.message


def test_models_come_over_https_only(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="ENDPOINT_INSECURE"):
        get("gpt-sovits-v2", tmp_path, home="http://example.com")


def test_an_unknown_model_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="gpt-sovits-v2pro"):
        get("gpt-5", tmp_path)


def test_the_pro_models_bring_their_speaker_encoder() -> None:
    for name in ("gpt-sovits-v2pro", "gpt-sovits-v2proplus"):
        assert all(file.sha256 for file in MODELS[name].files)
        assert any(file.path.startswith("sv/") for file in MODELS[name].files)


@pytest.mark.slow
def test_whole_bundles_are_listed(sources: Sources, bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / SPEC).write_bytes(b"{")
    (tmp_path / "other").mkdir()
    assert [found.folder.name for found in installed(tmp_path)] == ["mine"]
    with pytest.raises(Refused, match="OUTPUT_EXISTS"):
        convert(sources, tmp_path / "mine")
