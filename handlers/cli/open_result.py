"""`voicedrop open`: check a result and unseal its audio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from core.crypto import sealing
from core.crypto.keys import Keyring
from core.crypto.sealing import Envelope
from core.documents import signed
from core.errors import Refused
from core.job.commit import RESULT_LIMIT
from core.result import document
from core.result.item_result import Chapter, ItemResult
from core.settings import Settings
from core.storage.object_keys import SEALED_SUFFIX, result_key
from core.storage.port import Store
from handlers import wiring
from handlers.cli.files import read_file, replace_file
from handlers.cli.screen import CommandOutput

SEALED_LIMIT = 4 << 30
Fetch = Callable[[str], bytes]
"""Return the object with this key."""


def open_result(settings: Settings, source: str, out: Path) -> CommandOutput:
    """Unseal every output of a result, or a single one, after all checks.

    `source`: a job id, the key or path of a result.json, or the path of a .sealed file beside one.
    Raises Refused SIGNATURE_INVALID, SEAL_INVALID, OBJECT_MISSING.
    """
    runtime = wiring.create_local_runtime(settings)
    data, fetch, name = _locate(source, runtime.results)
    signed.check_signature(data, runtime.keys.verifying)
    result = document.parse_result(data)
    named = _sealed_files(chain(document.read_items(result, fetch), result.chapters))
    files = [file for file in named if not name or file.key.endswith(f"/{name}")]
    if not files:
        raise Refused("OBJECT_MISSING", "The result holds no such output.", pointer=source)
    out.mkdir(parents=True, exist_ok=True)
    opened = [_open(file, fetch, runtime.keys, out) for file in files]
    lines = [f"{file['path']}  {file['seconds']:.1f} s  item {file['item']}" for file in opened]
    return CommandOutput({"opened": opened}, [*lines, "The signature and every digest are right."])


def _locate(source: str, results: Store) -> tuple[bytes, Fetch, str]:
    """Return the result document, a function that reads what it names, and the name of the only
    file to open, or empty for all."""
    path, name = Path(source), ""
    if not path.is_file():
        key = source.removeprefix(f"oss://{results.name}/")
        key = key if key.endswith("result.json") else result_key(key)
        fetch = lambda key: results.get(key, limit=SEALED_LIMIT).data  # noqa: E731
        return results.get(key, limit=RESULT_LIMIT).data, fetch, name
    if path.suffix == SEALED_SUFFIX:
        name = path.name
        folder = path.parent.parent if path.parent.name == "chapters" else path.parent
        path = folder / "result.json"
    return read_file(path), partial(_read_copy, path.parent), name


def _read_copy(folder: Path, key: str) -> bytes:
    """Read an object that the result in `folder` names.

    The folder is a copy of `out/<job>/` under any name. Outputs of an earlier job are in the folder
    of that job beside it.
    """
    _, job, rest = key.split("/", 2)
    paths = (folder.parent / job / rest, folder / rest, folder / rest.rpartition("/")[2])
    return read_file(next((path for path in paths if path.is_file()), paths[1]))


@dataclass(frozen=True, slots=True)
class _SealedFile:
    owner: str
    """Id of the item or joined file."""
    key: str
    envelope: Envelope
    seconds: float
    """Length of the owner's audio."""


def _sealed_files(outputs: Iterable[ItemResult | Chapter]) -> Iterator[_SealedFile]:
    """Yield every sealed file that a result names: items, joined files and subtitles."""
    for owner in outputs:
        if owner.output is None:
            continue
        if owner.envelope is None:
            raise Refused("SEAL_INVALID", "The result gives no envelope.", pointer=owner.id)
        seconds = owner.output.duration_s
        yield _SealedFile(owner.id, owner.output.key, owner.envelope, seconds)
        for subtitle in owner.subtitles:
            yield _SealedFile(owner.id, subtitle.key, subtitle.envelope, seconds)


def _open(file: _SealedFile, fetch: Fetch, keys: Keyring, out: Path) -> dict[str, Any]:
    plain = sealing.open_sealed(fetch(file.key), file.envelope, keys.wrapping)
    name = file.key.rpartition("/")[2]
    path = out / ("chapters" if file.key.endswith(f"/chapters/{name}") else "")
    path.mkdir(exist_ok=True)
    path /= name.removesuffix(SEALED_SUFFIX)
    replace_file(path, plain)
    return {"item": file.owner, "path": str(path), "seconds": file.seconds}
