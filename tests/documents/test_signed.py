"""core.documents.signed: known answers, openssl as the independent path, tampering."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.crypto import keys
from core.documents import signed as sign
from core.errors import JobError, Refused, Unavailable
from tests.support import vectors

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = {sign.key_id(KEY.public_key()): KEY.public_key()}
DOCUMENT = {"schema": "voicedrop/result/1", "items": [{"id": "a", "seconds": 1.0}], "ü": "第一"}


class Vector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str
    public_key: str
    """32 bytes, hex."""
    document: str
    expect: str
    """`valid`, or the code of the error."""


@pytest.mark.parametrize("vector", vectors.read("signed.json", Vector), ids=lambda v: v.name)
def test_vector(vector: Vector) -> None:
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector.public_key))
    known = {sign.key_id(key): key}
    if vector.expect == "valid":
        assert "signature" not in sign.verify(vector.document.encode(), known)
    else:
        with pytest.raises(JobError) as caught:
            sign.verify(vector.document.encode(), known)
        assert caught.value.code == vector.expect


def test_signing_twice_gives_the_same_bytes() -> None:
    assert sign.sign(DOCUMENT, KEY) == sign.sign(dict(reversed(DOCUMENT.items())), KEY)


def test_signing_again_replaces_the_signature() -> None:
    once = sign.sign(DOCUMENT, KEY)
    assert sign.sign(json.loads(once), KEY) == once


def test_verify_returns_the_document_without_its_signature() -> None:
    assert sign.verify(sign.sign(DOCUMENT, KEY), PUBLIC) == DOCUMENT


def test_white_space_and_order_do_not_matter() -> None:
    values = json.loads(sign.sign(DOCUMENT, KEY))
    other = json.dumps(dict(reversed(values.items())), indent=4, ensure_ascii=True).encode()
    assert sign.verify(other, PUBLIC) == DOCUMENT


class Small(msgspec.Struct):
    schema: str
    duration: float


def test_structs_are_signed_as_their_json() -> None:
    assert sign.verify(sign.sign(Small("x/1", 2.0), KEY), PUBLIC) == {
        "schema": "x/1",
        "duration": 2,
    }


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d["items"][0].update(id="b"), id="a value"),
        pytest.param(lambda d: d.update(more=1), id="an added field"),
        pytest.param(lambda d: d.pop("items"), id="a removed field"),
        pytest.param(lambda d: d["signature"].update(alg="none"), id="algorithm none"),
        pytest.param(lambda d: d["signature"].update(key_id="0" * 16), id="another key id"),
        pytest.param(lambda d: d["signature"].update(extra=1), id="unknown signature field"),
        pytest.param(lambda d: d["signature"].update(value="A" * 86), id="another value"),
        pytest.param(lambda d: d["signature"].update(value="A" * 85), id="a short value"),
        pytest.param(lambda d: d.pop("signature"), id="no signature"),
    ],
)
def test_changed_documents_are_refused(change: Callable[[Any], object]) -> None:
    document = json.loads(sign.sign(DOCUMENT, KEY))
    change(document)
    with pytest.raises(Refused, match="SIGNATURE_INVALID"):
        sign.verify(json.dumps(document).encode(), PUBLIC)


def test_a_signature_of_an_unknown_key_is_refused() -> None:
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(Refused, match="unknown key"):
        sign.verify(sign.sign(DOCUMENT, stranger), PUBLIC)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 5000, b'{"a":1,"a":1}']
)
def test_malformed_documents_are_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="SIGNATURE_INVALID"):
        sign.verify(data, PUBLIC)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_the_shell_commands_in_the_documentation_verify_a_document(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/format.md").read_text()
    (lines,) = re.findall(r"```sh\n(sed .*?)```", page, re.DOTALL)
    keys.create_keys(tmp_path / "keys")
    signed = sign.sign(DOCUMENT | {"totals": {}}, keys.load_keyring(tmp_path / "keys").signing)

    def verified(document: bytes) -> bool:
        (tmp_path / "result.json").write_bytes(document)
        shell = ["bash", "-ec", lines]
        return subprocess.run(shell, cwd=tmp_path, check=False, capture_output=True).returncode == 0

    assert verified(signed)
    assert not verified(signed.replace(b'"id":"a"', b'"id":"b"'))


def test_a_signature_moved_into_an_inner_object_is_invalid() -> None:
    document = {"a": 1, "meta": {"b": 2}, "z": 3}
    data = sign.sign(document, KEY)
    assert sign.verify(data, PUBLIC) == document
    member = data[data.index(b'"signature"') : data.index(b',"z"')]
    moved = data.replace(b"," + member, b"").replace(b'{"b":2}', b'{"b":2,' + member + b"}")
    spaced = member.replace(b'"signature":', b'"signature": ')
    for changed in (moved, b"{" + spaced + b"," + moved[1:]):
        with pytest.raises(Refused):
            sign.verify(changed, PUBLIC)
    again = data.replace(member, spaced)
    assert sign.verify(again, PUBLIC) == document


class One(msgspec.Struct, forbid_unknown_fields=True):
    schema: Literal["one/1"] = "one/1"
    id: str = ""
    signature: sign.Signature | None = None


class Other(One):
    schema: Literal["other/1"] = "other/1"  # type: ignore[assignment]


def test_a_document_is_read_only_as_the_kind_that_was_signed() -> None:
    data = sign.sign(One(id="a"), KEY)
    assert sign.read(data, One, PUBLIC).id == "a"
    assert sign.read(json.dumps(json.loads(data), indent=1).encode(), One, PUBLIC).id == "a"
    for other in (
        sign.sign(Other(id="a"), KEY),
        sign.sign({"id": "a"}, KEY),
        sign.sign({"schema": "one/1", "id": 1}, KEY),
        sign.sign({"schema": "one/0", "id": "a"}, KEY),
        sign.sign({"schema": "one/02x", "id": "a"}, KEY),
        sign.sign({"schema": ["one/1"]}, KEY),
        data.replace(b"one/1", b"other/1"),
    ):
        with pytest.raises(Refused, match="SIGNATURE_INVALID"):
            sign.read(other, One, PUBLIC)
    with pytest.raises(Refused, match="SIGNATURE_INVALID"):
        sign.read(data, Other, PUBLIC)


@pytest.mark.parametrize("change", [{"schema": "one/2"}, {"schema": "one/10"}, {"more": 1}])
def test_a_document_of_a_newer_version_is_neither_believed_nor_refused(
    change: dict[str, Any],
) -> None:
    document = {"schema": "one/1", "id": "a"} | change
    with pytest.raises(Unavailable, match=r"FORMAT_NEWER: A newer version .* wrote this one"):
        sign.read(sign.sign(document, KEY), One, PUBLIC)
    with pytest.raises(Refused, match="SIGNATURE_INVALID"):
        sign.read(sign.sign(document, Ed25519PrivateKey.generate()), One, PUBLIC)


def test_a_duplicate_member_is_refused_in_any_order() -> None:
    data = sign.sign({"a": 1, "z": {"b": 2}}, KEY)
    member = data[data.index(b'"signature"') : data.index(b',"z"')]
    for twice in (
        data.replace(b'"a":1', b'"a":1,"a":1'),
        data.replace(b'"a":1', b'"a":2,"a":1'),
        data.replace(b'"b":2', b'"b":3,"b":2'),
        data.replace(member, member + b"," + member),
        data.replace(b'"alg":', b'"alg":"none","alg":'),
        data.replace(b'"z":', b'"signature":null,"z":'),
    ):
        assert twice != data
        for form in (twice, twice.replace(b":", b": ")):
            with pytest.raises(Refused, match="SIGNATURE_INVALID"):
                sign.verify(form, PUBLIC)


def test_a_reformatted_document_has_the_same_values() -> None:
    data = sign.sign({"large": 1e20, "small": 1e-7, "whole": 2.0, "text": "\u2028😀"}, KEY)
    again = json.dumps(json.loads(data), indent=1).encode()
    assert repr(sign.verify(again, PUBLIC)) == repr(sign.verify(data, PUBLIC))


PIECES = [
    b'"signature":', b"{", b"}", b",", b'"a":1,', b'"a":1,"a":2,', rb"\u0061", b" ", b"\n",
    b"\xef\xbb\xbf", b"1e0", b".0", b"-0", b"NaN", rb"\ud800", rb'"signatur\u0065":',
    b'"signature":null,', b"9007199254740993",
]  # fmt: skip


def test_no_random_change_makes_a_signed_document_say_something_else() -> None:
    """For us, and for a reader that verifies with us and parses with another library."""
    assert find_forgeries(1500) == []


def find_forgeries(count: int) -> list[bytes]:
    rng = random.Random(7)
    found = []
    for _ in range(count):
        inner = {"signature": "q", "b": [1, {"c": 2}]}
        document = {"schema": "x", "a": rng.choice([1, 0, 1.5, "s"]), "n": inner, "z": "é😀"}
        changed = change(sign.sign(document, KEY), rng)
        try:
            read = sign.verify(changed, PUBLIC)
        except Refused:
            continue
        other = msgspec.json.decode(changed)
        other.pop("signature")
        if not read == other == document:
            found.append(changed)
    return found


def change(data: bytes, rng: random.Random) -> bytes:
    """Flip, insert, delete, copy or repeat bytes, or the signature, one to three times."""
    changed = bytearray(data)
    member = data[data.index(b'"signature":{"alg') :]
    member = member[: member.index(b"}") + 1]
    for _ in range(rng.randint(1, 3)):
        at, end = sorted(rng.randrange(len(changed) + 1) for _ in range(2))
        kind = rng.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at:at] = rng.choice(PIECES)
        elif kind == 2:
            del changed[at : min(end, at + 12)]
        elif kind == 3:
            changed[rng.randrange(len(changed) + 1) : 0] = changed[at : min(end, at + 40)]
        else:
            changed[at:at] = rng.choice([member, member + b",", b"," + member])
    return bytes(changed)
