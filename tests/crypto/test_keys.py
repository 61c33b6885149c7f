"""core.crypto.keys: creating, loading, rotating and deleting keys."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.crypto import keys
from core.crypto.keys import LocalKeys, WrappedKey, secret_id
from core.documents import signed
from core.errors import Misconfigured, Refused

DATA_KEY = bytes(range(100, 132))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.create_keys(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_created_keys_can_be_loaded(folder: Path) -> None:
    ring = keys.load_keyring(folder)
    assert ring.wrapping.unwrap(ring.wrapping.wrap(DATA_KEY, b"c"), b"c") == DATA_KEY
    assert [len(key) for key in ring.watermark.values()] == [32]
    public = keys.load_reading_keys(folder).verifying
    assert signed.verify(signed.sign({}, ring.signing), public) == {}


def test_create_returns_new_files_and_replaces_none(tmp_path: Path) -> None:
    made = keys.create_keys(tmp_path / "new" / "keys")
    assert [path.name for path in made] == [
        "kek-001.key",
        "watermark-001.key",
        "sign-001.pem",
        "sign-001.pub.pem",
    ]
    before = [path.read_bytes() for path in made]
    assert keys.create_keys(tmp_path / "new" / "keys") == []
    assert [path.read_bytes() for path in made] == before


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_secrets_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        keys.create_keys(tmp_path / "keys")
    finally:
        os.umask(before)
    assert {mode(path) for path in (tmp_path / "keys").glob("*.key")} == {0o600}
    assert mode(tmp_path / "keys/sign-001.pem") == 0o600


def test_a_new_folder_is_private(folder: Path) -> None:
    assert mode(folder) == 0o700


def test_creating_from_many_threads_creates_one_set(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(keys.create_keys, [tmp_path / "keys"] * 16))
    assert sorted(path.name for paths in made for path in paths) == sorted(
        path.name for path in (tmp_path / "keys").iterdir()
    )
    ring = keys.load_keyring(tmp_path / "keys")
    assert list(ring.verifying) == [signed.key_id(ring.signing.public_key())]


def test_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "kek-001.key").chmod(0o640)
    with pytest.raises(Misconfigured, match=r"KEY_PERMISSIONS.*chmod 600"):
        keys.load_keyring(folder)


@pytest.mark.parametrize("name", ["kek-001.key", "watermark-001.key", "sign-001.pem"])
def test_a_missing_key_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Misconfigured, match=rf"KEY_NOT_FOUND: .* \(such as {name}\) in /"):
        keys.load_keyring(folder)


def test_the_newest_key_wraps_and_older_ones_still_open(folder: Path) -> None:
    old = keys.load_keyring(folder).wrapping.wrap(DATA_KEY, b"c")
    new = os.urandom(32)
    (folder / "kek-002.key").write_text(text(new))
    (folder / "kek-002.key").chmod(0o600)
    wrapping = keys.load_keyring(folder).wrapping
    assert wrapping.wrap(DATA_KEY, b"c").kek == f"local:{secret_id(new)}"
    assert wrapping.unwrap(old, b"c") == DATA_KEY


def test_deleting_a_key_destroys_what_it_wrapped(folder: Path) -> None:
    old = keys.load_keyring(folder).wrapping.wrap(DATA_KEY, b"c")
    (folder / "kek-001.key").unlink()
    keys.create_keys(folder)
    with pytest.raises(Misconfigured, match="KEY_DESTROYED"):
        keys.load_keyring(folder).wrapping.unwrap(old, b"c")


def test_the_public_key_of_a_rotated_signing_key_still_verifies(folder: Path) -> None:
    old = signed.sign({"n": 1}, keys.load_keyring(folder).signing)
    (folder / "sign-001.pem").unlink()
    assert [path.name for path in keys.create_keys(folder)] == ["sign-002.pem", "sign-002.pub.pem"]
    ring = keys.load_keyring(folder)
    assert signed.verify(old, ring.verifying) == {"n": 1}
    assert signed.verify(signed.sign({"n": 2}, ring.signing), ring.verifying) == {"n": 2}


def test_a_key_keeps_its_id_in_a_setting_value(folder: Path) -> None:
    ring = keys.load_keyring(folder)
    wrapped = ring.wrapping.wrap(DATA_KEY, b"c")
    given = keys.keyring_from_values(
        kek=f"{text(os.urandom(32))},{(folder / 'kek-001.key').read_text()}",
        signing=text((folder / "sign-001.pem").read_bytes()),
        watermark=(folder / "watermark-001.key").read_text(),
    )
    assert given.wrapping.unwrap(wrapped, b"c") == DATA_KEY
    assert given.wrapping.wrap(DATA_KEY, b"c").kek != wrapped.kek
    assert given.watermark == ring.watermark
    assert list(given.verifying) == list(ring.verifying)


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"kek": ""}, id="no kek"),
        pytest.param({"kek": "not base64!"}, id="kek is not base64"),
        pytest.param({"kek": "钥匙"}, id="kek is not ASCII"),
        pytest.param({"watermark": text(bytes(31))}, id="watermark key too short"),
        pytest.param({"signing": text(b"PEM?")}, id="signing key is not PEM"),
        pytest.param(
            {"signing": text(pem(ec.generate_private_key(ec.SECP256R1())))}, id="an EC key"
        ),
    ],
)
def test_malformed_values_are_unusable(values: dict[str, str]) -> None:
    good = {
        "kek": text(bytes(32)),
        "signing": text(pem(Ed25519PrivateKey.generate())),
        "watermark": text(bytes(32)),
    }

    def read(kek: str, signing: str, watermark: str) -> keys.Keyring:
        return keys.keyring_from_values(kek=kek, signing=signing, watermark=watermark)

    assert read(**good).watermark
    (name,) = values
    variable = {"kek": "KEK", "signing": "SIGNING_KEY", "watermark": "WATERMARK_KEY"}[name]
    with pytest.raises(Misconfigured, match=f"KEY_UNUSABLE: The value of VOICEDROP_{variable} "):
        read(**(good | values))


@pytest.mark.parametrize("content", ["nonsense", "ec"])
def test_a_malformed_public_key_is_unusable(folder: Path, content: str) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    encoded = other.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "sign-000.pub.pem").write_bytes(encoded if content == "ec" else b"nonsense")
    with pytest.raises(Misconfigured, match=r"KEY_UNUSABLE.*sign-000"):
        keys.load_keyring(folder)


def test_another_provider_can_wrap_instead(folder: Path) -> None:
    other = LocalKeys({"elsewhere": bytes(32)})
    (folder / "kek-001.key").unlink()
    assert keys.load_keyring(folder, wrapping=other).wrapping is other


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"blob": b""}, id="empty"),
        pytest.param({"blob": bytes(60)}, id="other bytes"),
        pytest.param({"blob": bytes(11)}, id="shorter than a nonce"),
    ],
)
def test_a_changed_wrapped_key_is_refused(change: dict[str, bytes]) -> None:
    ring = LocalKeys({"a": bytes(32)})
    with pytest.raises(Refused, match="SEAL_INVALID"):
        ring.unwrap(WrappedKey("local:a", "1", change["blob"]), b"c")


def test_the_context_is_authenticated() -> None:
    ring = LocalKeys({"a": bytes(32)})
    with pytest.raises(Refused, match="SEAL_INVALID"):
        ring.unwrap(ring.wrap(DATA_KEY, b"one"), b"two")


def test_an_empty_ring_cannot_wrap() -> None:
    with pytest.raises(Misconfigured, match="KEY_NOT_FOUND"):
        LocalKeys({}).wrap(DATA_KEY, b"c")


def test_no_secret_appears_in_a_repr(folder: Path) -> None:
    ring = keys.load_keyring(folder)
    assert isinstance(ring.wrapping, LocalKeys)
    shown = repr(ring)
    for key in (*ring.wrapping.keys.values(), *ring.watermark.values()):
        assert text(key) not in shown
        assert key.hex() not in shown
        assert repr(key) not in shown
