"""No secret leaves the process in any spelling, whatever fails."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from core.crypto import keys
from core.storage.oss import Credentials
from handlers.server.secrecy import Mask, find_secrets
from tests.support.container import (
    ACCESS_KEY_SECRET,
    SECURITY_TOKEN,
    STS_HEADERS,
    bucket_server,
    container,
    manifest,
    server_environ,
)
from tests.support.events import notification
from tests.support.quick_server import embedded_spellings, spellings

ROOT = Path(__file__).parents[3]
REDIS = "redis-pass/word+1"
NEVER = "another secret/of+nobody"


def key_settings_of(folder: Path) -> dict[str, str]:
    """Create keys in a folder and return them as settings."""
    keys.create_keys(folder)
    pem = (folder / "sign-001.pem").read_bytes()
    return {
        "VOICEDROP_KEK": (folder / "kek-001.key").read_text().strip(),
        "VOICEDROP_WATERMARK_KEY": (folder / "watermark-001.key").read_text().strip(),
        "VOICEDROP_SIGNING_KEY": base64.b64encode(pem).decode(),
    }


def leaks(text: str, secrets: list[str]) -> list[str]:
    """Return the secrets and spellings that the text contains."""
    matches = []
    for secret in secrets:
        forms = set(spellings(secret))
        # The middle part of base64 text does not depend on what surrounds the secret.
        forms |= {form[8:24] for form in embedded_spellings(secret)}
        matches += [f"{secret[:4]}...: {form}" for form in forms if form in text]
    return matches


def raw(secret: str) -> list[str]:
    """Return the printed forms of the bytes of a base64 key."""
    key = base64.b64decode(secret)
    return [key.hex(), repr(key)[2:-1]]


class Outcome(NamedTuple):
    """Everything that a container logged, answered and stored, its limits, and all secrets."""

    log: str
    answers: list[str]
    stored: str
    limits: str
    """/proc/PID/limits."""
    secrets: list[str]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A container in which everything that uses secrets failed."""
    folder = tmp_path_factory.mktemp("secrets")
    key_settings = key_settings_of(folder / "keys")
    redis = f"redis://:{REDIS.replace('/', '%2F')}@127.0.0.1:9/0"
    log = folder / "log"
    answers: list[str] = []
    with bucket_server() as server:
        for name in ("sign-001.pem", "watermark-001.key"):
            server.place("control", f"keys/{name}", (folder / "keys" / name).read_bytes())
        server.place("control", "keys/redis", redis.encode())
        given = key_settings | {
            "VOICEDROP_SIGNING_KEY": "control:keys/sign-001.pem",
            "VOICEDROP_WATERMARK_KEY": "control:keys/watermark-001.key",
        }
        given["VOICEDROP_REDIS"] = "control:keys/redis"
        environ = server_environ(server, TEST_SECRET_A=NEVER, **given)
        with container(environ | {"FC_TOKEN": NEVER}, log) as client:

            def invoke(key: str, **headers: str) -> None:
                answers.append(str(client.invoke(notification(key), **headers)[1]))

            server.place("inbox", "jobs/a.manifest.json", manifest("!leak", "Fine words."))
            wrong = STS_HEADERS | {"x_fc_access_key_secret": ACCESS_KEY_SECRET[::-1]}
            invoke(
                "jobs/a.manifest.json", **wrong
            )  # the store quotes the signed string in its error
            invoke(
                "jobs/a.manifest.json",
                **(STS_HEADERS | {"x_fc_security_token": SECURITY_TOKEN[::-1]}),
            )
            invoke("jobs/a.manifest.json", **STS_HEADERS)
            server.state.keys.clear()
            server.place("inbox", "jobs/b.manifest.json", manifest("Fine words."))
            invoke("jobs/b.manifest.json", **STS_HEADERS)
            limits = Path(f"/proc/{client.pid}/limits")
            limits_text = limits.read_text() if limits.exists() else ""
        objects = [
            key.encode() + data
            for bucket in ("results", "control")
            for key, data in server.objects(bucket).items()
            if not key.startswith("keys/")
        ]
    stored = b"".join(objects).decode("latin-1")
    secrets = [
        ACCESS_KEY_SECRET,
        ACCESS_KEY_SECRET[::-1],
        SECURITY_TOKEN,
        SECURITY_TOKEN[::-1],
        REDIS,
        NEVER,
        *key_settings.values(),
    ]
    return Outcome(log.read_text(), answers, stored, limits_text, secrets)


@pytest.mark.slow
def test_the_job_ran_and_what_failed_was_logged(outcome: Outcome) -> None:
    log, answers, stored = outcome[:3]
    assert "'succeeded': 1" in answers[2]
    assert "BUCKET_FORBIDDEN" in answers[0] + answers[1] + answers[3] or "CREDENTIALS" in answers[0]
    assert "request failed" in log
    assert "RuntimeError: request failed" in log
    assert "redis does not answer" in log
    assert log.count("***") > 20
    assert '"code":"INTERNAL"' in stored


@pytest.mark.slow
def test_every_line_of_a_request_states_its_id(outcome: Outcome) -> None:
    request, found = "", []
    for line in outcome.log.splitlines():
        if begun := re.fullmatch("FC Invoke Start RequestId: (.+)", line):
            request = begun[1]
        elif line.startswith("FC Invoke End"):
            request = ""
        elif request and line.startswith("{"):
            found.append(json.loads(line) | {"expected": request})
    assert {"job finished", "speak", "request failed"} <= {line["message"] for line in found}
    assert all(line["request_id"] == line["expected"] for line in found)


@pytest.mark.slow
def test_no_secret_is_in_what_was_logged_answered_or_stored(outcome: Outcome) -> None:
    log, answers, stored, _, secrets = outcome
    key = secrets[-3]
    assert leaks(log, secrets) == []
    assert leaks("".join(answers), secrets) == []
    assert leaks(stored, secrets) == []
    assert [form for form in raw(key) if form in log + stored + "".join(answers)] == []


def test_the_search_itself_finds_every_spelling() -> None:
    for form in (*spellings(ACCESS_KEY_SECRET), *embedded_spellings(ACCESS_KEY_SECRET)):
        assert leaks(f"x{form}x", [ACCESS_KEY_SECRET]), form


@pytest.mark.parametrize("secret", ["kT9-secret/of+the-role", "ünïcode+pass/w", "x" * 40])
def test_the_mask_covers_every_spelling_and_nothing_else(secret: str) -> None:
    mask = Mask([secret])
    for form in (*spellings(secret), *embedded_spellings(secret)):
        assert leaks(mask(f"before {form} after"), [secret]) == []
    assert mask("a log line without any") == "a log line without any"


@pytest.mark.slow
def test_the_mask_covers_the_latest_credentials() -> None:
    mask = Mask()
    for number in range(100):
        mask.add(Credentials(f"STS.key-{number:03}", f"secret-{number:03}", ""))
    assert mask("secret-099 secret-050") == "*** ***"
    assert mask("secret-001") == "secret-001"  # expired


def test_key_files_are_masked_like_values(tmp_path: Path) -> None:
    key_settings = key_settings_of(tmp_path)
    mask = Mask(find_secrets({}, tmp_path))
    assert mask(f"<{key_settings['VOICEDROP_KEK']}>") == "<***>"
    line = (tmp_path / "sign-001.pem").read_text().splitlines()[1]
    assert line not in mask((tmp_path / "sign-001.pem").read_text())


CRASH = """
import ctypes, os, resource, sys
from pathlib import Path
if sys.argv[1] == "kept":
    from handlers.server.secrecy import disable_core_dumps
    disable_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
sys.stdout.flush()
os.kill(os.getpid(), 11)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_worker_that_crashes_leaves_no_dump_of_its_memory() -> None:
    limits_of = {}
    for how in ("open", "kept"):
        ran = subprocess.run(
            [sys.executable, "-c", CRASH, how],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == -signal.SIGSEGV
        limits_of[how] = ran.stdout.split()
    assert limits_of["kept"] == ["0", "0"]
    assert limits_of["open"][1] == "1"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_server_can_write_no_core_file(outcome: Outcome) -> None:
    lines = outcome.limits.splitlines()
    (core,) = [line for line in lines if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
