"""core.crypto.sealing: known answers, tampering, sizes, streams, metadata."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
from collections.abc import Callable

import msgspec
import pytest

from core.crypto import sealing
from core.crypto.keys import LocalKeys, secret_id
from core.crypto.sealing import SEGMENT, Context, Envelope
from core.errors import JobError, Misconfigured, Refused
from tests.support import vectors

CONTEXT = Context(job="0" * 32, item="hello", mt="audio/wav")
KEK = bytes(range(32))
KEYS = LocalKeys({secret_id(KEK): KEK})


class SealedVector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str
    expect: str
    """`open`, or the code of the error."""
    kek: str
    envelope: msgspec.Raw
    body: str
    plaintext: str


class BodyVector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str
    key: str
    associated_data: str
    start: str
    plaintext: str | None
    """Hex; if null, the first `length` bytes of `vectors.stream`."""
    length: int
    body_length: int
    body_sha256: str
    body: str | None


@pytest.mark.parametrize("vector", vectors.read("sealed.json", SealedVector), ids=lambda v: v.name)
def test_sealed_vector(vector: SealedVector) -> None:
    kek = bytes.fromhex(vector.kek)
    keys = LocalKeys({secret_id(kek): kek})
    envelope = msgspec.json.decode(vector.envelope, type=Envelope)
    body = bytes.fromhex(vector.body)
    if vector.expect == "open":
        assert sealing.open_sealed(body, envelope, keys) == bytes.fromhex(vector.plaintext)
        assert len(body) == vectors.sealed_size(envelope.pt_len)
    else:
        with pytest.raises(JobError) as caught:
            sealing.open_sealed(body, envelope, keys)
        assert caught.value.code == vector.expect


@pytest.mark.parametrize("vector", vectors.read("bodies.json", BodyVector), ids=lambda v: v.name)
def test_body_vector_byte_for_byte(vector: BodyVector) -> None:
    """Bodies made by Tink; with their salt and prefix voicedrop writes the same bytes."""
    key, associated = bytes.fromhex(vector.key), bytes.fromhex(vector.associated_data)
    plain = vectors.stream(vector.length)
    if vector.plaintext is not None:
        plain = bytes.fromhex(vector.plaintext)
    sink, start = io.BytesIO(), bytes.fromhex(vector.start)
    sealing.encrypt(io.BytesIO(plain), sink, key, associated, start=start)
    body = sink.getvalue()
    assert len(plain) == vector.length
    assert len(body) == vector.body_length == vectors.sealed_size(vector.length)
    assert hashlib.sha256(body).hexdigest() == vector.body_sha256
    assert vector.body is None or body.hex() == vector.body
    back = io.BytesIO()
    sealing.decrypt(io.BytesIO(body), back, key, associated)
    assert back.getvalue() == plain


def test_sealing_and_opening_with_a_fresh_key_each_time() -> None:
    one, two = (sealing.seal(b"secret", CONTEXT, KEYS) for _ in range(2))
    assert sealing.open_sealed(one.body, one.envelope, KEYS) == b"secret"
    assert sealing.unwrap_data_key(one.envelope, KEYS) != sealing.unwrap_data_key(
        two.envelope, KEYS
    )
    assert one.body != two.body
    with pytest.raises(Refused, match="SEAL_INVALID"):
        sealing.open_sealed(one.body, two.envelope, KEYS)


def test_every_sampled_bit_flip_is_refused() -> None:
    sealed = sealing.seal(vectors.stream(200), CONTEXT, KEYS)
    key, associated = sealing.unwrap_data_key(sealed.envelope, KEYS), CONTEXT.associated_data
    for bit in random.Random(1).sample(range(8 * len(sealed.body)), 300):
        body = bytearray(sealed.body)
        body[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused, match="SEAL_INVALID"):
            sealing.decrypt(io.BytesIO(body), io.BytesIO(), key, associated)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda b: b[:SEGMENT], id="truncated at a segment boundary"),
        pytest.param(lambda b: b[: 2 * SEGMENT], id="truncated at the second boundary"),
        pytest.param(lambda b: b[: SEGMENT + 7], id="truncated inside a segment"),
        pytest.param(lambda b: b[:SEGMENT] + b[2 * SEGMENT :], id="a segment omitted"),
        pytest.param(lambda b: b + b[SEGMENT : 2 * SEGMENT], id="a segment repeated"),
        pytest.param(
            lambda b: b[:SEGMENT] + b[2 * SEGMENT : 3 * SEGMENT] + b[SEGMENT : 2 * SEGMENT],
            id="segments swapped",
        ),
    ],
)
def test_segments_cannot_be_truncated_repeated_or_swapped(damage: Callable[[bytes], bytes]) -> None:
    key, start, plain = os.urandom(32), os.urandom(39), vectors.stream(3 * SEGMENT - 16 * 3 - 40)
    sink = io.BytesIO()
    sealing.encrypt(io.BytesIO(plain), sink, key, b"", start=start)
    assert len(sink.getvalue()) == 3 * SEGMENT
    with pytest.raises(Refused, match="SEAL_INVALID"):
        sealing.decrypt(io.BytesIO(damage(sink.getvalue())), io.BytesIO(), key, b"")


class Trickle(io.BytesIO):
    """A raw stream that returns at most 1000 bytes per call, like a socket."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1000) if size != -1 else 1000)


def test_streams_may_give_fewer_bytes_than_asked() -> None:
    plain = vectors.stream(SEGMENT + 5)
    body, back = io.BytesIO(), io.BytesIO()
    envelope = sealing.seal_stream(Trickle(plain), body, CONTEXT, KEYS)
    sealing.open_stream(Trickle(body.getvalue()), back, envelope, KEYS)
    assert back.getvalue() == plain


class Zeros:
    """Returns `left` zero bytes and records the largest request."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.largest = 0

    def read(self, size: int, /) -> bytes:
        self.largest = max(self.largest, size)
        given = min(size, self.left)
        self.left -= given
        return bytes(given)


class Count:
    def __init__(self) -> None:
        self.size = self.largest = 0

    def write(self, data: bytes, /) -> None:
        self.size += len(data)
        self.largest = max(self.largest, len(data))


def test_streaming_never_holds_more_than_a_segment_at_a_time() -> None:
    source, sink = Zeros(8 * SEGMENT), Count()
    sealing.seal_stream(source, sink, CONTEXT, KEYS)
    assert sink.size == vectors.sealed_size(8 * SEGMENT)
    assert source.largest <= SEGMENT
    assert sink.largest <= SEGMENT


def test_rewrapping_keeps_body_and_context() -> None:
    sealed = sealing.seal(b"x", CONTEXT, KEYS)
    new = os.urandom(32)
    both = LocalKeys({secret_id(new): new} | dict(KEYS.keys))
    envelope = sealing.rewrap(sealed.envelope, both)
    assert (envelope.ct_sha256, envelope.commit) == (
        sealed.envelope.ct_sha256,
        sealed.envelope.commit,
    )
    only_new = LocalKeys({secret_id(new): new})
    assert sealing.open_sealed(sealed.body, envelope, only_new) == b"x"
    with pytest.raises(Misconfigured, match="KEY_DESTROYED"):
        sealing.open_sealed(sealed.body, sealed.envelope, only_new)


def test_metadata_round_trip_and_what_object_stores_allow() -> None:
    envelope = sealing.seal(b"x", CONTEXT, KEYS).envelope
    envelope = msgspec.structs.replace(envelope, kek="kms:acs:kms:cn-hangzhou:1:key/k x")
    headers = sealing.envelope_metadata(envelope)
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert all(set(value) <= allowed for value in headers.values())
    assert all(set(name) <= allowed - {"_"} and name.islower() for name in headers)
    assert sum(len(n) + len(v) for n, v in headers.items()) < 1024  # of 8 KiB
    assert sealing.envelope_from_metadata(headers | {"vc-aigc": "1"}) == envelope


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"vc-kek": "AAAAA"}, id="not base64"),
        pytest.param({"vc-ct-len": "many"}, id="not a number"),
        pytest.param({"vc-v": "2"}, id="another version"),
        pytest.param({"vc-ctx": base64.urlsafe_b64encode(b'{"job":1}').decode()}, id="context"),
        pytest.param({"vc-alg": "AES"}, id="another algorithm"),
        pytest.param(None, id="missing"),
    ],
)
def test_metadata_without_an_envelope_is_refused(change: dict[str, str] | None) -> None:
    headers = sealing.envelope_metadata(sealing.seal(b"x", CONTEXT, KEYS).envelope)
    with pytest.raises(Refused, match="SEAL_INVALID"):
        sealing.envelope_from_metadata({} if change is None else headers | change)


def test_neither_body_nor_keys_appear_in_a_repr() -> None:
    sealed = sealing.seal(b"x", CONTEXT, KEYS)
    assert len(repr(sealed)) < 1000
    assert KEK.hex() not in repr(KEYS)
    assert repr(KEK)[2:-1] not in repr(KEYS)


def test_an_envelope_without_a_canonical_context_is_refused() -> None:
    envelope = sealing.seal(b"x", CONTEXT, KEYS).envelope
    broken = msgspec.structs.replace(envelope.ctx, item="\ud800")
    with pytest.raises(Refused, match="SEAL_INVALID"):
        sealing.unwrap_data_key(msgspec.structs.replace(envelope, ctx=broken), KEYS)
