"""Downloads the official checkpoints, resumes interrupted downloads and checks digests.

The files are those of https://huggingface.co/lj1995/GPT-SoVITS (MIT) at a fixed revision;
hf-mirror.com has the same paths. The server is not trusted: the converter reads tensors only.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from core.errors import Misconfigured, Refused, Unavailable
from core.voice.gpt_sovits.bundle import SPEC, Bundle
from core.voice.gpt_sovits.convert.bundle import Sources

OFFICIAL_URL = (
    "https://huggingface.co/lj1995/GPT-SoVITS/resolve/336b2ec4e8d4ac74740798dd40af44e74659ecaf"
)
MIRROR_URL = (
    "https://hf-mirror.com/lj1995/GPT-SoVITS/resolve/336b2ec4e8d4ac74740798dd40af44e74659ecaf"
)
LICENCE = "MIT"
_CHUNK = 1 << 20
_TIMEOUT = 60.0
_RETRY = "try again, or use --mirror."
Progress = Callable[[str, int, int], None]
"""Called with the file, the bytes received and the total number of bytes (0 if unknown)."""


@dataclass(frozen=True, slots=True)
class File:
    path: str
    sha256: str = ""
    """Empty if no digest is published."""


_HUBERT = (
    File(
        "chinese-hubert-base/config.json",
        "c3e5060a1277e0f078cc6be9da4528a605dba6ece93018981fe2c820e5c7b103",
    ),
    File(
        "chinese-hubert-base/pytorch_model.bin",
        "24164f129c66499d1346e2aa55f183250c223161ec2770c0da3d3b08cf432d3c",
    ),
)
_BERT = (
    File(
        "chinese-roberta-wwm-ext-large/config.json",
        "3d57de2fd7e80d0e5c8ff194f0bbb6baa10df7e43fc262a0cc71298a78b0a3e5",
    ),
    File(
        "chinese-roberta-wwm-ext-large/tokenizer.json",
        "173796956820ea27bd14f76bf28162607ff4254807e2948253eb5b46f5bb643b",
    ),
    File(
        "chinese-roberta-wwm-ext-large/pytorch_model.bin",
        "e53a693acc59ace251d143d068096ae0d7b79e4b1b503fa84c9dcf576448c1d8",
    ),
)
_SPEAKER = File(
    "sv/pretrained_eres2netv2w24s4ep4.ckpt",
    "4f5a0bf73c61eb41b174e1bb54e7ee3c83233892be8e0af1f187024e8e581a35",
)
_T2S = File("s1v3.ckpt", "87133414860ea14ff6620c483a3db5ed07b44be42e2c3fcdad65523a729a745a")


@dataclass(frozen=True, slots=True)
class Model:
    t2s: File
    sovits: File
    speaker: File | None
    hubert: tuple[File, ...] = _HUBERT
    bert: tuple[File, ...] = _BERT

    @property
    def files(self) -> tuple[File, ...]:
        own = (self.t2s, self.sovits, *([self.speaker] if self.speaker else []))
        return (*own, *self.hubert, *self.bert)


MODELS = {
    "gpt-sovits-v2": Model(
        File("gsv-v2final-pretrained/s1bert25hz-5kh-longer-epoch=12-step=369668.ckpt"),
        File("gsv-v2final-pretrained/s2G2333k.pth"),
        None,
    ),
    "gpt-sovits-v2pro": Model(
        _T2S,
        File(
            "v2Pro/s2Gv2Pro.pth",
            "0f8ead815234365edf045c6d86370ed6e4f440e8195be77ff0ea72684ad406a5",
        ),
        _SPEAKER,
    ),
    "gpt-sovits-v2proplus": Model(
        _T2S,
        File(
            "v2Pro/s2Gv2ProPlus.pth",
            "d42a22bbbf65fb2bbdd45ad6a66841156977db45c7aabe0a6992ff378d9c7d3b",
        ),
        _SPEAKER,
    ),
}


def find_model(name: str, models: Mapping[str, Model] = MODELS) -> Model:
    """Raises Misconfigured MODEL_MISSING for an unknown name."""
    if name not in models:
        raise Misconfigured(
            "MODEL_MISSING",
            f"There is no model {name!r}: `voicedrop models get` takes {', '.join(models)}.",
        )
    return models[name]


def download_model(
    name: str,
    folder: Path,
    *,
    base_url: str = OFFICIAL_URL,
    models: Mapping[str, Model] = MODELS,
    progress: Progress = lambda path, received, total: None,
) -> Sources:
    """Download the files of `name` that are missing in `folder`.

    Raises Misconfigured MODEL_MISSING for an unknown name, ENDPOINT_INSECURE for a URL without TLS;
    Unavailable STORAGE_UNAVAILABLE if the server does not answer (the next call resumes); Refused
    CHECKPOINT_INVALID if the SHA-256 of a file is wrong.
    """
    if urlsplit(base_url).scheme != "https" and urlsplit(base_url).hostname != "127.0.0.1":
        raise Misconfigured("ENDPOINT_INSECURE", f"{base_url} is not an https URL.")
    model = find_model(name, models)
    for file in model.files:
        _download_file(file, folder, base_url, progress)
    return Sources(
        t2s=folder / model.t2s.path,
        sovits=folder / model.sovits.path,
        hubert=(folder / model.hubert[0].path).parent,
        speaker=folder / model.speaker.path if model.speaker else None,
        bert=(folder / model.bert[0].path).parent,
    )


def installed_bundles(folder: Path) -> Iterator[Bundle]:
    """Yield the bundles in subfolders; incomplete ones are skipped."""
    for path in sorted(folder.glob(f"*/{SPEC}")):
        try:
            yield Bundle(path.parent)
        except Misconfigured:
            continue


def _download_file(file: File, folder: Path, base_url: str, progress: Progress) -> None:
    target = folder / file.path
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    _download_part(f"{base_url}/{quote(file.path)}", part, file.path, progress)
    with part.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if file.sha256 and sha256 != file.sha256:
        part.unlink()
        raise Refused("CHECKPOINT_INVALID", f"{file.path} has the wrong SHA-256, {sha256}.")
    part.rename(target)


def _download_part(url: str, part: Path, path: str, progress: Progress) -> None:
    """Download into `part`; resume if it exists."""
    received = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "voicedrop", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (https: see `download_model`)
    if received:
        request.add_header("Range", f"bytes={received}-")
    with _network_errors_as_unavailable(url), _open_url(request) as reply:
        if reply is None:  # `part` is complete
            return
        resumed = reply.status == http.HTTPStatus.PARTIAL_CONTENT
        received = received if resumed else 0
        remaining = int(reply.headers.get("Content-Length", 0))
        total = received + remaining if remaining else 0
        with part.open("ab" if resumed else "wb") as out:
            while chunk := reply.read(_CHUNK):
                out.write(chunk)
                received += len(chunk)
                progress(path, received, total)
        if received < total:
            raise Unavailable(
                "STORAGE_UNAVAILABLE",
                f"The download of {url} was interrupted: run it again to resume.",
            )


@contextmanager
def _open_url(request: urllib.request.Request) -> Iterator[http.client.HTTPResponse | None]:
    try:
        reply = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 (https: see `download_model`)
    except urllib.error.HTTPError as exc:
        with exc:
            if exc.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
        yield None
        return
    with reply:
        yield reply


@contextmanager
def _network_errors_as_unavailable(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as exc:
        what = f"{url} answered with HTTP status {exc.code}: {_RETRY}"
        raise Unavailable("STORAGE_UNAVAILABLE", what) from exc
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError,
            ConnectionError) as exc:  # fmt: skip
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        raise Unavailable("STORAGE_UNAVAILABLE", _explain_network_error(url, reason)) from exc


def _explain_network_error(url: str, reason: object) -> str:
    """Say what to do: certificates and host names do not improve by trying again."""
    host = urlsplit(url).hostname
    match reason:
        case ssl.SSLCertVerificationError():
            return (
                f"The TLS certificate of {host} cannot be verified: check the system clock, the CA "
                "certificates and the proxy."
            )
        case ssl.SSLError():
            return f"The TLS connection to {host} failed: {_RETRY}"
        case socket.gaierror():
            return f"The host name {host} cannot be resolved: check network and DNS."
        case _:
            return f"{url} did not answer: {_RETRY}"
