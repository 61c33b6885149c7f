"""Merkle trees and signed notes against published vectors and the recursive definitions."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Refused
from core.tlog import merkle, signed_note
from core.tlog.signed_note import Checkpoint

# The inputs and figures of the reference implementation of RFC 6962
# (github.com/google/certificate-transparency, merkle tree tests).
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
LEAVES = [merkle.leaf_hash(data) for data in INPUTS]
NODE = merkle.Tree(LEAVES).node


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_reference_implementation(size: int) -> None:
    assert merkle.root(size, NODE).hex() == ROOTS[size]


@pytest.mark.parametrize(("where", "path"), PATHS.items(), ids=str)
def test_audit_paths_of_the_reference_implementation(
    where: tuple[int, int], path: list[str]
) -> None:
    assert [part.hex() for part in merkle.inclusion_proof(*where, NODE)] == path


def make_leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(i).encode()) for i in range(count)]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 defines it, over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(
        b"\1" + root_by_definition(leaves[:k]) + root_by_definition(leaves[k:])
    ).digest()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_every_leaf_is_proven_and_no_other(size: int, data: st.DataObject) -> None:
    leaves = make_leaves(size)
    node, index = merkle.Tree(leaves).node, data.draw(st.integers(0, size - 1))
    top = merkle.root(size, node)
    path = merkle.inclusion_proof(index, size, node)
    assert top == root_by_definition(leaves)
    assert merkle.verify_inclusion(leaves[index], index, size, path, top)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"x"), index, size, path, top)
    assert not merkle.verify_inclusion(leaves[index], index + 1, size, path, top)
    assert not merkle.verify_inclusion(leaves[index], index, size, [*path, top], top)
    assert size == 1 or not merkle.verify_inclusion(leaves[index], index, size, path[:-1], top)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_consistency_is_proven_for_extended_trees_only(new: int, data: st.DataObject) -> None:
    leaves, old = make_leaves(new), data.draw(st.integers(1, new))
    node = merkle.Tree(leaves).node
    tops = merkle.root(old, node), merkle.root(new, node)
    path = merkle.consistency_proof(old, new, node)
    assert merkle.verify_consistency(old, new, *tops, path)
    other = merkle.root(old, merkle.Tree([merkle.leaf_hash(b"x"), *leaves[1:]]).node)
    assert not merkle.verify_consistency(old, new, other, tops[1], path)
    assert not merkle.verify_consistency(old, new, *tops, [*path, tops[0]])
    assert old == new or not merkle.verify_consistency(old, new, *tops, [])


def test_proofs_for_impossible_trees_are_refused() -> None:
    assert not merkle.verify_inclusion(LEAVES[0], 0, 0, [], LEAVES[0])
    assert not merkle.verify_inclusion(LEAVES[0], -1, 1, [], LEAVES[0])
    assert not merkle.verify_consistency(0, 1, LEAVES[0], LEAVES[0], [])
    assert not merkle.verify_consistency(2, 1, LEAVES[0], LEAVES[0], [])


@pytest.mark.parametrize("first", [0, 1, 255, 256, 257])
@pytest.mark.parametrize("more", [1, 255, 256, 600])
def test_tiles_do_not_depend_on_the_batches(first: int, more: int) -> None:
    leaves = make_leaves(first + more)
    tree = merkle.Tree()
    kept: dict[tuple[int, int, int], bytes] = {}
    for old, new in ((0, first), (first, first + more)):
        for leaf in leaves[old:new]:
            tree.append(leaf)
        kept |= {(level, i, len(data) // 32): data for level, i, data in tree.tiles(old)}
    at_once = {(level, i): data for level, i, data in merkle.Tree(leaves).tiles()}
    for (level, number), data in at_once.items():
        assert kept[level, number, len(data) // 32] == data
    assert at_once[0, 0][:32] == leaves[0]


def test_a_second_level_begins_at_256_leaves() -> None:
    leaves = make_leaves(256)
    made = {(level, i): data for level, i, data in merkle.Tree(leaves).tiles()}
    assert made == {(0, 0): b"".join(leaves), (1, 0): root_by_definition(leaves)}


# The example of the Go package golang.org/x/mod/sumdb/note.
GO_KEY = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_signed_by_go_verifies() -> None:
    key = Ed25519PublicKey.from_public_bytes(GO_KEY[1:])
    assert (
        signed_note.verify_note(GO_NOTE, "PeterNeumann", [key]) == GO_NOTE.split("\n\n")[0] + "\n"
    )


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ORIGIN = "voicedrop.example/results"
POINT = Checkpoint(ORIGIN, 8, bytes.fromhex(ROOTS[8]))
SIGNED = signed_note.sign(POINT.text(), ORIGIN, KEY)


def test_a_signed_checkpoint_verifies() -> None:
    assert signed_note.verify_checkpoint(SIGNED, ORIGIN, [KEY.public_key()]) == POINT


def test_signatures_of_witnesses_are_ignored() -> None:
    witness = signed_note.sign(POINT.text(), "witness.example", Ed25519PrivateKey.generate())
    both = SIGNED + witness.split("\n\n")[1] + "— broken !!!\nno signature\n"
    others = [Ed25519PrivateKey.generate().public_key(), KEY.public_key()]
    assert signed_note.verify_checkpoint(both, ORIGIN, others) == POINT


def sign_text(text: str) -> str:
    return signed_note.sign(text, ORIGIN, KEY)


@pytest.mark.parametrize(
    "signed",
    [
        pytest.param("", id="empty"),
        pytest.param(POINT.text(), id="unsigned"),
        pytest.param(SIGNED.replace("\n8\n", "\n9\n"), id="another size"),
        pytest.param(SIGNED.replace(ORIGIN, "other.example/log"), id="another origin"),
        pytest.param(
            signed_note.sign(POINT.text(), ORIGIN, Ed25519PrivateKey.generate()), id="stranger"
        ),
        pytest.param(sign_text("words\n"), id="not a checkpoint"),
        pytest.param(sign_text(POINT.text().replace("\n8\n", "\n08\n")), id="size with a zero"),
        pytest.param(sign_text(POINT.text().replace("\n8\n", "\nx\n")), id="size is no number"),
        pytest.param(sign_text(Checkpoint("other.example", 8, POINT.root).text()), id="other log"),
    ],
)
def test_invalid_checkpoints_are_refused(signed: str) -> None:
    with pytest.raises(Refused, match="LOG_INVALID"):
        signed_note.verify_checkpoint(signed, ORIGIN, [KEY.public_key()])
