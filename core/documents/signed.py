"""Signed JSON documents: Ed25519 (RFC 8032) over the canonical form (RFC 8785).

    {"schema": "...", ..., "signature": {"alg": "Ed25519", "key_id": "...", "value": "..."}}

The signature covers the canonical bytes of the document without its `signature` member, so white
space and the order of keys may change on the way. docs/format.md shows how to check one with
openssl alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.documents import canonical
from core.errors import Refused, raising


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alg: Literal["Ed25519"] = "Ed25519"
    key_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    value: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{86}\Z")]
    """64 bytes, base64url without padding."""


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the SHA-256 of the 32 key bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def sign(document: Any, key: Ed25519PrivateKey) -> bytes:
    """Canonical bytes of a Struct or dict with its signature; the same input gives the same bytes.

    A signature already there is replaced. Raises ValueError as `canonical.dump` does.
    """
    body = {**msgspec.to_builtins(document)}
    body.pop("signature", None)
    written = {name: canonical.dump(member) for name, member in body.items()}
    value = base64.urlsafe_b64encode(key.sign(canonical.join(written))).rstrip(b"=").decode()
    signature = Signature(key_id=key_id(key.public_key()), value=value)
    return canonical.join({**written, "signature": canonical.dump(signature)})


def verify(document: bytes, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """The document without its signature, once it is proven to be what a key in `keys` signed.

    `keys` maps `key_id` to key. Raises Refused SIGNATURE_INVALID.
    """
    with suppress(ValueError, RecursionError):
        if written := _as_written(document, keys):
            return msgspec.json.decode(written, type=dict[str, Any])
    return _read_anew(document, keys)


def check(document: bytes, keys: Mapping[str, Ed25519PublicKey]) -> None:
    """As `verify`, for whoever reads the document in another way."""
    if not _as_written(document, keys):
        _read_anew(document, keys)


def _read_anew(document: bytes, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    with raising(Refused("SIGNATURE_INVALID", "Not a signed document."), on=ValueError):
        body = msgspec.convert(canonical.load(document), dict[str, Any])
        signature = msgspec.convert(body.pop("signature", None), Signature)
    key = keys.get(signature.key_id)
    if key is None:
        raise Refused("SIGNATURE_INVALID", f"Signed with a key we do not know: {signature.key_id}.")
    with raising(Refused("SIGNATURE_INVALID", "Not a signed document."), on=ValueError):
        signed = canonical.dump(body)
    if not _holds(key, signature, signed):
        raise Refused("SIGNATURE_INVALID")
    return body


class _Signed(msgspec.Struct):
    """A document of which only the signature is read."""

    signature: Signature


_SIGNED = msgspec.json.Decoder(_Signed)


def _as_written(document: bytes, keys: Mapping[str, Ed25519PublicKey]) -> bytes:
    """The document without its signature, if it was not written anew since we signed it: then these
    are the bytes that were signed, canonical and so without a key that stands twice. Else nothing.

    A string cannot hold the member, for its quotes would be escaped. Taken from an inner object it
    would leave the outer one in what is signed, and no signature can cover itself.
    """
    with suppress(ValueError, RecursionError):
        signature = _SIGNED.decode(document).signature
        before, _, after = document.partition(b'"signature":' + canonical.dump(signature))
        signed = before[:-1] + after if before.endswith(b",") else before + after.removeprefix(b",")
        key = keys.get(signature.key_id)
        if key and _holds(key, signature, signed):
            return signed
    return b""


def _holds(key: Ed25519PublicKey, signature: Signature, signed: bytes) -> bool:
    try:
        key.verify(base64.urlsafe_b64decode(signature.value + "=="), signed)
    except InvalidSignature:
        return False
    return True
