"""Signed notes and checkpoints: C2SP signed-note and tlog-checkpoint, Ed25519.

    <origin>\\n<size>\\n<root, base64>\\n
    \\n
    — <origin> <base64 of key id[4] and signature[64]>\\n

The signing key is the one that signs results. A note begins with its origin and a result with `{`,
so a signature of one is never valid for the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.errors import Refused, raising

_ED25519 = b"\1"
_CHECKPOINT = re.compile(
    r"^.+\n\d+\n[A-Za-z0-9+/]{43}=\n\n(?:\N{EM DASH} .+ [A-Za-z0-9+/=]+\n)+", re.MULTILINE
)
_DASH = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The size and root of a log at one time."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """Return `text`, which ends in a line feed, with a signature by `name`, which has no spaces."""
    blob = _key_id(name, key.public_key()) + key.sign(text.encode())
    return f"{text}\n{_DASH}{name} {base64.b64encode(blob).decode()}\n"


def verify_note(note: str, name: str, keys: Iterable[Ed25519PublicKey]) -> str:
    """Return the text of a note that one of `keys` signed as `name`. Other signatures are ignored.
    Raises Refused LOG_INVALID."""
    text, separator, signatures = note.rpartition("\n\n")
    text += "\n"
    for key in keys if separator else ():
        for line in signatures.splitlines():
            blob = _signature_bytes(line, name)
            if blob[:4] == _key_id(name, key) and _is_valid(key, blob[4:], text):
                return text
    message = (
        f"It is not signed as {name} by one of the public keys that are used here. If the signing "
        "key was replaced, the earlier public key is missing."
    )
    raise Refused("LOG_INVALID", message)


def claimed_origin(note: str) -> str:
    """Return the log's name in a checkpoint without verifying the signature."""
    return note.partition("\n")[0]


def claimed_size(note: str) -> str:
    """Return the size in a checkpoint without verifying the signature."""
    return "".join(note.split("\n")[1:2])


def find_checkpoint(text: str) -> str | None:
    """Return the last checkpoint in a text that people kept, such as a mail or what a command
    printed; None if it contains none. Does not verify it."""
    found = [match[0] for match in _CHECKPOINT.finditer(text.replace("\r\n", "\n") + "\n")]
    return found[-1] if found else None


def verify_checkpoint(note: str, origin: str, keys: Iterable[Ed25519PublicKey]) -> Checkpoint:
    """Verify a signed checkpoint of the log `origin`. Raises Refused LOG_INVALID."""
    lines = verify_note(note, origin, keys).split("\n")
    with raising(Refused("LOG_INVALID", "Not a checkpoint."), on=(ValueError, IndexError)):
        checkpoint = Checkpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))
        if checkpoint.text() != "\n".join([*lines[:3], ""]):
            raise ValueError
    if checkpoint.origin != origin:
        message = f"The checkpoint is of {checkpoint.origin}, not of {origin}."
        raise Refused("LOG_INVALID", message)
    return checkpoint


def _key_id(name: str, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.public_bytes_raw()).digest()[:4]


def _signature_bytes(line: str, name: str) -> bytes:
    try:
        return base64.b64decode(line.removeprefix(f"{_DASH}{name} "), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_valid(key: Ed25519PublicKey, signature: bytes, text: str) -> bool:
    try:
        key.verify(signature, text.encode())
    except InvalidSignature:
        return False
    return True
