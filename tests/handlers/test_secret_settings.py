"""Secrets are read at the start from an object or from KMS, and from nowhere else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core.crypto import keys
from core.crypto.keys import LocalKeys
from core.errors import Misconfigured
from core.settings import Settings
from handlers import secret_settings, wiring
from handlers.cli.app import app
from handlers.cli.doctor import check_environment
from handlers.wiring import CurrentCredentials
from tests.support import kms_server
from tests.support.kms_server import Kms

MARK = base64.b64encode(bytes(range(32))).decode()
ROLE = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": kms_server.SECRET}


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    with kms_server.running(tmp_path_factory.mktemp("kms")) as server:
        server.keys = {"alias/settings": bytes(32)}
        yield server


@pytest.fixture
def settings(tmp_path: Path, kms: Kms, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a function whose keys are objects of the control bucket, or sealed by `kms`."""
    monkeypatch.setenv("SSL_CERT_FILE", kms.ca_file)
    keys.create_keys(tmp_path / "keys")
    (tmp_path / "control").mkdir()
    (tmp_path / "keys").rename(tmp_path / "control" / "keys")
    return Settings(
        control=str(tmp_path / "control"),
        keys=tmp_path / "control" / "keys",
        oss_region="cn-hangzhou",
        kms_endpoint=kms.endpoint,
        kek="control:keys/kek-001.key",
        signing_key="control:keys/sign-001.pem",
        watermark_key="control:keys/watermark-001.key",
    )


def environ_of(settings: Settings, **more: str) -> dict[str, str]:
    names = ("control", "kms_endpoint", "oss_region", "kek", "signing_key", "watermark_key")
    given = {f"VOICEDROP_{name.upper()}": str(getattr(settings, name)) for name in names}
    return {**given, **ROLE, "VOICEDROP_KEYS": "/nowhere", "VOICEDROP_KOKORO": "/nowhere", **more}


def reader(settings: Settings, learned: list[str] | None = None) -> secret_settings.SecretReader:
    learn = (lambda _: None) if learned is None else learned.append
    return wiring.secret_reader(settings, CurrentCredentials(ROLE), learn)


def sealed(settings: Settings, text: str, variable: str = "VOICEDROP_WATERMARK_KEY") -> str:
    provider = wiring.open_kms(
        Settings(oss_region="cn-hangzhou", kms_key="alias/settings",
                 kms_endpoint=settings.kms_endpoint), CurrentCredentials(ROLE)
    )  # fmt: skip
    return secret_settings.seal(variable, text, provider)


def test_objects_of_the_control_bucket_are_the_keys_in_the_folder(settings: Settings) -> None:
    learned: list[str] = []
    ring = wiring.load_keyring(settings, CurrentCredentials({}), learned.append)
    folder = keys.load_keyring(settings.keys)
    assert isinstance(ring.wrapping, LocalKeys)
    assert isinstance(folder.wrapping, LocalKeys)
    assert (ring.watermark, ring.wrapping.keys) == (folder.watermark, folder.wrapping.keys)
    assert list(ring.verifying) == list(folder.verifying)
    assert (settings.keys / "kek-001.key").read_text().strip() in learned  # to be masked
    assert len(learned) == 3


def test_what_kms_sealed_is_opened_for_its_variable_alone(settings: Settings) -> None:
    text = sealed(settings, MARK)
    assert MARK not in text
    assert reader(settings).reveal("VOICEDROP_WATERMARK_KEY", text) == MARK
    with pytest.raises(Misconfigured, match="KEY_UNUSABLE: VOICEDROP_REDIS was not sealed for"):
        reader(settings).reveal("VOICEDROP_REDIS", text)


def test_an_object_may_hold_what_kms_sealed(settings: Settings) -> None:
    (settings.keys / "watermark-001.key").write_text(sealed(settings, MARK) + "\n")
    ring = wiring.load_keyring(settings, CurrentCredentials(ROLE))
    assert list(ring.watermark.values()) == [bytes(range(32))]


def test_several_may_come_from_different_places(settings: Settings) -> None:
    given = f"{sealed(settings, MARK)}, control:keys/watermark-001.key"
    stored = (settings.keys / "watermark-001.key").read_text().strip()
    assert reader(settings).reveal("VOICEDROP_WATERMARK_KEY", given) == f"{MARK},{stored}"


@pytest.mark.parametrize("text", ["", MARK, "redis://:a,b@host:1/0"])
def test_anything_else_is_the_secret_itself(settings: Settings, text: str) -> None:
    assert reader(settings).reveal("VOICEDROP_REDIS", text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("control:keys/other.key", "KEY_NOT_FOUND: VOICEDROP_KEK names keys/other.key in"),
        ("control:../keys", "KEY_UNUSABLE: VOICEDROP_KEK names ../keys in"),
        ("control:binary", "KEY_UNUSABLE: .* which is not text"),
        ("kms:?", "KEY_UNUSABLE: VOICEDROP_KEK was not sealed for this variable"),
        ("kms:AAAA", "KEY_"),
    ],
)
def test_what_cannot_be_read_is_named(settings: Settings, text: str, message: str) -> None:
    Path(settings.control, "binary").write_bytes(b"\xff\x00")
    with pytest.raises(Misconfigured, match=message):
        reader(settings).reveal("VOICEDROP_KEK", text)


@pytest.mark.slow
def test_the_command_seals_what_the_function_then_opens(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = "redis://:hunter2@host:1/0"
    given = {"VOICEDROP_REDIS": redis, "VOICEDROP_KEYS": str(settings.keys)}
    for name, value in (environ_of(settings) | given).items():
        monkeypatch.setenv(name, value)
    printed = CliRunner().invoke(app, ["keys", "seal", "--key", "alias/settings"])
    assert printed.exit_code == 0, printed.output
    pairs = [line.removeprefix("export ").split("=", 1) for line in printed.stdout.splitlines()]
    exported = {name.removesuffix("_SOURCE"): value for name, value in pairs}
    assert set(exported) == {f"VOICEDROP_{name}" for name in ("KEK", "SIGNING_KEY", "WATERMARK_KEY",
                                                              "REDIS")}  # fmt: skip
    assert sum(map(len, exported.values())) < 2000  # of the 4 KB of a function
    environ = environ_of(settings) | exported
    ring = wiring.load_keyring(Settings.from_environ(environ), CurrentCredentials(ROLE))
    assert ring.watermark == keys.load_keyring(settings.keys).watermark
    assert reader(settings).reveal("VOICEDROP_REDIS", exported["VOICEDROP_REDIS"]) == redis

    (line,) = (line for line in check_environment(environ).lines if line.startswith("ok   keys"))
    for name in ("SIGNING_KEY", "WATERMARK_KEY", "KEK"):
        assert f"(VOICEDROP_{name}, sealed by KMS)" in line


def test_a_key_of_kms_needs_no_key_encryption_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = environ_of(settings, VOICEDROP_KMS_KEY="alias/settings")
    for name, value in (environ | {"VOICEDROP_KEYS": str(settings.keys)}).items():
        monkeypatch.setenv(name, value)
    printed = CliRunner().invoke(app, ["keys", "seal", "--json"])
    assert "VOICEDROP_KEK_SOURCE" not in json.loads(printed.stdout)["sealed"]
    (settings.keys / "kek-001.key").unlink()  # the default of s.yaml names it
    wiring.load_keyring(Settings.from_environ(environ), CurrentCredentials(ROLE))


def test_doctor_says_where_each_key_comes_from(settings: Settings) -> None:
    environ = environ_of(settings, VOICEDROP_WATERMARK_KEY=MARK)
    (line,) = (line for line in check_environment(environ).lines if line.startswith("ok   keys"))
    assert "(control:keys/sign-001.pem)" in line
    assert "(VOICEDROP_WATERMARK_KEY, as plain text)" in line
    assert "(control:keys/kek-001.key)" in line
    assert MARK not in line
    folder = {"VOICEDROP_KEYS": str(settings.keys), "VOICEDROP_KOKORO": "/nowhere"}
    (line,) = (line for line in check_environment(folder).lines if line.startswith("ok   keys"))
    assert line.count(f"({settings.keys})") == 3


def values(exported: dict[str, str]) -> dict[str, Any]:
    return {**exported}


def test_the_two_deployments_of_a_rotation_are_exported_in_order(tmp_path: Path) -> None:
    keys.create_keys(tmp_path)
    once = keys.export_settings(tmp_path)
    assert keys.export_settings(tmp_path, announce=True) == once
    other = tmp_path / "other"
    keys.create_keys(other)
    for path in other.iterdir():
        path.rename(tmp_path / path.name.replace("001", "002"))
    announced = keys.export_settings(tmp_path, announce=True)
    used = keys.export_settings(tmp_path)
    for name, value in once.items():
        old, new = announced[name].split(",")
        if name != "signing":  # of which the public half is made known
            assert old == value
            assert used[name].split(",") == [new, old]
    rings = [keys.keyring_from_values(**values(one)) for one in (announced, used, once)]
    first, second, before = rings
    old, new = first.verifying
    assert list(second.verifying) == [new, old]
    assert first.signing.public_key() == before.signing.public_key()
