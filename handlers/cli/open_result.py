"""Open a result: signature, envelopes, digests, and only then audio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import msgspec

from core.crypto import sealing
from core.crypto.keys import Keyring
from core.crypto.sealing import Envelope
from core.documents import signed
from core.errors import Refused
from core.job.commit import RESULT_LIMIT
from core.result import document as result
from core.result.item_result import Chapter, ItemResult
from core.settings import Settings
from core.storage.object_keys import result_key
from handlers import wiring

SEALED_LIMIT = 4 << 30


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    item: str
    path: str
    seconds: float


def open_all(settings: Settings, source: str, out: Path) -> list[Opened]:
    """`source`: a job id, a key or path of a result.json, or a path of one .sealed file beside it.

    Raises Refused SIGNATURE_INVALID, SEAL_INVALID, OBJECT_MISSING.
    """
    runtime = wiring.local_runtime(settings)
    path = Path(source)
    wanted = ""
    fetch: Callable[[str], bytes]
    if path.is_file():
        if path.suffix == ".sealed":
            wanted = path.name
            folder = path.parent.parent if path.parent.name == "chapters" else path.parent
            path = folder / "result.json"
        document = _file(path)
        folder = path.parent
        fetch = partial(_beside, folder)
    else:
        key = source.removeprefix(f"oss://{runtime.results.name}/")
        key = key if key.endswith("result.json") else result_key(key)
        document = runtime.results.get(key, limit=RESULT_LIMIT).data
        fetch = lambda key: runtime.results.get(key, limit=SEALED_LIMIT).data  # noqa: E731
    signed.check_signature(document, runtime.keys.verifying)
    found = result.parse_result(document)
    made: Iterable[ItemResult | Chapter] = chain(result.read_items(found, fetch), found.chapters)
    files = [one for one in _files(made) if not wanted or one.key.endswith(f"/{wanted}")]
    if not files:
        raise Refused("OBJECT_MISSING", "The result holds no such output.", pointer=source)
    out.mkdir(parents=True, exist_ok=True)
    return [_open(one, fetch, runtime.keys, out) for one in files]


def _beside(folder: Path, key: str) -> bytes:
    """An object that a result in `folder` names, wherever both were copied to: `out/<job>/` of its
    key may be this folder under any name, and that of an earlier job beside it."""
    _, job, rest = key.split("/", 2)
    places = (folder.parent / job / rest, folder / rest, folder / rest.rpartition("/")[2])
    return _file(next((place for place in places if place.is_file()), places[1]))


@dataclass(frozen=True, slots=True)
class _File:
    owner: str
    key: str
    envelope: Envelope
    seconds: float


def _files(made: Iterable[ItemResult | Chapter]) -> list[_File]:
    """Everything sealed that a result names: items, joined files, subtitles."""
    files = []
    for one in made:
        if one.output is None:
            continue
        if one.envelope is None:
            raise Refused("SEAL_INVALID", "The result gives no envelope.", pointer=one.id)
        seconds = one.output.duration_s
        files.append(_File(one.id, one.output.key, one.envelope, seconds))
        files += [_File(one.id, s.key, s.envelope, seconds) for s in one.subtitles]
    return files


def _open(one: _File, fetch: Callable[[str], bytes], keys: Keyring, out: Path) -> Opened:
    plain = sealing.open_sealed(fetch(one.key), one.envelope, keys.wrapping)
    path = out / _within_job(one.key).removesuffix(".sealed")
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(plain)
    aside.replace(path)
    return Opened(item=one.owner, path=str(path), seconds=one.seconds)


def _within_job(key: str) -> str:
    """`out/<job>/chapters/a.wav.sealed` -> `chapters/a.wav.sealed`."""
    name = key.rpartition("/")[2]
    return f"chapters/{name}" if key.endswith(f"/chapters/{name}") else name


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(path)) from exc
