"""Build the images of the Dockerfile, start both, and have the one for the CPU serve jobs:

    python -m tests.acceptance.image FOLDER SDKS [DEVICE ...]

As root, with buildah and mmdebstrap. FOLDER is for images and is removed, SDKS as in
`tests.acceptance.clients`; without DEVICE, `cpu` and `cuda` are built. The server of the image runs
as its user, with the variables of s.yaml for the machine `cpu`, over the OSS test server. The files
of operator and producer are uploaded by an SDK that is not ours, the notification is posted as OSS
does, and that SDK fetches the results. A second instance has a Redis and VOICEDROP_GUARD=words.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cloud import template
from tests.acceptance.clients import NodeClient
from tests.support.command_line import EXAMPLE_INBOX, ROOT, Workspace
from tests.support.function_server import COMMAND, SECRET, TOKEN, FunctionServer
from tests.support.image_builder import USER, ImageBuilder
from tests.support.oss_server import OssServer
from tests.support.redis_server import redis_server

BASES = {
    "cpu": "docker.io/library/ubuntu:24.04",
    "cuda": "docker.io/nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04",
}
PARTS = ("/opt/venv", "/opt/ffmpeg", "/app")
UNWANTED = "gcc cc make pip pip3 ffprobe"
BUCKETS = ("inbox", "results", "control")
WRITABLE = ("/app/cache/numba/", "/tmp", "/var/tmp", "/run/lock")
LOOK = """
import os
for top in ("/app", "/opt", "/etc", "/usr", "/var", "/tmp", "/run", "/root", "/home"):
    for folder, _, _ in os.walk(top):
        if os.access(folder, os.W_OK):
            print(folder)
"""


class Site(NamedTuple):
    """What a deployment has."""

    server: OssServer
    client: NodeClient
    workspace: Workspace

    def upload(self, bucket: str, key: str, data: bytes) -> None:
        path = self.workspace.root / "upload"
        path.write_bytes(data)
        self.client.run("put", bucket, key, path)


def main(folder: Path, sdks: Path, devices: list[str]) -> None:
    builder = ImageBuilder(folder)
    try:
        for device in devices:
            container = build(builder, device)
            check_content(builder, container)
            with open_site(sdks) as site:
                if device == "cpu":
                    work_in_folders(builder, container)
                    serve(builder, container, site)
                    serve_with_redis_and_words(builder, container, site)
                else:
                    initialise(builder, container, site)
            builder.run("rm", container)
    finally:
        builder.delete()


def build(builder: ImageBuilder, device: str) -> str:
    """Build one image, print its size, and return a container of it."""
    for base in dict.fromkeys((BASES["cpu"], BASES[device])):
        if not builder.provide(base):
            print(f"{base}: cannot be pulled here; Debian stands in for it")
    began, image = time.monotonic(), f"localhost/voicedrop:{device}"
    builder.build(image, {"DEVICE": device})
    print(f"{device}: built in {time.monotonic() - began:.0f} s")
    container = builder.run("from", image)
    sizes = builder.size(container, PARTS)
    rest = 2 * sizes["/"] - sum(sizes.values())
    parts = ", ".join(f"{path} {sizes[path]}" for path in PARTS)
    print(f"{device}: {sizes['/']} MB: {parts}, base and Python {rest}")
    print(f"{device}: {builder.compressed(image)} MB compressed, with its base")
    return container


def check_content(builder: ImageBuilder, container: str) -> None:
    def inside(*words: str) -> str:
        return builder.inside(container, *words).strip()

    assert inside("id", "-u") == "10001"
    assert "Usage: voicedrop" in inside("voicedrop", "--help")
    tools = inside("sh", "-c", f"for name in {UNWANTED}; do command -v $name || true; done")
    assert tools == "", tools
    caches = inside("sh", "-c", "ls -A /root /var/lib/apt/lists 2>/dev/null || true")
    assert ".cache" not in caches, caches
    writable = inside("python", "-c", LOOK).split()
    assert [path for path in writable if not path.startswith(WRITABLE)] == [], writable
    print("image: user 10001, `voicedrop` runs, no compiler, no pip, no cache of packages")


def work_in_folders(builder: ImageBuilder, container: str) -> None:
    """Carry out what examples/edge/compose.yaml says, in folders and once."""
    composed = yaml.safe_load((ROOT / "examples/edge/compose.yaml").read_text(encoding="utf-8"))
    worker = composed["services"]["worker"]
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(EXAMPLE_INBOX, Path(name, "bucket/inbox"))
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, *map(int, USER.split(":")))
        options = [f"--volume={name}:/data", f"--workingdir={worker['working_dir']}"]
        for command in (["voicedrop", "init"], [*worker["command"], "--once", "--json"]):
            started = builder.start(container, worker["environment"], *command, options=options)
            done = subprocess.run(started, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done
        assert len(list(Path(name, "bucket/results").rglob("*.sealed"))) >= 3
    print("image: what the Compose file runs carried out a job in folders")


@contextmanager
def open_site(sdks: Path) -> Iterator[Site]:
    """Buckets, and in them keys, a recording and its consent."""
    with tempfile.TemporaryDirectory() as name, OssServer() as server:
        workspace = Workspace(Path(name))
        assert workspace.run("init").returncode == 0
        server.add_key("STS.NUexample", SECRET, token=TOKEN)
        server.add_key("person", "secret")
        for bucket in BUCKETS:
            server.create_bucket(bucket)
        environ = {"KEY_ID": "person", "KEY_SECRET": "secret", "TOKEN": "", "SIGNATURE": "v4"}
        environ |= {"ENDPOINT": server.endpoint, "REGION": server.region}
        site = Site(server, NodeClient(sdks, environ), workspace)
        for path in (workspace.root / "keys").iterdir():
            site.upload("control", f"keys/{path.name}", path.read_bytes())
        for key in ("refs/reader.flac", "consent/reader.json"):
            site.upload("inbox", key, (EXAMPLE_INBOX / key).read_bytes())
        yield site


def settings(site: Site, **more: str) -> dict[str, str]:
    """The variables that s.yaml gives the function without a card."""
    buckets = {f"VOICEDROP_{bucket.upper()}_BUCKET": bucket for bucket in BUCKETS}
    environ = buckets | {"VOICEDROP_MACHINE": "cpu"} | more
    ours = yaml.safe_load((ROOT / "s.yaml").read_text(encoding="utf-8"))
    deployed = template.resolve_props(ours, "worker", environ)["environmentVariables"]
    return {**deployed, "VOICEDROP_OSS_ENDPOINT": site.server.endpoint}


@contextmanager
def running(
    builder: ImageBuilder, container: str, site: Site, environ: Mapping[str, str]
) -> Iterator[FunctionServer]:
    """The server of the image. Its log has no banner: every line is JSON, or says for the platform
    where a request begins and ends."""
    log = site.workspace.root / "log"
    server = FunctionServer(
        dict(environ), log, lambda given: builder.start(container, given, *COMMAND)
    )
    try:
        try:
            server.wait()
        except TimeoutError:
            raise AssertionError(log.read_text()) from None
        began = time.monotonic()
        answer = server.call("POST", "/initialize")
        assert answer[:2] == (200, "200"), (answer, log.read_text())
        print(f"server: /initialize {time.monotonic() - began:.1f} s")
        processes = find_processes(server.port)
        assert set(processes.values()) == {10001}, processes
        yield server
        assert server.call("GET", "/pre-stop")[0] == 200
        os.kill(min(processes), signal.SIGTERM)
        server.process.wait(60)
    finally:
        server.stop()
    lines = log.read_text().splitlines()
    marks = ("FC Initialize ", "FC Invoke ", "FC PreStop ")
    ended = ("subprocess exited on terminated", "subprocess exited with", "Error: exit")  # buildah
    strange = [line for line in lines if not line.startswith(("{", *marks, *ended))]
    assert (bool(lines), strange) == (True, []), strange


def find_processes(port: int) -> dict[int, int]:
    """Return the id of each Python process of the server, and its user."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ = (path / "environ").read_bytes().split(b"\0")
            is_python = (path / "cmdline").read_bytes().split(b"\0")[0].endswith(b"python")
            if is_python and f"FC_SERVER_PORT={port}".encode() in environ:
                found[int(path.name)] = path.stat().st_uid
        except OSError:
            continue  # it has ended
    return found


def speak(site: Site, server: FunctionServer, name: str, **voice: str) -> dict[str, Any]:
    """Upload a manifest, post its notification, and return the result."""
    manifest = json.loads((EXAMPLE_INBOX / "jobs/hello.manifest.json").read_text())
    manifest["id"] = name
    manifest["voices"]["reader"] |= voice
    key = f"jobs/{name}+1.manifest.json"
    site.upload("inbox", key, json.dumps(manifest).encode())
    record = {
        "eventName": "ObjectCreated:PutObject",
        "eventSource": "acs:oss",
        "oss": {"bucket": {"name": "inbox"}, "object": {"key": key, "size": 1, "eTag": "AB"}},
        "region": site.server.region,
    }
    began = time.monotonic()
    answer = server.call("POST", "/invoke", json.dumps({"events": [record]}).encode())
    assert answer[:2] == (200, "200"), answer
    job = json.loads(answer[2])["done"][0]["job"]
    print(f"server: job {name} of {len(manifest['items'])} items {time.monotonic() - began:.1f} s")
    path = site.workspace.root / "result.json"
    site.client.run("get", "results", f"out/{job}/result.json", path)
    result: dict[str, Any] = json.loads(path.read_bytes())
    assert result["status"] == "succeeded", result
    return result


def initialise(builder: ImageBuilder, container: str, site: Site) -> None:
    """Load keys and models; without a card, on the CPU."""
    with running(builder, container, site, settings(site)):
        pass


def list_notices(result: dict[str, Any]) -> list[str]:
    return [notice["code"] for notice in result["voices"]["reader"].get("notices", [])]


def serve(builder: ImageBuilder, container: str, site: Site) -> None:
    with running(builder, container, site, settings(site)) as server:
        result = speak(site, server, "first")
    assert list_notices(result) == []
    open_and_trace(site, result["job_id"])


def open_and_trace(site: Site, job: str) -> None:
    """As a consumer: fetch the folder of the job, open it, and trace one of its clips."""
    got = site.workspace.root / "got"
    got.mkdir()
    for key in site.client.run("list", "results", f"out/{job}/").split():
        site.client.run("get", "results", key, got / Path(key).name)
    opened = site.workspace.run("open", "got/result.json", "--out", "heard")
    assert opened.returncode == 0, opened.stderr
    clips = sorted(str(path) for path in (site.workspace.root / "heard").rglob("*.wav"))
    places = {f"VOICEDROP_{bucket.upper()}": f"oss://{bucket}" for bucket in BUCKETS}
    places |= {"OSS_ACCESS_KEY_ID": "person", "OSS_ACCESS_KEY_SECRET": "secret"}
    places |= {"VOICEDROP_OSS_ENDPOINT": site.server.endpoint}
    places |= {"VOICEDROP_OSS_REGION": site.server.region}
    traced = site.workspace.run("trace", clips[0], "--json", **places)
    assert job in traced.stdout, traced
    print(f"consumer: {len(clips)} clips fetched, opened, and one traced to {job}")


def serve_with_redis_and_words(builder: ImageBuilder, container: str, site: Site) -> None:
    """With VOICEDROP_GUARD=words a transcript with other words than the recording is noticed."""
    with redis_server(site.workspace.root) as redis:
        site.upload("control", "keys/redis", redis.url.encode())
        chosen = {"VOICEDROP_GUARD": "words", "VOICEDROP_REDIS_SOURCE": "control:keys/redis"}
        kept = {"VOICEDROP_VOICE_CACHE": "redis", "VOICEDROP_SPEECH_CACHE": "redis"}
        with running(builder, container, site, settings(site, **chosen) | kept) as server:
            wrong = "Nobody has ever said these words into any microphone, neither here nor there."
            result = speak(site, server, "second", transcript=wrong)
        codes = list_notices(result)
        assert codes == ["TRANSCRIPT_MISMATCH"], codes
        stored = int(redis.execute("DBSIZE").removeprefix(":"))
        assert stored >= 1 + len(result["items"]), stored
    print(f"server: with VOICEDROP_GUARD=words {codes}; {stored} entries in the Redis")


if __name__ == "__main__":
    missing = [name for name in ("buildah", "mmdebstrap", "node") if not shutil.which(name)]
    if missing or os.getuid() != 0:
        sys.exit(f"needs root, and these programs, which are missing: {missing}")
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve(), sys.argv[3:] or list(BASES))
