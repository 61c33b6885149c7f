"""Secret keys: how they are stored and created, and the providers that wrap data keys.

    <folder>/            mode 0700; every secret 0600
      kek-001.key        key-encryption key: 32 bytes, base64
      watermark-001.key  watermark key: 32 bytes, base64
      sign-001.pem       Ed25519 private key, PKCS #8
      sign-001.pub.pem   its public key, not secret

The last key of a kind, by file name, is the current one: new outputs use it, and old outputs stay
readable as long as their key exists. To rotate, add a key; to destroy, delete one (docs/format.md).

File names only order the keys. The id of a key is a digest of the key itself, so it does not change
when the key is renamed or moved into a setting. In memory the current key comes first.
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
    """A data key, encrypted with a key-encryption key."""

    kek: str
    """The key-encryption key: `local:<id>` or `kms:<key>`."""
    version: str
    """Its version, if the provider has versions."""
    blob: bytes


class KeyProvider(Protocol):
    """Wraps 32-byte data keys. `context` is authenticated: unwrapping needs the same bytes."""

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Encrypt with the current key. Raises Misconfigured KEY_NOT_FOUND, KEY_UNUSABLE;
        Unavailable KMS_UNAVAILABLE."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Decrypt. Raises Refused SEAL_INVALID if blob or context was changed; Misconfigured
        KEY_DESTROYED if the key does not exist, KEY_UNUSABLE; Unavailable KMS_UNAVAILABLE."""
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
                f"The key {wrapped.kek!r} was not found. If it is in another folder, set "
                "VOICEDROP_KEYS to it; if there is a backup, put its kek-*.key back. Without the "
                "key, the files that it sealed cannot be opened.",
                advice="",
            )
        nonce, sealed = wrapped.blob[:NONCE], wrapped.blob[NONCE:]
        with raising(Refused("SEAL_INVALID"), on=(InvalidTag, ValueError)):
            return AESGCM(key).decrypt(nonce, sealed, _associated_data(wrapped.kek, context))


def secret_id(key: bytes) -> str:
    """Return 16 hex digits that identify a secret key without revealing it."""
    return hashlib.sha256(b"voicedrop/key/1" + key).hexdigest()[:16]


def _associated_data(kek: str, context: bytes) -> bytes:
    return f"voicedrop/wrap/1\n{kek}\n".encode() + context


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """All keys of a worker."""

    wrapping: KeyProvider
    signing: Ed25519PrivateKey
    verifying: Mapping[str, Ed25519PublicKey]
    """`signed.key_id` -> public key, of the current and earlier signing keys."""
    watermark: Mapping[str, bytes]
    """Key id -> 32 bytes; the first one is current."""

    def __repr__(self) -> str:
        marks = ", ".join(self.watermark)
        return f"Keyring({self.wrapping!r}, signing={key_id(self.signing.public_key())}, {marks})"


@dataclass(frozen=True, slots=True, repr=False)
class ReadingKeys:
    """The keys of an auditor: public keys, and optionally the secrets needed for reading."""

    verifying: Mapping[str, Ed25519PublicKey]
    wrapping: KeyProvider | None = None
    """None: sealed files cannot be opened."""
    watermark: Mapping[str, bytes] = field(default_factory=dict)


def create_keys(folder: Path) -> list[Path]:
    """Create the keys that are missing, without replacing any. Returns the files created.

    Safe to repeat, and to run in two processes at once: each file appears complete or not at all.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    created = []
    for kind in ("kek", "watermark"):
        if not any(folder.glob(f"{kind}-*.key")):
            created += _write_once(
                folder / f"{kind}-001.key", base64.b64encode(os.urandom(32)) + b"\n"
            )
    # Public keys of earlier signing keys keep their numbers, because they still verify. They are
    # counted before looking for a private key, because another process may be creating both now.
    earlier = len(list(folder.glob("sign-???.pub.pem")))
    if not any(folder.glob("sign-???.pem")):
        pem = _private_pem(Ed25519PrivateKey.generate())
        created += _write_once(folder / f"sign-{earlier + 1:03}.pem", pem)
    for private in folder.glob("sign-???.pem"):
        created += _write_once(
            private.with_suffix(".pub.pem"),
            _public_pem(_read_signing_key(private)),
        )
    return created


def load_keyring(folder: Path, *, wrapping: KeyProvider | None = None) -> Keyring:
    """Load the keys in a folder. `wrapping` replaces the local key-encryption keys.

    Raises Misconfigured KEY_NOT_FOUND, KEY_PERMISSIONS, KEY_UNUSABLE.
    """
    signing = _read_signing_key(_find_files(folder, "sign-???.pem")[0])
    public = [_read_public_key(path) for path in sorted(folder.glob("sign-*.pub.pem"))]
    verifying = {key_id(key): key for key in (*public, signing.public_key())}
    keks = wrapping or LocalKeys(_read_secrets(folder, "kek-*.key"))
    return Keyring(keks, signing, verifying, _read_secrets(folder, "watermark-*.key"))


def load_reading_keys(folder: Path, *, wrapping: KeyProvider | None = None) -> ReadingKeys:
    """Load the keys in a folder, all of which are optional. Raises Misconfigured KEY_PERMISSIONS,
    KEY_UNUSABLE."""
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
    """Load the keys from settings, for platforms on which no folder can be mounted.

    Of each kind there may be several, separated by commas, the current one first. `kek`,
    `watermark`: base64 of 32 bytes. `signing`: PEM files in base64; of earlier keys the public one
    is enough. `kek` is ignored if `wrapping` is given. Raises Misconfigured KEY_UNUSABLE.
    """
    where = "value of VOICEDROP_SIGNING_KEY"
    current, *earlier = [_decode_base64(text, where) for text in signing.split(",")]
    key = _parse_signing_key(current, where)
    public = [key.public_key(), *map(_parse_verifying_key, earlier)]
    keks = wrapping or LocalKeys(_parse_secrets(kek.split(","), "value of VOICEDROP_KEK"))
    marks = _parse_secrets(watermark.split(","), "value of VOICEDROP_WATERMARK_KEY")
    return Keyring(keks, key, {key_id(one): one for one in public}, marks)


def export_settings(folder: Path, *, announce: bool = False) -> dict[str, str]:
    """Return the keys in a folder as values for `keyring_from_values`: its parameter -> the value.

    `announce`: of each kind, the newest key comes second. A worker with these values knows it, but
    does not use it yet. Raises as `load_keyring`.
    """
    private = _find_files(folder, "sign-???.pem")
    current = private[min(announce, len(private) - 1)]
    _read_signing_key(current)  # raises if it is none
    others = sorted(folder.glob("sign-*.pub.pem"), reverse=True)
    others = [path for path in others if path != current.with_suffix(".pub.pem")]
    signing = [_read_private_file(current), *(path.read_bytes() for path in others)]
    values = {"signing": ",".join(base64.b64encode(pem).decode() for pem in signing)}
    for name, pattern in (("kek", "kek-*.key"), ("watermark", "watermark-*.key")):
        newest_first = list(_read_secrets(folder, pattern).values())
        if announce:
            newest_first[:2] = reversed(newest_first[:2])
        values[name] = ",".join(base64.b64encode(key).decode() for key in newest_first)
    return values


def _parse_secrets(texts: Iterable[str], where: str) -> dict[str, bytes]:
    keys = [_decode_base64(text, where) for text in texts]
    if any(len(key) != 32 for key in keys):
        raise Misconfigured("KEY_UNUSABLE", f"The {where} must be 32 bytes in base64.")
    return {secret_id(key): key for key in keys}


def _read_secrets(folder: Path, pattern: str) -> dict[str, bytes]:
    texts = [_read_private_file(path).decode("latin-1") for path in _find_files(folder, pattern)]
    return _parse_secrets(texts, f"key in {folder}/{pattern}")


_KINDS = {
    "sign-???.pem": "signing key (such as sign-001.pem)",
    "kek-*.key": "key-encryption key (such as kek-001.key)",
    "watermark-*.key": "watermark key (such as watermark-001.key)",
}
"""Names of the files of a kind of key -> what it is called."""


def _find_files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern), reverse=True)
    if not files:
        message = f"There is no {_KINDS[pattern]} in {folder.resolve()}."
        raise Misconfigured("KEY_NOT_FOUND", message)
    return files


def _read_private_file(path: Path) -> bytes:
    with path.open("rb") as file:  # checks the opened file, which cannot be exchanged meanwhile
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Misconfigured("KEY_PERMISSIONS", f"Others can read {path}: chmod 600 {path}")
        return file.read(65536)


def _decode_base64(text: str, where: str) -> bytes:
    with raising(
        Misconfigured("KEY_UNUSABLE", f"The {where} is not base64."),
        on=(binascii.Error, ValueError),
    ):
        return base64.b64decode(text.strip(), validate=True)


def _parse_signing_key(pem: bytes, where: str) -> Ed25519PrivateKey:
    error = Misconfigured("KEY_UNUSABLE", f"The {where} is not an Ed25519 private key in PEM.")
    with raising(error, on=(ValueError, TypeError, UnsupportedAlgorithm)):
        key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise error
    return key


def _parse_verifying_key(pem: bytes) -> Ed25519PublicKey:
    """Return the public key of an earlier signing key, from either half of the pair."""
    if b"PRIVATE KEY" in pem:
        return _parse_signing_key(pem, "earlier signing key").public_key()
    return _parse_public_key(pem, "An earlier signing key")


def _read_signing_key(path: Path) -> Ed25519PrivateKey:
    return _parse_signing_key(_read_private_file(path), f"key in {path}")


def _read_public_key(path: Path) -> Ed25519PublicKey:
    return _parse_public_key(path.read_bytes(), str(path))


def _parse_public_key(pem: bytes, where: str) -> Ed25519PublicKey:
    error = Misconfigured("KEY_UNUSABLE", f"{where} is not an Ed25519 public key in PEM.")
    with raising(error, on=(ValueError, UnsupportedAlgorithm)):
        key = serialization.load_pem_public_key(pem)
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
    # mkstemp creates the file with mode 0600, and a hard link never replaces an existing file.
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError:
        return []
    finally:
        Path(temporary).unlink()
    return [path]
