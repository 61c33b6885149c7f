"""Writes torch files, and malicious variants of them."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    "<f4": "FloatStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "<f8": "DoubleStorage",
}


def write(
    path: Path, weights: Mapping[str, np.ndarray], config: Any = None, *, header: bytes = b"PK"
) -> Path:
    """Write a checkpoint with `weight` and `config`, or a state dict if there is no config."""
    tensors = {f"{i}": np.ascontiguousarray(value) for i, value in enumerate(weights.values())}
    state = _mapping({key: _tensor(str(i), tensors[str(i)]) for i, key in enumerate(weights)})
    body = state if config is None else _mapping({"weight": state, "config": _plain(config)})
    members = {"archive/data.pkl": b"\x80\x02" + body + b"."}
    members |= {f"archive/data/{name}": value.tobytes() for name, value in tensors.items()}
    return write_zip(path, members, header=header)


def write_pickle(path: Path, body: bytes) -> Path:
    """Write a torch file whose pickle is `body`."""
    return write_zip(path, {"archive/data.pkl": body})


def write_zip(path: Path, members: Mapping[str, bytes], *, header: bytes = b"PK") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(header + path.read_bytes()[2:])
    return path


def _tensor(member: str, value: np.ndarray) -> bytes:
    kind = STORAGES[value.dtype.str]
    storage = b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(member) + _text("cpu")
    storage += _plain(value.size) + b"tQ"
    shape, stride = value.shape, tuple(s // value.itemsize for s in value.strides)
    arguments = storage + _plain(0) + _plain(shape) + _plain(stride) + b"\x89"
    arguments += b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _mapping(pickled: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(_text(key) + value for key, value in pickled.items()) + b"u"


def _plain(value: Any) -> bytes:
    if isinstance(value, dict):
        return _mapping({key: _plain(item) for key, item in value.items()})
    if isinstance(value, tuple | list):
        items = b"".join(map(_plain, value))
        return b"(" + items + b"t" if isinstance(value, tuple) else b"](" + items + b"e"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    words = {None: b"N", True: b"\x88", False: b"\x89"}
    return words[value] if value is None or value is True or value is False else _integer(value)


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data
