"""The format of sealed files: a Tink AES256_GCM_HKDF_1MB body and a separate envelope.

    body    = 0x28 || salt[32] || prefix[7] || segment_0 || ... || segment_n-1
    key     = HKDF-SHA256(ikm = data key[32], salt, info = associated data, 32 bytes)
    segment = AES-256-GCM(key, nonce = prefix || uint32_be(i) || (1 if last else 0), no aad)
    sizes   : 1 MiB of ciphertext per segment, the first including the header

Source: the wire format of Google Tink's AES-GCM-HKDF streaming AEAD. The body follows it byte for
byte, so any Tink can read it. The associated data is the RFC 8785 form of the context.

Tink's format is not key-committing: someone who knows two keys can craft one body that decrypts to
two texts. The envelope therefore contains HKDF-SHA256(data key, salt = "voicedrop/commit/v1",
info = associated data), which is compared before anything is decrypted. See docs/format.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.crypto.keys import KeyProvider, WrappedKey
from core.documents import base64url, canonical
from core.errors import Refused, raising

SEGMENT = 1 << 20
HEADER = 40
TAG = 16
_HEADER_LENGTH_BYTE = bytes([HEADER])

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Base64Url = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+\Z")]
Size = Annotated[int, msgspec.Meta(ge=0)]


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Context(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a sealed file contains; opening it as anything else fails. Its key is not part of it, so
    that copies and renamed objects stay readable."""

    job: str
    item: str
    mt: str
    """Media type of the plaintext."""
    v: Literal[1] = 1

    @property
    def associated_data(self) -> bytes:
        return canonical.dump(self)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner of the key needs besides the body. The signed result authenticates it."""

    v: Literal[1] = 1
    alg: Literal["TINK-AES256-GCM-HKDF-1MB"] = "TINK-AES256-GCM-HKDF-1MB"
    kek: str
    kek_ver: str
    wdek: Base64Url
    """The data key, wrapped."""
    commit: Base64Url
    ctx: Context
    ct_sha256: Digest
    ct_len: Size
    pt_sha256: Digest
    pt_len: Size


@dataclass(frozen=True, slots=True)
class Sealed:
    body: bytes = field(repr=False)
    envelope: Envelope


def seal(plaintext: bytes, context: Context, keys: KeyProvider) -> Sealed:
    """Encrypt under a fresh data key, wrapped by `keys`. Raises what `keys.wrap` raises."""
    sink = io.BytesIO()
    envelope = seal_stream(io.BytesIO(plaintext), sink, context, keys)
    return Sealed(sink.getvalue(), envelope)


def open_sealed(body: bytes, envelope: Envelope, keys: KeyProvider) -> bytes:
    """Return the plaintext. Raises Refused SEAL_INVALID, and what `keys.unwrap` raises."""
    sink = io.BytesIO()
    open_stream(io.BytesIO(body), sink, envelope, keys)
    return sink.getvalue()


def open_object(
    body: bytes, metadata: Mapping[str, str], context: Context, keys: KeyProvider
) -> bytes:
    """Return the plaintext of a sealed object, whose envelope is in its metadata.

    Raises Refused SEAL_INVALID, also if it was sealed with another context; what `keys.unwrap`
    raises.
    """
    envelope = envelope_from_metadata(metadata)
    if envelope.ctx != context:
        raise Refused("SEAL_INVALID", "It was sealed as something else.")
    return open_sealed(body, envelope, keys)


def seal_stream(source: Source, sink: Sink, context: Context, keys: KeyProvider) -> Envelope:
    """`seal` from file to file in about 4 MiB of memory."""
    key = os.urandom(32)
    plain, body = _HashingStream(source), _HashingStream(sink)
    wrapped = keys.wrap(key, context.associated_data)
    encrypt(plain, body, key, context.associated_data, start=os.urandom(HEADER - 1))
    return Envelope(
        kek=wrapped.kek,
        kek_ver=wrapped.version,
        wdek=base64url.encode(wrapped.blob),
        commit=base64url.encode(commitment(key, context)),
        ctx=context,
        ct_sha256=body.sha256.hexdigest(),
        ct_len=body.size,
        pt_sha256=plain.sha256.hexdigest(),
        pt_len=plain.size,
    )


def open_stream(source: Source, sink: Sink, envelope: Envelope, keys: KeyProvider) -> None:
    """`open_sealed` from file to file. Each segment is authentic when written, but all are there
    only when this returns: write to a temporary file and publish it afterwards."""
    key = unwrap_data_key(envelope, keys)
    body, plain = _HashingStream(source), _HashingStream(sink)
    decrypt(body, plain, key, envelope.ctx.associated_data)
    found = (body.size, body.sha256.hexdigest(), plain.size, plain.sha256.hexdigest())
    if found != (envelope.ct_len, envelope.ct_sha256, envelope.pt_len, envelope.pt_sha256):
        raise Refused("SEAL_INVALID", "The sealed file does not match its envelope.")


def unwrap_data_key(envelope: Envelope, keys: KeyProvider) -> bytes:
    """Unwrap the data key and check the commitment to it."""
    with raising(Refused("SEAL_INVALID"), on=ValueError):
        wrapped = WrappedKey(envelope.kek, envelope.kek_ver, base64url.decode(envelope.wdek))
        committed = base64url.decode(envelope.commit)
        associated_data = envelope.ctx.associated_data
    key = keys.unwrap(wrapped, associated_data)
    if not hmac.compare_digest(commitment(key, envelope.ctx), committed):
        raise Refused(
            "SEAL_INVALID", "The envelope contains another key than the one it commits to."
        )
    return key


def rewrap(envelope: Envelope, keys: KeyProvider) -> Envelope:
    """Return the envelope with the data key wrapped by the current key-encryption key."""
    wrapped = keys.wrap(unwrap_data_key(envelope, keys), envelope.ctx.associated_data)
    return msgspec.structs.replace(
        envelope, kek=wrapped.kek, kek_ver=wrapped.version, wdek=base64url.encode(wrapped.blob)
    )


def commitment(key: bytes, context: Context) -> bytes:
    """Return the 32-byte commitment to a key and context."""
    return _hkdf(key, b"voicedrop/commit/v1", context.associated_data)


def encrypt(
    source: Source, sink: Sink, key: bytes, associated_data: bytes, *, start: bytes
) -> None:
    """Encrypt the body, deterministically. `start`: 39 bytes, salt and nonce prefix; random, and
    never used twice with the same key."""
    salt, prefix = start[:32], start[32:]
    gcm = AESGCM(_hkdf(key, salt, associated_data))
    sink.write(_HEADER_LENGTH_BYTE + start)
    for i, piece, last in _read_segments(source, SEGMENT - TAG):
        sink.write(gcm.encrypt(_nonce(prefix, i, last), piece, None))


def decrypt(source: Source, sink: Sink, key: bytes, associated_data: bytes) -> None:
    """Undo `encrypt`. Raises Refused SEAL_INVALID at the first segment that is not authentic."""
    header = _read_exactly(source, HEADER)
    if len(header) < HEADER or header[:1] != _HEADER_LENGTH_BYTE:
        raise Refused("SEAL_INVALID", "Not a sealed file: its header is truncated or wrong.")
    salt, prefix = header[1:33], header[33:]
    gcm = AESGCM(_hkdf(key, salt, associated_data))
    with raising(Refused("SEAL_INVALID"), on=InvalidTag):
        for i, piece, last in _read_segments(source, SEGMENT):
            sink.write(gcm.decrypt(_nonce(prefix, i, last), piece, None))


def tink_keyset(key: bytes) -> str:
    """Return a Tink JSON keyset with the data key of one file, for opening its body with Tink.

    It gives access to that file and to no other.
    """
    # protobuf AesGcmHkdfStreamingKey: params{segment 2^20, derived key 32, SHA256}, key_value
    value = bytes.fromhex("12080880804010201803 1a20") + key
    data = {
        "typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        "value": base64.b64encode(value).decode(),
        "keyMaterialType": "SYMMETRIC",
    }
    entry = {"keyData": data, "status": "ENABLED", "keyId": 1, "outputPrefixType": "RAW"}
    return json.dumps({"primaryKeyId": 1, "key": [entry]})


METADATA_NAMES = {name: f"vc-{name.replace('_', '-')}" for name in Envelope.__struct_fields__}
_ENCODED_FIELDS = ("kek", "kek_ver")  # key names may contain characters that metadata may not


def envelope_metadata(envelope: Envelope) -> dict[str, str]:
    """Return the envelope as object metadata: `vc-*` names, values of letters, digits, `-`, `_`."""
    fields = msgspec.to_builtins(envelope) | {"ctx": base64url.encode(envelope.ctx.associated_data)}
    fields |= {name: base64url.encode(fields[name].encode()) for name in _ENCODED_FIELDS}
    return {METADATA_NAMES[name]: str(value) for name, value in fields.items()}


def envelope_from_metadata(values: Mapping[str, str]) -> Envelope:
    """Parse object metadata; ignores other names. Raises Refused SEAL_INVALID."""
    error = Refused("SEAL_INVALID", "The object's metadata contains no envelope: use result.json.")
    with raising(error, on=(ValueError, KeyError, RecursionError)):
        fields = {name: values[header] for name, header in METADATA_NAMES.items()}
        decoded = {name: base64url.decode(fields[name]).decode() for name in _ENCODED_FIELDS}
        context = msgspec.json.decode(base64url.decode(fields["ctx"]), type=Context)
        return msgspec.convert(fields | decoded | {"ctx": context}, Envelope, strict=False)


class _HashingStream:
    """A stream that counts and hashes what passes through it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.size = 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data: bytes = self.stream.read(size)
        self._note(data)
        return data

    def write(self, data: bytes) -> None:
        self.stream.write(data)
        self._note(data)

    def _note(self, data: bytes) -> None:
        self.size += len(data)
        self.sha256.update(data)


def _read_segments(source: Source, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield index, bytes and whether it is the last segment. The first is shorter by the header. No
    segment is empty, except the only one of an empty source."""
    i, piece = 0, _read_exactly(source, size - HEADER)
    while following := _read_exactly(source, size):
        yield i, piece, False
        i, piece = i + 1, following
    yield i, piece, True


def _read_exactly(source: Source, size: int) -> bytes:
    """Read `size` bytes, or fewer at the end: a raw stream may return less per call."""
    data = source.read(size)
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


def _nonce(prefix: bytes, i: int, last: bool) -> bytes:
    return prefix + struct.pack(">I?", i, last)


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=info).derive(key)
