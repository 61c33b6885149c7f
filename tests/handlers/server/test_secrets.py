"""Whatever goes wrong, no secret leaves the process, in no spelling."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from core.crypto import keys
from core.storage.oss import Credentials
from handlers.server.secrecy import Mask, secrets_of
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


def values(folder: Path) -> dict[str, str]:
    """The keys of a folder as settings."""
    keys.create_keys(folder)
    pem = (folder / "sign-001.pem").read_bytes()
    return {
        "VOICEDROP_KEK": (folder / "kek-001.key").read_text().strip(),
        "VOICEDROP_WATERMARK_KEY": (folder / "watermark-001.key").read_text().strip(),
        "VOICEDROP_SIGNING_KEY": base64.b64encode(pem).decode(),
    }


def leaks(text: str, secrets: list[str]) -> list[str]:
    """What of the secrets is in there, in which spelling."""
    found = []
    for secret in secrets:
        forms = set(spellings(secret))
        # The middle of what is encoded as part of something longer.
        forms |= {form[8:24] for form in embedded_spellings(secret)}
        found += [f"{secret[:4]}...: {form}" for form in forms if form in text]
    return found


def raw(secret: str) -> list[str]:
    """The bytes that a key in base64 stands for, as they would be printed."""
    key = base64.b64decode(secret)
    return [key.hex(), repr(key)[2:-1]]


class After(NamedTuple):
    """All that a container wrote and answered, and what was secret."""

    log: str
    said: list[str]
    stored: str
    secrets: list[str]


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> After:
    """While everything secret failed."""
    folder = tmp_path_factory.mktemp("secrets")
    made = values(folder / "keys")
    redis = f"redis://:{REDIS.replace('/', '%2F')}@127.0.0.1:9/0"
    log = folder / "log"
    said: list[str] = []
    with bucket_server() as server:
        environ = server_environ(server, VOICEDROP_REDIS=redis, TEST_SECRET_A=NEVER, **made)
        with container(environ | {"FC_TOKEN": NEVER}, log) as client:

            def invoke(key: str, **headers: str) -> None:
                said.append(str(client.invoke(notification(key), **headers)[1]))

            server.place("inbox", "jobs/a.manifest.json", manifest("!leak", "Fine words."))
            wrong = STS_HEADERS | {"x_fc_access_key_secret": ACCESS_KEY_SECRET[::-1]}
            invoke("jobs/a.manifest.json", **wrong)  # the store answers with all that was signed
            invoke(
                "jobs/a.manifest.json",
                **(STS_HEADERS | {"x_fc_security_token": SECURITY_TOKEN[::-1]}),
            )
            invoke("jobs/a.manifest.json", **STS_HEADERS)
            server.state.keys.clear()
            server.place("inbox", "jobs/b.manifest.json", manifest("Fine words."))
            invoke("jobs/b.manifest.json", **STS_HEADERS)
        objects = [
            key.encode() + data
            for bucket in ("results", "control")
            for key, data in server.objects(bucket).items()
        ]
    stored = b"".join(objects).decode("latin-1")
    secrets = [
        ACCESS_KEY_SECRET,
        ACCESS_KEY_SECRET[::-1],
        SECURITY_TOKEN,
        SECURITY_TOKEN[::-1],
        REDIS,
        NEVER,
        *made.values(),
    ]
    return After(log.read_text(), said, stored, secrets)


@pytest.mark.slow
def test_the_job_ran_and_what_failed_was_logged(after: After) -> None:
    log, said, stored, _ = after
    assert "'succeeded': 1" in said[2]
    assert "BUCKET_FORBIDDEN" in said[0] + said[1] + said[3] or "CREDENTIALS" in said[0]
    assert "request failed" in log
    assert "RuntimeError: request failed" in log
    assert "redis is away" in log
    assert log.count("***") > 20
    assert '"code":"INTERNAL"' in stored


@pytest.mark.slow
def test_no_secret_is_in_what_was_logged_answered_or_stored(after: After) -> None:
    log, said, stored, secrets = after
    key = secrets[-3]
    assert leaks(log, secrets) == []
    assert leaks("".join(said), secrets) == []
    assert leaks(stored, secrets) == []
    assert [form for form in raw(key) if form in log + stored + "".join(said)] == []


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
    assert mask("secret-001") == "secret-001"  # long expired


def test_key_files_are_masked_like_values(tmp_path: Path) -> None:
    made = values(tmp_path)
    mask = Mask(secrets_of({}, tmp_path))
    assert mask(f"<{made['VOICEDROP_KEK']}>") == "<***>"
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
    told = {}
    for how in ("open", "kept"):
        ran = subprocess.run(
            [sys.executable, "-c", CRASH, how],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == -signal.SIGSEGV
        told[how] = ran.stdout.split()
    assert told["kept"] == ["0", "0"]
    assert told["open"][1] == "1"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_server_can_write_no_core_file(tmp_path: Path) -> None:
    with bucket_server() as server, container(server_environ(server), tmp_path / "log") as client:
        client.request("GET", "/")
        limits = Path(f"/proc/{client.pid}/limits").read_text()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]
