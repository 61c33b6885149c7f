"""Signed JSON documents: Ed25519 (RFC 8032) over the canonical form (RFC 8785).

    {"schema": "...", ..., "signature": {"alg": "Ed25519", "key_id": "...", "value": "..."}}

The signature covers the canonical bytes of the document without its `signature` member, so white
space and the order of keys may change in transit. docs/format.md shows how to verify one with
openssl alone.

The member `schema` is part of what is signed and names the kind of document, so that a document of
one kind is never taken for one of another (`read`). That it is read from its own place is for the
reader to check: every kind states the job, item or key that it belongs to.

A document that we signed, of a higher number in `schema` or with a member that is not known here,
was written by a newer version. It is neither refused, which would have it replaced, nor believed:
whoever meets it leaves it as it is and tries again later, when a newer worker may have gone on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.documents import base64url, canonical
from core.errors import Refused, Unavailable, raising
from core.version import VERSION

T = TypeVar("T", bound=msgspec.Struct)


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alg: Literal["Ed25519"] = "Ed25519"
    key_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    value: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{86}\Z")]
    """64 bytes, base64url without padding."""


def key_id(key: Ed25519PublicKey) -> str:
    """Return the first 16 hex digits of the SHA-256 of the 32 key bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def sign(document: Any, key: Ed25519PrivateKey) -> bytes:
    """Return the canonical bytes of a Struct or dict with its signature. Deterministic.

    An existing signature is replaced. Raises ValueError as `canonical.dump` does.
    """
    body = {**msgspec.to_builtins(document)}
    body.pop("signature", None)
    written = {name: canonical.dump(member) for name, member in body.items()}
    value = base64url.encode(key.sign(canonical.join_members(written)))
    signature = Signature(key_id=key_id(key.public_key()), value=value)
    return canonical.join_members({**written, "signature": canonical.dump(signature)})


def verify(document: bytes, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """Return the document without its signature, after verifying it with the keys in `keys`.

    `keys` maps `key_id` to key. Raises Refused SIGNATURE_INVALID.
    """
    return _VALUES_DECODER.decode(canonical.join_members(_signed_members(document, keys)))


def read(document: bytes, type_: type[T], keys: Mapping[str, Ed25519PublicKey]) -> T:
    """Verify a document and parse it as `type_`, whose field `schema` has the only value that is
    accepted as its default. Raises Refused SIGNATURE_INVALID, for a document of another kind too;
    Unavailable FORMAT_NEWER for one of the same kind that a newer version wrote.
    """
    schema = _schema_of(type_)
    stated = _signed_members(document, keys).get("schema", b"")
    error = Refused("SIGNATURE_INVALID", f"Not a document of the kind {schema}.")
    if stated != canonical.dump(schema):
        raise _written_later(schema) if _is_later(stated, schema) else error
    try:
        return msgspec.json.decode(document, type=type_)
    except (msgspec.DecodeError, KeyError, RecursionError) as exc:
        raise _written_later(schema) if "unknown field" in str(exc) else error from exc


def _is_later(stated: bytes, schema: str) -> bool:
    kind, _, number = schema.rpartition("/")
    found = re.fullmatch(rf'"{re.escape(kind)}/([0-9]{{1,9}})"', stated.decode())
    return found is not None and int(found[1]) > int(number)


def _written_later(schema: str) -> Unavailable:
    return Unavailable(
        "FORMAT_NEWER",
        f"A newer version of voicedrop than {VERSION} wrote this {schema.split('/')[-2]}, which is "
        "left as it is.",
    )


@cache
def _schema_of(type_: type[msgspec.Struct]) -> str:
    return next(str(f.default) for f in msgspec.structs.fields(type_) if f.name == "schema")


_EARLIER_KEY = (
    "If the signing key was replaced, the earlier public key (sign-*.pub.pem) is missing."
)
_VALUES_DECODER = msgspec.json.Decoder(dict[str, Any])
_MEMBERS_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _signed_members(document: bytes, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, bytes]:
    """Return the members that a key in `keys` signed, each in canonical form.

    The document is first assumed to be in canonical form, as voicedrop writes it. Only another one
    is converted to that form, which takes ten times as long as everything else.
    """
    with suppress(Refused):
        return _members_if_canonical(document, keys)
    with raising(_not_signed(), on=ValueError):
        rewritten = canonical.dump(canonical.load(document))
    return _members_if_canonical(rewritten, keys)


def _members_if_canonical(
    document: bytes, keys: Mapping[str, Ed25519PublicKey]
) -> dict[str, bytes]:
    """Do the same for a document that is in canonical form.

    The parser accepts duplicate keys, so the members are joined again and compared with the
    document. That the values are canonical follows from the signature, because only canonical bytes
    are signed.
    """
    with raising(_not_signed(), on=(ValueError, RecursionError)):
        members = {name: bytes(raw) for name, raw in _MEMBERS_DECODER.decode(document).items()}
        signature = msgspec.json.decode(members.pop("signature", b""), type=Signature)
        whole = canonical.join_members({**members, "signature": canonical.dump(signature)})
    if whole != document:
        raise _not_signed()
    key = keys.get(signature.key_id)
    if key is None:
        message = f"Signed with an unknown key: {signature.key_id}. {_EARLIER_KEY}"
        raise Refused("SIGNATURE_INVALID", message)
    with raising(Refused("SIGNATURE_INVALID"), on=InvalidSignature):
        key.verify(base64url.decode(signature.value), canonical.join_members(members))
    return members


def _not_signed() -> Refused:
    return Refused("SIGNATURE_INVALID", "Not a signed document.")
