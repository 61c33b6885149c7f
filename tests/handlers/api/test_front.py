"""The front function: it stores and reports, without keys and with few permissions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from starlette.testclient import TestClient

from core.crypto import sealing
from core.errors import Misconfigured
from core.job.runtime import Runtime
from core.result.item_result import ItemResult
from core.settings import Settings
from core.storage.oss import Credentials, OssStore
from handlers.api.callers import hash_token
from handlers.api.front import create_front
from handlers.server.secrecy import Mask
from handlers.wiring import CurrentCredentials
from tests.support.http_service import ADDRESS, CONSENT, RECORDING
from tests.support.oss_server import OssServer
from tests.support.policies import NAMES, PolicyCheck
from tests.support.present import present
from tests.support.runtime import finish_job, local_runtime

TOKEN = {"Authorization": "Bearer the-token-of-acme"}
ROLE = {
    "x-fc-access-key-id": "front",
    "x-fc-access-key-secret": "secret",
    "x-fc-security-token": "",
}


@dataclass
class Cloud:
    server: OssServer
    allowed: PolicyCheck
    client: TestClient
    worker: Runtime

    def keys(self) -> list[str]:
        return list(self.server.objects(NAMES["INBOX"]))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with OssServer() as server:
        for name in ("INBOX", "RESULTS", "CONTROL"):
            server.create_bucket(NAMES[name])
        allowed = PolicyCheck("front")
        server.add_key("front", "secret", policy=allowed)
        server.add_key("worker", "secret")
        settings = Settings(
            inbox=f"oss://{NAMES['INBOX']}",
            results=f"oss://{NAMES['RESULTS']}",
            control=f"oss://{NAMES['CONTROL']}",
            oss_endpoint=server.endpoint,
            oss_region=server.region,
            api_tokens=f"acme:clone+read+listen+trace:{hash_token('the-token-of-acme')}",
        )
        app = create_front(settings, CurrentCredentials({}), Mask())
        client = TestClient(app, base_url=ADDRESS, headers={**TOKEN, **ROLE})
        key = Credentials("worker", "secret", "")
        stores: dict[str, Any] = {
            name: OssStore(NAMES[name.upper()], server.endpoint, server.region, lambda: key)
            for name in ("inbox", "results", "control")
        }
        yield Cloud(server, allowed, client, replace(local_runtime(tmp_path), **stores))


@pytest.mark.slow
def test_a_job_goes_through_the_front_with_its_permissions_and_no_others(cloud: Cloud) -> None:
    files = {"recording": ("a.flac", RECORDING), "consent": ("c.json", CONSENT)}
    fields = {"text": "The first words, twice.", "language": "en", "voice": "alice"}
    bad = cloud.client.post("/clone", data=fields | {"language": "xx"}, files=files)
    assert (bad.status_code, cloud.keys()) == (422, [])  # nothing that would start a worker
    headers = {"Idempotency-Key": "once"}
    job = cloud.client.post("/clone", data=fields, files=files, headers=headers)
    assert (job.status_code, job.json()["status"]) == (202, "accepted")
    assert job.json()["manifest"].startswith("jobs/acme/")
    assert cloud.client.get("/jobs").json()["jobs"][0]["job"] == job.json()["job"]
    assert cloud.client.get("/voices").json()["voices"][0]["name"] == "alice"

    finish_job(job.json()["manifest"], cloud.worker)
    location = job.headers["location"]
    assert cloud.client.get(location).json()["status"] == "succeeded"
    item = cloud.client.get(f"{location}/items/speech").json()
    sealed = requests.get(item["url"], timeout=10)
    assert sealed.status_code == 200
    stated = msgspec.convert(item["item"], ItemResult)
    keys = cloud.worker.keys.wrapping
    assert sealing.open_sealed(sealed.content, present(stated.envelope), keys).startswith(b"RIFF")
    opened = cloud.client.get(f"{location}/items/speech", headers={"Accept": "audio/wav"})
    assert (opened.status_code, opened.json()["code"]) == (406, "NOT_OPENED_HERE")

    other = cloud.client.post("/clone", data=fields, files=files)
    assert cloud.client.delete(other.headers["location"]).status_code == 202
    clip = cloud.client.post("/trace", files={"clip": ("leak.wav", sealed.content)})
    assert cloud.client.get(clip.headers["location"]).json()["status"] == "accepted"
    assert cloud.allowed.denied == set()
    assert not [grant for grant in cloud.allowed.idle if grant[0].startswith("oss:")]


def test_without_tokens_the_front_does_not_start() -> None:
    with pytest.raises(Misconfigured, match="VOICEDROP_API_TOKENS"):
        create_front(Settings(), CurrentCredentials({}), Mask())


def test_an_address_for_callers_is_outside_the_region() -> None:
    store = OssStore(
        "results",
        "https://oss-cn-hangzhou-internal.aliyuncs.com",
        "cn-hangzhou",
        lambda: Credentials("id", "secret", "token"),
    )
    address = store.link("out/1/a b.sealed", 900)
    assert address.startswith("https://results.oss-cn-hangzhou.aliyuncs.com/out/1/a%20b.sealed?")
    assert "secret" not in address


def test_the_storage_road_imports_nothing_of_the_http_interface() -> None:
    program = """
import json, sys
import handlers.server.app, handlers.worker, handlers.oss, handlers.sweep, handlers.cli.watch
print(json.dumps([name for name in sys.modules
                  if name.startswith("handlers.api")]))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(ran.stdout) == []
