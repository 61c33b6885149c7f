"""The container server over the OSS test server, with credentials only in the request headers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.crypto import keys, sealing
from core.documents import signed
from core.result.document import parse_result
from core.storage.local import LocalStore
from core.storage.oss import Credentials, OssStore
from tests.support.command_line import EXAMPLE_INBOX, ROOT, Workspace
from tests.support.function_server import SECRET, TOKEN, FunctionServer
from tests.support.leak import leak_clip
from tests.support.oss_server import OssServer
from tests.support.present import present

pytestmark = pytest.mark.slow

NOTIFICATION = json.loads((ROOT / "tests/handlers/server/notification.json").read_text())


@pytest.fixture(scope="module")
def cloud() -> Iterator[OssServer]:
    with OssServer() as server:
        server.add_key("STS.NUexample", SECRET, token=TOKEN)
        for name in ("voicedrop-inbox", "voicedrop-results", "voicedrop-control"):
            server.create_bucket(name)
        yield server


def bucket(cloud: OssServer, name: str) -> OssStore:
    credentials = Credentials("STS.NUexample", SECRET, TOKEN)
    return OssStore(f"voicedrop-{name}", cloud.endpoint, cloud.region, lambda: credentials)


@pytest.fixture(scope="module")
def function(
    cloud: OssServer, spoken: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FunctionServer]:
    """The container with the keys and the stored voiceprint of the fixture `spoken`."""
    folder = tmp_path_factory.mktemp("function")
    shutil.copytree(spoken.root / "keys", folder / "keys")
    (folder / "log").touch()
    environ = {
        "VOICEDROP_INBOX": "oss://voicedrop-inbox",
        "VOICEDROP_RESULTS": "oss://voicedrop-results",
        "VOICEDROP_CONTROL": "oss://voicedrop-control",
        "VOICEDROP_OSS_ENDPOINT": cloud.endpoint,
        "VOICEDROP_OSS_REGION": cloud.region,
        "VOICEDROP_KEYS": str(folder / "keys"),
        "HOME": str(folder),
    }
    for name in ("refs/reader.flac", "consent/reader.json"):
        bucket(cloud, "inbox").put(name, (EXAMPLE_INBOX / name).read_bytes())
    learned = LocalStore(spoken.root / "bucket/control")
    for info in learned.list("voices/"):
        kept = learned.get(info.key, limit=10**7)
        bucket(cloud, "control").put(info.key, kept.data, metadata=kept.info.metadata)
    started = FunctionServer(environ, folder / "log")
    started.wait()
    yield started
    started.stop()


def notification(key: str) -> bytes:
    body = json.dumps(NOTIFICATION).replace(
        json.dumps(NOTIFICATION["events"][0]["oss"]["object"]["key"]), json.dumps(key)
    )
    return body.encode()


def test_a_notification_posted_twenty_times_at_once_gives_one_result_and_one_event(
    cloud: OssServer, function: FunctionServer, tmp_path: Path
) -> None:
    manifest = json.loads((EXAMPLE_INBOX / "jobs/hello.manifest.json").read_text())
    manifest["items"] = manifest["items"][:1]
    bucket(cloud, "inbox").put("jobs/朗读/one.manifest.json", json.dumps(manifest).encode())
    assert function.call("POST", "/initialize")[:2] == (200, "200")

    def deliver(number: int) -> tuple[int, str, bytes]:
        return function.call("POST", "/invoke", notification("jobs/朗读/one.manifest.json"), number)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(deliver, range(20)))
    for number, (status, fc, _) in enumerate(answers):
        assert (status, fc) in ((200, "200"), (404, "404"))
        if status == 404:  # another call carried the job out: the platform delivers it again
            answers[number] = deliver(number)
    assert {(status, fc) for status, fc, _ in answers} == {(200, "200")}
    results = bucket(cloud, "results")
    assert len({json.loads(body)["done"][0]["job"] for _, _, body in answers}) == 1
    keys_stored = [info.key for info in results.list("")]
    (result,) = [key for key in keys_stored if key.endswith("result.json")]
    (event,) = [key for key in keys_stored if key.startswith("events/")]
    document = results.get(result, limit=10**7).data
    signed.verify(document, keys.load_reading_keys(function.folder / "keys").verifying)
    done = parse_result(document)
    assert done.status == "succeeded"
    assert json.loads(results.get(event, limit=10**6).data)["data"]["job_id"] == done.job_id
    assert [key for key in keys_stored if key.endswith(".sealed")] == [
        present(done.items[0].output).key
    ]


def test_a_dropped_leak_of_the_voice_is_traced_to_its_job(
    cloud: OssServer, function: FunctionServer
) -> None:
    results = bucket(cloud, "results")
    (name,) = (info.key for info in results.list("out/") if info.key.endswith("result.json"))
    done = parse_result(results.get(name, limit=10**7).data)
    (item,) = done.items
    sealed = results.get(present(item.output).key, limit=10**8).data
    wrapping = keys.load_keyring(function.folder / "keys").wrapping
    clip = leak_clip(sealing.open_sealed(sealed, present(item.envelope), wrapping))
    bucket(cloud, "inbox").put("audit/found/leak.wav", clip)
    status, fc, body = function.call("POST", "/invoke", notification("audit/found/leak.wav"))
    assert (status, fc) == (200, "200")
    trace = json.loads(body)["done"][0]
    report = json.loads(results.get(f"audit/{trace['trace']}.json", limit=10**6).data)
    assert [(f["job"], f["item"]) for f in report["findings"]] == [(done.job_id, item.id)]
    (event,) = (
        event
        for info in results.list("events/")
        if (event := json.loads(results.get(info.key, limit=10**6).data))["type"]
        == "com.voicedrop.trace.completed"
    )
    assert event["data"]["jobs"] == [done.job_id]


def test_a_permanent_error_is_answered_as_done(function: FunctionServer) -> None:
    status, fc, body = function.call("POST", "/invoke", notification("jobs/gone.manifest.json"))
    assert (status, fc) == (200, "200")
    assert json.loads(body)["done"][0]["error"] == "MANIFEST_GONE"


def test_no_secret_is_in_the_log(function: FunctionServer) -> None:
    function.call("POST", "/invoke", notification("jobs/gone.manifest.json"), 7)
    log = (function.folder / "log").read_text()
    assert "FC Invoke Start RequestId: r-7" in log
    assert SECRET not in log
    assert TOKEN not in log
    for line in (function.folder / "keys").glob("*.key"):
        assert line.read_text().strip() not in log


def test_the_server_stops_on_pre_stop(function: FunctionServer) -> None:
    assert function.call("GET", "/pre-stop")[0] == 200
