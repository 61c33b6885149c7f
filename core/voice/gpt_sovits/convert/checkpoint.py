"""Reads the tensors of torch and .safetensors files without executing them.

Files are memory-mapped. A torch file is a zip of one pickle (`<prefix>/data.pkl`) and one member
per storage, uncompressed. GPT-SoVITS overwrites the first two bytes of some files with a version
code, which is ignored: `sovits` detects the version from the tensors.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import Refused, raising
from core.voice.gpt_sovits.convert import unpickle

_MAX_MEMBERS = 10_000
"""Of a zip file, and tensors. An official checkpoint has at most 1500."""
_MAX_NAME = 200
_MAX_DIRECTORY = 2 * 2**20
"""Bytes of the central directory of a zip file."""
_MAX_REPETITION = 4
"""Bytes of all tensors in relation to the file. Tied weights share a storage."""
_MAX_EMPTY = 2**40
"""Product of the dimensions of an empty tensor that are not 0."""
_MAX_DEPTH = 8
_MAX_SETTINGS = 10_000
_VERSION_CODES = {b"PK", *(b"%02d" % code for code in range(7))}
_BFLOAT16: np.dtype[Any] = np.dtype("V2")
_STORAGE_TYPES: Mapping[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_SAFETENSORS_TYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "F64": np.dtype("<f8"),
    "BF16": _BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}
Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state dict. Tensors are read from disk when they are used."""

    name: str
    """File name, for error messages."""
    tensors: Mapping[str, NDArray[Any]]
    config: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    """What `submodule` removed from the keys, for error messages."""

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        return self._stored(key).shape

    def load(self, key: str) -> Float:
        """Return a tensor as float32. Raises Refused CHECKPOINT_INVALID if absent or not finite."""
        stored = self._stored(key)
        if stored.dtype == _BFLOAT16:
            wide = stored.view("<u2").astype(np.uint32) << 16
            value = wide.view(np.float32)
        else:
            value = stored.astype(np.float32)
        if not np.isfinite(value).all():
            raise self.invalid(f"the tensor {self.prefix}{key} has values that are not finite")
        return np.ascontiguousarray(value)

    def weight_and_bias(self, name: str) -> tuple[Float, Float]:
        return self.load(f"{name}.weight"), self.load(f"{name}.bias")

    def count_layers(self, pattern: str) -> int:
        """Return the first n for which there is no tensor `pattern % n`."""
        number = 0
        while pattern % number in self.tensors:
            number += 1
        return number

    def submodule(self, prefix: str) -> Checkpoint:
        """Return the tensors whose keys begin with `prefix`, without it."""
        kept = {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}
        return Checkpoint(self.name, kept, self.config, self.prefix + prefix)

    def setting(self, *path: str) -> Any:
        """Return a value of the config. Raises Refused CHECKPOINT_INVALID if it is absent."""
        value: Any = self.config
        for step in path:
            if not isinstance(value, Mapping) or step not in value:
                raise self.invalid(f"its config lacks {'.'.join(path)}")
            value = value[step]
        return value

    def invalid(self, what: str) -> Refused:
        return Refused("CHECKPOINT_INVALID", f"{self.name}: {what}")

    def _stored(self, key: str) -> NDArray[Any]:
        if key not in self.tensors:
            raise self.invalid(f"the tensor {self.prefix}{key} is missing")
        return self.tensors[key]


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .ckpt, .pth, .bin or .safetensors file.

    It contains a state dict, or a mapping with `weight` and `config` as GPT-SoVITS writes it.
    Raises Refused CHECKPOINT_INVALID on damage, CHECKPOINT_UNSAFE on a pickle that would do more
    than describe tensors.
    """
    with raising(Refused("CHECKPOINT_INVALID", f"{path.name} cannot be read"), on=OSError):
        data = (
            np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, "u1")
        )
    try:
        if path.suffix == ".safetensors":
            tensors = dict(_read_safetensors(data))
            _check_amount(tensors, data)
            return Checkpoint(path.name, tensors)
        return _open_torch(path, data)
    except Refused as exc:
        raise Refused(exc.code, f"{path.name}: {exc.message}") from exc


def _open_torch(path: Path, data: NDArray[np.uint8]) -> Checkpoint:
    members = _read_members(path, data)
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Refused("CHECKPOINT_INVALID", f"it has {len(pickles)} pickles instead of one")
    prefix = pickles[0].removesuffix("data.pkl")
    if bytes(members.get(prefix + "byteorder", b"little")) != b"little":
        raise Refused("CHECKPOINT_INVALID", "big-endian files are not supported")
    pickle = members[pickles[0]]
    if len(pickle) > unpickle.MAX_BYTES:
        raise Refused("CHECKPOINT_UNSAFE", f"its pickle is too large: {len(pickle)} bytes")
    content = unpickle.loads(bytes(pickle))
    if not isinstance(content, dict):
        raise Refused("CHECKPOINT_INVALID", "its pickle is not a mapping")
    wrapped = isinstance(content.get("weight"), dict)
    weights = content["weight"] if wrapped else content
    tensors = {
        name: _tensor_view(value, members, prefix)
        for name, value in weights.items()
        if isinstance(value, unpickle.StridedTensor)
    }
    _check_amount(tensors, data)
    config = _Settings().copy(content.get("config")) if wrapped else None
    return Checkpoint(path.name, tensors, config if isinstance(config, dict) else {})


def _check_amount(tensors: Mapping[str, NDArray[Any]], data: NDArray[np.uint8]) -> None:
    """Refuse a small file that would take hours to convert."""
    if len(tensors) > _MAX_MEMBERS:
        raise Refused("CHECKPOINT_UNSAFE", f"it has too many tensors: {len(tensors)}")
    if max(map(len, tensors), default=0) > _MAX_NAME:
        raise Refused("CHECKPOINT_UNSAFE", "a tensor has an absurdly long name")
    if sum(value.nbytes for value in tensors.values()) > _MAX_REPETITION * len(data):
        raise Refused("CHECKPOINT_UNSAFE", "its tensors use the same bytes many times")


class _Settings:
    """Copies a config of limited size and depth: plain values, records as dicts."""

    def __init__(self) -> None:
        self._count = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Values that are neither plain nor containers become None."""
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_SETTINGS:
            raise Refused("CHECKPOINT_UNSAFE", "its config is too large or nested too deeply")
        if isinstance(value, unpickle.Record):
            value = value.attributes
        if isinstance(value, dict):
            return {key: self.copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.copy(item, depth + 1) for item in value]
        return value if isinstance(value, str | int | float) else None


class _ZipFile(io.FileIO):
    """Limits how much `zipfile` reads at once, which is the central directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY:
            raise Refused("CHECKPOINT_UNSAFE", "it has too many zip members")
        return super().read(size)


def _read_members(path: Path, data: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return the bytes of each zip member by name, without copying. Unsafe names are refused."""
    broken = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error)
    damaged = Refused("CHECKPOINT_INVALID", "not a torch zip file, or truncated")
    with raising(damaged, on=broken), _ZipFile(path) as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if len(entries) > _MAX_MEMBERS:
        raise Refused("CHECKPOINT_UNSAFE", f"it has too many zip members: {len(entries)}")
    members: dict[str, NDArray[np.uint8]] = {}
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if ".." in parts or "\\" in entry.orig_filename or entry.filename.startswith("/"):
            raise Refused("CHECKPOINT_UNSAFE", f"it has a zip member named {_shown(entry)}")
        if entry.filename in members:
            raise Refused("CHECKPOINT_UNSAFE", f"it has two zip members named {_shown(entry)}")
        members[entry.filename] = _member_bytes(entry, data)
    return members


def _member_bytes(entry: zipfile.ZipInfo, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Parse the local header here, because zipfile would reject the version code."""
    start = entry.header_offset
    header = bytes(data[start : start + 30])
    signed = header[2:4] == b"\x03\x04" and header[:2] in (
        _VERSION_CODES if start == 0 else {b"PK"}
    )
    if len(header) < 30 or not signed:
        raise Refused("CHECKPOINT_INVALID", f"no zip header before {_shown(entry)}")
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise Refused("CHECKPOINT_INVALID", f"{_shown(entry)} is compressed or encrypted")
    names = sum(struct.unpack("<HH", header[26:30]))
    first = start + 30 + names
    if first + entry.file_size > len(data):
        size = f"{_shown(entry)} declares {entry.file_size} bytes, more than the file has"
        raise Refused("CHECKPOINT_INVALID", size)
    return data[first : first + entry.file_size]


def _shown(entry: zipfile.ZipInfo) -> str:
    """Return the name of a zip member for a message."""
    return repr(entry.filename[:_MAX_NAME])


def _tensor_view(
    tensor: unpickle.StridedTensor, members: Mapping[str, NDArray[np.uint8]], prefix: str
) -> NDArray[Any]:
    member, count = tensor.storage.member, tensor.storage.count
    dtype = _STORAGE_TYPES[tensor.storage.kind]
    raw = members.get(f"{prefix}data/{member}")
    if raw is None or len(raw) != count * dtype.itemsize:
        raise Refused(
            "CHECKPOINT_INVALID", f"the storage {member[:_MAX_NAME]!r} is missing or truncated"
        )
    flat = raw.view(dtype)
    steps = [(n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True)]
    size = math.prod(tensor.shape)
    if size and (tensor.offset + sum(steps) >= count or size > count):
        raise Refused("CHECKPOINT_INVALID", "a tensor reaches beyond its storage")
    if not size:
        if math.prod(filter(None, tensor.shape)) > _MAX_EMPTY:
            raise Refused("CHECKPOINT_INVALID", "an empty tensor has absurd dimensions")
        return np.empty(tensor.shape, dtype)
    strides = tuple(s * dtype.itemsize for s in tensor.stride)
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.shape, strides, writeable=False
    )


def _read_safetensors(data: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Read the format of https://huggingface.co/docs/safetensors: length, JSON header, data."""
    damaged = Refused("CHECKPOINT_INVALID", "not a safetensors file, or truncated")
    if len(data) < 8:
        raise damaged
    length = int(data[:8].view("<u8")[0])
    if length > min(len(data) - 8, unpickle.MAX_BYTES):
        raise damaged
    body = data[8 + length :]
    broken = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
    with raising(damaged, on=broken):
        header = json.loads(bytes(data[8 : 8 + length]))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            if not 0 <= first <= last <= len(body):
                raise ValueError(name)
            yield (
                name,
                body[first:last].view(_SAFETENSORS_TYPES[entry["dtype"]]).reshape(entry["shape"]),
            )
