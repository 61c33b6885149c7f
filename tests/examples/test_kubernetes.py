"""The Job for Kubernetes fits the commands, settings and image of this version.

Its form is validated by `scripts/acceptance recipes`.
"""

from __future__ import annotations

import base64
import subprocess
from dataclasses import fields
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.crypto import keys
from core.settings import Settings
from handlers import wiring
from handlers.cli import exit_codes
from tests.support.command_line import ROOT

FOLDER = ROOT / "examples/kubernetes"
SETTINGS = yaml.safe_load((FOLDER / "settings.yaml").read_text(encoding="utf-8"))["data"]
JOB = yaml.safe_load((FOLDER / "job.yaml").read_text(encoding="utf-8"))["spec"]
POD = JOB["template"]["spec"]


def action_after(code: int) -> str:
    """Return what the Job does when the worker exits with this code; by default it is counted."""
    for rule in JOB["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", []):
            return str(rule["action"])
    return "Count"


def test_only_what_may_succeed_later_is_repeated_and_not_for_ever() -> None:
    wrong_usage = 2
    actions = {
        exit_codes.FAILED: "FailIndex",
        exit_codes.MISCONFIGURED: "FailJob",
        wrong_usage: "FailJob",
        exit_codes.WAITING: "Count",
        exit_codes.LATER: "Count",
    }
    assert {code: action_after(code) for code in actions} == actions
    assert JOB["backoffLimitPerIndex"] > 0
    assert JOB["activeDeadlineSeconds"] > 0


def test_the_pod_runs_as_the_image_and_writes_to_its_own_volumes_only() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"USER {POD['securityContext']['runAsUser']}:" in dockerfile
    assert "HOME=/tmp" in dockerfile
    assert "NUMBA_CACHE_DIR=/app/cache/numba" in dockerfile
    for container in (*POD["initContainers"], *POD["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"]
    watch, (cache,) = POD["containers"][0], POD["initContainers"]
    assert cache["command"] == ["cp", "-r", "/app/cache/numba", "/cache/numba"]
    assert watch["env"] == [{"name": "NUMBA_CACHE_DIR", "value": "/cache/numba"}]
    assert {mount["mountPath"] for mount in watch["volumeMounts"]} == {"/cache", "/tmp"}


def test_settings_and_secret_configure_a_worker(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys.create_keys(folder)
    for kind in ("kek", "watermark"):
        (folder / f"{kind}-002.key").write_bytes(base64.b64encode(kind.ljust(32).encode()) + b"\n")
        (folder / f"{kind}-002.key").chmod(0o600)
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (folder / "sign-002.pem").write_bytes(pem)
    (folder / "sign-002.pem").chmod(0o600)
    (folder / "sign-001.pem").unlink()
    keys.create_keys(folder)
    environ = SETTINGS | read_secret(folder)
    settings = Settings.from_environ(environ)
    settings.refuse_loops()
    known = {f"VOICEDROP_{field.name.upper()}" for field in fields(Settings)}
    assert {name for name in environ if name.startswith("VOICEDROP_")} <= known
    credentials = wiring.CurrentCredentials(environ)
    assert credentials().access_key_secret == "secret+/="
    given, expected = wiring.load_keyring(settings, credentials), keys.load_keyring(folder)
    assert (repr(given), {*given.verifying}) == (repr(expected), {*expected.verifying})
    assert len(given.verifying) == 2


def read_secret(folder: Path) -> dict[str, str]:
    """Return the variables of the Secret that the script prints for a folder of keys."""
    environ = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "secret+/="}
    path = {"PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [FOLDER / "secret.sh", folder], env=environ | path, capture_output=True, check=True
    )
    data = yaml.safe_load(ran.stdout)["data"]
    return {name: base64.b64decode(value).decode() for name, value in data.items()}
