"""The body against the `tink` package, both ways."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import tink
from tink import json_proto_keyset_format, secret_key_access, streaming_aead

from core.crypto import sealing
from core.crypto.sealing import SEGMENT
from core.errors import Refused
from tests.support import vectors

KEY = bytes(range(32))
FIRST = SEGMENT - 56  # plaintext of a full first segment
ONE = SEGMENT - 16  # of every further one
LENGTHS = [0, 1, 15, 16, 17, FIRST - 1, FIRST, FIRST + 1, FIRST + ONE, FIRST + ONE + 1]


@pytest.fixture(scope="module")
def stock() -> streaming_aead.StreamingAead:
    streaming_aead.register()
    handle = json_proto_keyset_format.parse(sealing.tink_keyset(KEY), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class Unclosable(io.BytesIO):
    """Not closed by Tink, so that the bytes can be read afterwards."""

    def close(self) -> None:
        pass


def sealed_by_voicedrop(plain: bytes, associated: bytes) -> bytes:
    sink = io.BytesIO()
    sealing.encrypt(io.BytesIO(plain), sink, KEY, associated, start=vectors.stream(39))
    return sink.getvalue()


@pytest.mark.parametrize(
    "associated", [b"", b'{"item":"a"}', bytes(300)], ids=["no", "short", "long"]
)
@pytest.mark.parametrize("length", LENGTHS)
def test_tink_and_voicedrop_open_each_others_files(
    stock: streaming_aead.StreamingAead, length: int, associated: bytes
) -> None:
    plain = vectors.stream(length)
    with stock.new_decrypting_stream(
        io.BytesIO(sealed_by_voicedrop(plain, associated)), associated
    ) as stream:
        assert stream.read() == plain
    theirs = Unclosable()
    with stock.new_encrypting_stream(theirs, associated) as sink:
        sink.write(plain)
    back = io.BytesIO()
    sealing.decrypt(io.BytesIO(theirs.getvalue()), back, KEY, associated)
    assert back.getvalue() == plain
    assert len(theirs.getvalue()) == vectors.sealed_size(length)


BODY_LENGTH = FIRST + ONE + 9
DAMAGES = {
    "border": lambda b: b[:SEGMENT],
    "second border": lambda b: b[: 2 * SEGMENT],
    "cut": lambda b: b[:-3],
    "extended": lambda b: b + b"\0" * 20,
    "salt": lambda b: b[:3] + bytes([b[3] ^ 1]) + b[4:],
    "swapped": lambda b: b[SEGMENT : 2 * SEGMENT] + b[:SEGMENT] + b[2 * SEGMENT :],
    "header only": lambda b: b[:40],
    "tag only": lambda b: b[:50],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_both_refuse_the_same_damage(
    stock: streaming_aead.StreamingAead, damage: Callable[[bytes], bytes]
) -> None:
    body = damage(sealed_by_voicedrop(vectors.stream(BODY_LENGTH), b"a"))
    with pytest.raises(Refused, match="SEAL_INVALID"):
        sealing.decrypt(io.BytesIO(body), io.BytesIO(), KEY, b"a")
    with (
        pytest.raises((tink.TinkError, OSError)),
        stock.new_decrypting_stream(io.BytesIO(body), b"a") as stream,
    ):
        stream.read()


def test_both_refuse_other_associated_data(stock: streaming_aead.StreamingAead) -> None:
    body = sealed_by_voicedrop(b"x" * 100, b"a")
    with pytest.raises(Refused, match="SEAL_INVALID"):
        sealing.decrypt(io.BytesIO(body), io.BytesIO(), KEY, b"b")
    with (
        pytest.raises((tink.TinkError, OSError)),
        stock.new_decrypting_stream(io.BytesIO(body), b"b") as stream,
    ):
        stream.read()
