"""Open a result: signature, envelopes, digests, and only then audio."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from core import crypto, result, sign
from core.errors import Refused
from core.keys import Keyring
from core.pipeline import RESULT_LIMIT
from core.result import ItemResult
from core.settings import Settings
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
    studio = wiring.bare_studio(settings)
    path = Path(source)
    wanted = ""
    fetch: Callable[[str], bytes]
    if path.is_file():
        if path.suffix == ".sealed":
            wanted, path = path.name, path.with_name("result.json")
        document = _file(path)
        folder = path.parent
        fetch = partial(_beside, folder)
    else:
        key = source.removeprefix(f"oss://{studio.results.name}/")
        key = key if key.endswith("result.json") else result.result_key(key)
        document = studio.results.get(key, limit=RESULT_LIMIT).data
        fetch = lambda key: studio.results.get(key, limit=SEALED_LIMIT).data  # noqa: E731
    sign.verify(document, studio.keys.verifying)
    items = result.items_of(result.parse(document), fetch)
    out.mkdir(parents=True, exist_ok=True)
    opened = [
        _open(item, fetch, studio.keys, out)
        for item in items
        if item.output and (not wanted or item.output.key.endswith(f"/{wanted}"))
    ]
    if not opened:
        raise Refused("OBJECT_MISSING", "The result holds no such output.", pointer=source)
    return opened


def _beside(folder: Path, key: str) -> bytes:
    """An object that a result in `folder` names, wherever both were copied to: `out/<job>/` of its
    key may be this folder under any name, and that of an earlier job beside it."""
    _, job, rest = key.split("/", 2)
    places = (folder.parent / job / rest, folder / rest, folder / rest.rpartition("/")[2])
    return _file(next((place for place in places if place.is_file()), places[1]))


def _open(item: ItemResult, fetch: Callable[[str], bytes], keys: Keyring, out: Path) -> Opened:
    if item.output is None or item.envelope is None:
        raise Refused("SEAL_INVALID", "The result gives no envelope.", pointer=item.id)
    plain = crypto.open_sealed(fetch(item.output.key), item.envelope, keys.wrapping)
    name = item.output.key.rpartition("/")[2].removesuffix(".sealed")
    path = out / name
    aside = path.with_name(f".{name}.{os.getpid()}")
    aside.write_bytes(plain)
    aside.replace(path)
    return Opened(item=item.id, path=str(path), seconds=item.output.duration_s)


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(path)) from exc
