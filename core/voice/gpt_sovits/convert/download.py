"""The official checkpoints, from their public home, resumable and checked.

The files are those of https://huggingface.co/lj1995/GPT-SoVITS (MIT) at a fixed revision;
hf-mirror.com serves the same paths. Nothing is trusted for where it came from: the converter
refuses whatever is not tensors.
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

HOME = "https://huggingface.co/lj1995/GPT-SoVITS/resolve/336b2ec4e8d4ac74740798dd40af44e74659ecaf"
MIRROR = "https://hf-mirror.com/lj1995/GPT-SoVITS/resolve/336b2ec4e8d4ac74740798dd40af44e74659ecaf"
LICENCE = "MIT"
_CHUNK = 1 << 20
_TIMEOUT = 60.0
Progress = Callable[[str, int, int], None]
"""Told the file, the bytes that are here and the bytes there will be (0 where unknown)."""


@dataclass(frozen=True, slots=True)
class File:
    path: str
    sha256: str = ""
    """Empty where nobody we know of has published it."""


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


def get(
    name: str,
    folder: Path,
    *,
    home: str = HOME,
    models: Mapping[str, Model] = MODELS,
    progress: Progress = lambda path, here, whole: None,
) -> Sources:
    """Download what `name` needs into `folder`; what is there already is kept.

    Raises Misconfigured MODEL_MISSING for an unknown name; Unavailable STORAGE_UNAVAILABLE when
    the home does not answer (a later call goes on where this one stopped); Refused
    CHECKPOINT_INVALID when a file is not the one we know.
    """
    if name not in models:
        raise Misconfigured("MODEL_MISSING", f"No model {name!r}: choose from {', '.join(models)}.")
    if urlsplit(home).scheme != "https" and urlsplit(home).hostname != "127.0.0.1":
        raise Misconfigured("ENDPOINT_INSECURE", f"{home} is not https.")
    model = models[name]
    for file in model.files:
        _fetch(file, folder, home, progress)
    return Sources(
        t2s=folder / model.t2s.path,
        sovits=folder / model.sovits.path,
        hubert=(folder / model.hubert[0].path).parent,
        speaker=folder / model.speaker.path if model.speaker else None,
        bert=(folder / model.bert[0].path).parent,
    )


def installed(folder: Path) -> Iterator[Bundle]:
    """Bundles in the folders below, those that are whole."""
    for path in sorted(folder.glob(f"*/{SPEC}")):
        try:
            yield Bundle(path.parent)
        except Misconfigured:
            continue


def _fetch(file: File, folder: Path, home: str, progress: Progress) -> None:
    target = folder / file.path
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    _download(f"{home}/{quote(file.path)}", part, file.path, progress)
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if file.sha256 and found != file.sha256:
        part.unlink()
        raise Refused("CHECKPOINT_INVALID", f"{file.path} is not the file we know: {found}")
    part.rename(target)


def _download(url: str, part: Path, path: str, progress: Progress) -> None:
    """Append to `part` from where it ends."""
    here = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "voicedrop", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (https: see `get`)
    if here:
        request.add_header("Range", f"bytes={here}-")
    with _network(url), _opened(request) as reply:
        if reply is None:  # nothing is missing
            return
        resumed = reply.status == http.HTTPStatus.PARTIAL_CONTENT
        here = here if resumed else 0
        rest = int(reply.headers.get("Content-Length", 0))
        whole = here + rest if rest else 0
        with part.open("ab" if resumed else "wb") as out:
            while chunk := reply.read(_CHUNK):
                out.write(chunk)
                here += len(chunk)
                progress(path, here, whole)
        if here < whole:
            raise Unavailable("STORAGE_UNAVAILABLE", f"{url} broke off: start again to go on.")


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[http.client.HTTPResponse | None]:
    try:
        reply = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 (https: see `get`)
    except urllib.error.HTTPError as exc:
        with exc:
            if exc.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
        yield None
        return
    with reply:
        yield reply


@contextmanager
def _network(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as exc:
        what = f"{url} answered {exc.code}: try again, or another home."
        raise Unavailable("STORAGE_UNAVAILABLE", what) from exc
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError,
            ConnectionError) as exc:  # fmt: skip
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        raise Unavailable("STORAGE_UNAVAILABLE", _why(url, reason)) from exc


def _why(url: str, reason: object) -> str:
    """Why there is no answer. A certificate or a name is wrong until somebody changes something."""
    host = urlsplit(url).hostname
    match reason:
        case ssl.SSLCertVerificationError():
            return (
                f"The TLS certificate of {host} cannot be verified: look at this machine's clock, "
                "its certificates, and a proxy between."
            )
        case ssl.SSLError():
            return f"The TLS connection to {host} failed: try again, or another home."
        case socket.gaierror():
            return f"The name {host} cannot be resolved: look at the network and its DNS."
        case _:
            return f"{url} did not answer: try again, or another home."
