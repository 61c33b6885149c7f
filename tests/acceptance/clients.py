"""Clients of OSS that are not ours use the OSS test server:

    python -m tests.acceptance.clients SDKS

SDKS is a folder with `node_modules` (`ali-oss`) and `python` (`alibabacloud-oss-v2`), which
`scripts/acceptance clients` makes. The server verifies the signatures of the store; that it accepts
those of other clients, V1 and V4, with and without a token, shows that it asks for the right ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.oss_server import OssServer

NODE = Path(__file__).with_name("ali-oss.js")
TOKEN = "to+ken/="
PYTHON = """
import datetime, os, sys, urllib.request
import alibabacloud_oss_v2 as oss

env, bucket, name = os.environ, sys.argv[1], "a+b c/é=&?#.txt"
config = oss.config.load_default()
config.credentials_provider = oss.credentials.StaticCredentialsProvider(
    env["KEY_ID"], env["KEY_SECRET"], env["TOKEN"] or None)
config.region, config.endpoint = env["REGION"], env["ENDPOINT"]
config.signature_version, config.use_path_style = env["SIGNATURE"], True
client = oss.Client(config)
client.put_object(oss.PutObjectRequest(bucket, name, body=b"data", metadata={"a": "b"}))
got = client.get_object(oss.GetObjectRequest(bucket, name))
assert (got.body.content, got.metadata) == (b"data", {"a": "b"}), got
assert client.head_object(oss.HeadObjectRequest(bucket, name)).content_length == 4
assert client.get_object_meta(oss.GetObjectMetaRequest(bucket, name)).etag
url = client.presign(oss.GetObjectRequest(bucket, name), expires=datetime.timedelta(minutes=1)).url
assert urllib.request.urlopen(url).read() == b"data"
try:
    client.put_object(oss.PutObjectRequest(bucket, name, body=b"", forbid_overwrite=True))
except oss.exceptions.OperationError as error:
    assert error.unwrap().code == "FileAlreadyExists", error
else:
    raise SystemExit("an object was replaced")
client.append_object(oss.AppendObjectRequest(bucket, "log", position=0, body=b"1"))
listed = client.list_objects_v2(oss.ListObjectsV2Request(bucket)).contents
assert [found.key for found in listed] == [name, "log"], listed
stat = client.get_bucket_stat(oss.GetBucketStatRequest(bucket))
assert (stat.object_count, stat.storage) == (2, 5), stat
rule = oss.LifecycleRule(id="old", prefix="work/", status="Enabled",
                         expiration=oss.LifecycleRuleExpiration(days=3))
rules = oss.LifecycleConfiguration(rules=[rule])
client.put_bucket_lifecycle(
    oss.PutBucketLifecycleRequest(bucket, lifecycle_configuration=rules))
found = client.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(bucket))
assert found.lifecycle_configuration.rules[0].expiration.days == 3
client.delete_bucket_lifecycle(oss.DeleteBucketLifecycleRequest(bucket))
for key in (name, "log"):
    client.delete_object(oss.DeleteObjectRequest(bucket, key))
"""


@dataclass(frozen=True)
class NodeClient:
    """The SDK for Node, by its command-line program beside this file."""

    sdks: Path
    environ: dict[str, str]

    def run(self, *arguments: str | Path) -> str:
        environ = {"PATH": os.environ["PATH"], "NODE_PATH": str(self.sdks / "node_modules")}
        done = subprocess.run(
            [str(shutil.which("node")), NODE, *arguments], env=environ | self.environ,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def accounts(server: OssServer, signature: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a client for each kind of account: with and without a token."""
    for token in ("", TOKEN):
        name = f"id-{bool(token)}"
        server.add_key(name, "secret", token=token)
        account = {"KEY_ID": name, "KEY_SECRET": "secret", "TOKEN": token, "SIGNATURE": signature}
        yield account | {"ENDPOINT": server.endpoint, "REGION": server.region}


def main(sdks: Path) -> None:
    with OssServer() as server:
        server.create_bucket("box")
        for signature in ("v1", "v4"):
            for environ in accounts(server, signature):
                NodeClient(sdks, environ).run("features", "box")
                python = {"PYTHONPATH": str(sdks / "python")} | environ
                subprocess.run([sys.executable, "-c", PYTHON, "box"], env=python, check=True)
                token = "with a token" if environ["TOKEN"] else "without one"
                print(f"{signature}, {token}: both clients")
        assert server.objects("box") == {}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
