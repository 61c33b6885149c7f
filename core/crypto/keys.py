"""Secrets: where they lie, how they are made, and who wraps the data keys.

    <folder>/            mode 0700; every secret 0600
      kek-001.key        key-encryption key: 32 bytes, base64
      watermark-001.key  watermark key: 32 bytes, base64
      sign-001.pem       Ed25519 private key, PKCS #8
      sign-001.pub.pem   its public key, for everybody

Of several keys of one kind the one with the last name is current: new work uses it, old work stays
readable as long as its key is there. To rotate is to add; to destroy is to delete (docs/format.md).

File names only order keys: the id of a key is a digest of the key itself, so it stays the same when
the key moves into a setting value or gets another name. In memory the current key comes first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.documents.signed import key_id
from core.errors import Misconfigured, Refused, raising

NONCE = 12


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key under a key-encryption key."""

    kek: str
    """Names the key-encryption key: `local:<id>`, or `kms:<key>`."""
    version: str
    """Which version of it, where the provider has versions."""
    blob: bytes


class KeyProvider(Protocol):
    """Wraps 32-byte data keys. `context` is authenticated: unwrapping needs the same bytes."""

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Under the current key. Misconfigured KEY_NOT_FOUND, KEY_UNUSABLE; Unavailable
        KMS_UNAVAILABLE."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Refused SEAL_INVALID if blob or context is not what `wrap` made; Misconfigured
        KEY_DESTROYED if the key is gone, KEY_UNUSABLE; Unavailable KMS_UNAVAILABLE."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class LocalKeys:
    """Key-encryption keys held in memory: AES-256-GCM with a random 96-bit nonce."""

    keys: Mapping[str, bytes]
    """Id -> 32 bytes; the first one is current."""

    def __repr__(self) -> str:
        return f"LocalKeys({', '.join(self.keys)})"

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        name, key = next(iter(self.keys.items()), ("", b""))
        if not key:
            raise Misconfigured("KEY_NOT_FOUND", "There is no key-encryption key.")
        kek, nonce = f"local:{name}", os.urandom(NONCE)
        blob = nonce + AESGCM(key).encrypt(nonce, data_key, _associated_data(kek, context))
        return WrappedKey(kek, "1", blob)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        provider, _, name = wrapped.kek.partition(":")
        key = self.keys.get(name) if provider == "local" else None
        if key is None:
            raise Misconfigured(
                "KEY_DESTROYED",
                f"The key {wrapped.kek!r} is not here. If it was destroyed, so was what it sealed; "
                "if it lies elsewhere, point to it.",
            )
        nonce, sealed = wrapped.blob[:NONCE], wrapped.blob[NONCE:]
        with raising(Refused("SEAL_INVALID"), on=(InvalidTag, ValueError)):
            return AESGCM(key).decrypt(nonce, sealed, _associated_data(wrapped.kek, context))


def secret_id(key: bytes) -> str:
    """16 hex digits that name a secret key and tell nothing about it."""
    return hashlib.sha256(b"voicedrop/key/1" + key).hexdigest()[:16]


def _associated_data(kek: str, context: bytes) -> bytes:
    return f"voicedrop/wrap/1\n{kek}\n".encode() + context


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """Every secret a worker holds."""

    wrapping: KeyProvider
    signing: Ed25519PrivateKey
    verifying: Mapping[str, Ed25519PublicKey]
    """`sign.key_id` -> public key, of this and earlier signing keys."""
    watermark: Mapping[str, bytes]
    """Key id -> 32 bytes; the first one is current."""

    def __repr__(self) -> str:
        marks = ", ".join(self.watermark)
        return f"Keyring({self.wrapping!r}, signing={key_id(self.signing.public_key())}, {marks})"


@dataclass(frozen=True, slots=True, repr=False)
class ReadingKeys:
    """What an auditor may hold: the public keys, and perhaps the secrets that only read."""

    verifying: Mapping[str, Ed25519PublicKey]
    wrapping: KeyProvider | None = None
    """None: nothing sealed can be opened."""
    watermark: Mapping[str, bytes] = field(default_factory=dict)


def create_keys(folder: Path) -> list[Path]:
    """Make the secrets that are missing; never replace one. Returns the files made.

    Safe to run twice, and from two processes at once: each file appears whole or not at all.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for kind in ("kek", "watermark"):
        if not any(folder.glob(f"{kind}-*.key")):
            made += _write_once(
                folder / f"{kind}-001.key", base64.b64encode(os.urandom(32)) + b"\n"
            )
    # A public key left by an earlier signing key keeps its number: it still verifies. These are
    # counted before the private key is looked for, as another process may be making both now.
    earlier = len(list(folder.glob("sign-???.pub.pem")))
    if not any(folder.glob("sign-???.pem")):
        pem = _private_pem(Ed25519PrivateKey.generate())
        made += _write_once(folder / f"sign-{earlier + 1:03}.pem", pem)
    for private in folder.glob("sign-???.pem"):
        made += _write_once(
            private.with_suffix(".pub.pem"),
            _public_pem(_parse_signing_key(_read_private_file(private))),
        )
    return made


def load_keyring(folder: Path, *, wrapping: KeyProvider | None = None) -> Keyring:
    """The secrets in a folder; `wrapping` in place of the local key-encryption keys.

    Raises Misconfigured KEY_NOT_FOUND, KEY_PERMISSIONS, KEY_UNUSABLE.
    """
    signing = _parse_signing_key(_read_private_file(_find_files(folder, "sign-???.pem")[0]))
    public = [_read_public_key(path) for path in sorted(folder.glob("sign-*.pub.pem"))]
    verifying = {key_id(key): key for key in (*public, signing.public_key())}
    keks = wrapping or LocalKeys(_read_secrets(folder, "kek-*.key"))
    return Keyring(keks, signing, verifying, _read_secrets(folder, "watermark-*.key"))


def load_reading_keys(folder: Path, *, wrapping: KeyProvider | None = None) -> ReadingKeys:
    """As much of a folder as there is; nothing in it is needed. Raises Misconfigured
    KEY_PERMISSIONS, KEY_UNUSABLE."""
    public = [_read_public_key(path) for path in sorted(folder.glob("sign-*.pub.pem"))]
    keks, marks = (
        _read_secrets(folder, pattern) if any(folder.glob(pattern)) else {}
        for pattern in ("kek-*.key", "watermark-*.key")
    )
    local = LocalKeys(keks) if keks else None
    return ReadingKeys({key_id(key): key for key in public}, wrapping or local, marks)


def keyring_from_values(
    *, kek: str, signing: str, watermark: str, wrapping: KeyProvider | None = None
) -> Keyring:
    """The same from setting values, where no folder can be mounted.

    `kek`, `watermark`: base64 of 32 bytes; several separated by commas, the current one first.
    `signing`: the PEM file in base64. `kek` is not read where `wrapping` is given.
    Raises Misconfigured KEY_UNUSABLE.
    """
    key = _parse_signing_key(_decode_base64(signing, "signing key"))
    public = key.public_key()
    keks = wrapping or LocalKeys(_parse_secrets(kek.split(","), "key-encryption key"))
    marks = _parse_secrets(watermark.split(","), "watermark key")
    return Keyring(keks, key, {key_id(public): public}, marks)


def load_public_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """What a reader without secrets needs: the `sign-*.pub.pem` files of a folder by `key_id`."""
    keys = [_read_public_key(path) for path in _find_files(folder, "sign-*.pub.pem")]
    return {key_id(key): key for key in keys}


def _parse_secrets(texts: Iterable[str], where: str) -> dict[str, bytes]:
    keys = [_decode_base64(text, where) for text in texts]
    if any(len(key) != 32 for key in keys):
        raise Misconfigured("KEY_UNUSABLE", f"The {where} must be 32 bytes in base64.")
    return {secret_id(key): key for key in keys}


def _read_secrets(folder: Path, pattern: str) -> dict[str, bytes]:
    texts = [_read_private_file(path).decode("latin-1") for path in _find_files(folder, pattern)]
    return _parse_secrets(texts, f"key in {folder}/{pattern}")


def _find_files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern), reverse=True)
    if not files:
        raise Misconfigured("KEY_NOT_FOUND", f"No {pattern} in {folder}: run `voicedrop init`.")
    return files


def _read_private_file(path: Path) -> bytes:
    with path.open("rb") as file:  # the opened file is checked, not the name
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Misconfigured("KEY_PERMISSIONS", f"Others can read {path}: chmod 600 {path}")
        return file.read(65536)


def _decode_base64(text: str, where: str) -> bytes:
    with raising(
        Misconfigured("KEY_UNUSABLE", f"The {where} is not base64."),
        on=(binascii.Error, ValueError),
    ):
        return base64.b64decode(text.strip(), validate=True)


def _parse_signing_key(pem: bytes) -> Ed25519PrivateKey:
    error = Misconfigured("KEY_UNUSABLE", "The signing key is not an Ed25519 private key in PEM.")
    with raising(error, on=(ValueError, TypeError, UnsupportedAlgorithm)):
        key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise error
    return key


def _read_public_key(path: Path) -> Ed25519PublicKey:
    error = Misconfigured("KEY_UNUSABLE", f"{path} is not an Ed25519 public key in PEM.")
    with raising(error, on=(ValueError, UnsupportedAlgorithm)):
        key = serialization.load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise error
    return key


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _write_once(path: Path, data: bytes) -> list[Path]:
    # mkstemp makes the file 0600 at birth; a hard link never replaces what is there.
    handle, aside = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(aside)
    except FileExistsError:
        return []
    finally:
        Path(aside).unlink()
    return [path]
