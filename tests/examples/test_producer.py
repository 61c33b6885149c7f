"""The script for producers, as a process that cannot import our code, beside a real worker."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.consent import records
from core.job import commit
from core.job.lease import Lease
from core.job.runtime import Runtime
from core.storage.object_keys import is_shard_key
from examples import voicedrop_producer as producer
from handlers.cli.screen import Progress
from handlers.cli.watch import Watch
from handlers.jobs import carry_out_shard
from tests.support.command_line import ROOT
from tests.support.oss_server import OssServer
from tests.support.runtime import REFERENCE, consent_record, local_runtime, put_job, split_job
from tests.support.stores import KEYS, oss_store

pytestmark = pytest.mark.slow
HEADER = "id,text,page\n"


@dataclass(frozen=True)
class Producer:
    """A folder with the files of a producer, and where its batches go."""

    folder: Path
    inbox: str = "../inbox"
    results: str = "../results"
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, texts: str, *options: str) -> subprocess.CompletedProcess[str]:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "texts.csv").write_text(HEADER + texts, encoding="utf-8")
        (self.folder / "reader.flac").write_bytes(REFERENCE.read_bytes())
        record = consent_record(REFERENCE.read_bytes())
        (self.folder / "reader.json").write_bytes(records.format_consent(record))
        words = ["texts.csv", "--name", "team/pages", "--language", "en"]
        words += ["--recording", "reader.flac", "--consent", "reader.json"]
        words += ["--inbox", self.inbox, "--results", self.results, "--seconds", "60"]
        words += ["--public-key", "../keys/sign-001.pub.pem", *options]
        return subprocess.run(
            [sys.executable, "-I", str(ROOT / "examples/voicedrop_producer.py"), *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
        )


def rows(ran: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ran.stdout)))


def job_of(ran: subprocess.CompletedProcess[str]) -> str:
    """Return the last job that the script named."""
    return ran.stderr.rpartition("\njob ")[2].removeprefix("job ")[:32]


@contextmanager
def working(runtime: Runtime) -> Iterator[None]:
    """Carry out what arrives in the inbox until the block ends."""
    stopping = threading.Event()

    def work() -> None:
        watch = Watch(runtime, Progress(quiet=True))
        while not stopping.is_set():
            watch.poll()
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def is_allowed(action: str, resource: str) -> bool:
    """What `producer.json` and `consumer.json` allow, except that a list needs no prefix."""
    if action == "oss:PutObject":
        return resource.startswith("inbox/")
    return (action, resource) == ("oss:ListObjects", "results") or (
        action == "oss:GetObject" and resource.startswith("results/out/")
    )


def test_a_batch_is_spoken_and_after_a_correction_only_what_failed(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, shard_items=2)
    mine = Producer(tmp_path / "mine")
    with working(runtime):
        first = mine.run("p1,The first page.,1\np2,!silence,2\np3,The third page.,3\n")
        again = mine.run("p1,The first page.,1\np2,!silence,2\np3,The third page.,3\n")
        corrected = "p1,The first page.,1\np2,The second page.,2\np3,The third page.,3\n"
        second = mine.run(corrected, "--retry-of", job_of(first))
    assert (first.returncode, again.returncode, second.returncode) == (1, 1, 0), first.stderr
    assert (job_of(again), again.stdout) == (job_of(first), first.stdout)
    assert "partial: 2 of 3 items" in first.stderr
    made, kept = rows(first), rows(second)
    assert [row["status"] for row in made] == ["succeeded", "failed", "succeeded"]
    assert made[1]["error"] == "OUTPUT_SILENT at line 3: The voice engine produced silence."
    assert [row["audio"] for row in kept][::2] == [row["audio"] for row in made][::2]
    assert f"/out/{job_of(second)}/p2.wav.sealed" in kept[1]["audio"]
    result = commit.read_result(job_of(second), runtime)
    assert result is not None
    assert (len(result.parts), result.totals.kept) == (2, 2)


def test_two_policies_of_the_deployment_are_enough_for_buckets(tmp_path: Path) -> None:
    with OssServer() as server:
        server.add_key(KEYS.access_key_id, KEYS.access_key_secret)
        server.add_key("producer", "secret", policy=is_allowed)
        for bucket in ("inbox", "results"):
            server.create_bucket(bucket)
        stores = {bucket: oss_store(server, bucket) for bucket in ("inbox", "results")}
        environ = {
            "OSS_ACCESS_KEY_ID": "producer",
            "OSS_ACCESS_KEY_SECRET": "secret",
            "VOICEDROP_OSS_ENDPOINT": server.endpoint,
            "VOICEDROP_OSS_REGION": server.region,
        }
        mine = Producer(tmp_path / "mine", "oss://inbox", "oss://results", environ)
        with working(local_runtime(tmp_path, **stores)):
            ran = mine.run("p1,The first page.,1\n")
    assert ran.returncode == 0, ran.stderr
    assert rows(ran)[0]["audio"] == f"oss://results/out/{job_of(ran)}/p1.wav.sealed"


def test_a_batch_that_was_given_up_is_tried_again(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, max_attempts=1)
    mine = Producer(tmp_path / "mine")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(mine.run, "p1,The first page.,1\n")
        while not (stored := [*runtime.inbox.list("jobs/")]):
            time.sleep(0.02)
        job = commit.read_manifest(stored[0].key, runtime).job_id
        Lease.acquire(runtime.control, job, "killed", -1.0, runtime.keys)
        with working(runtime):
            ran = running.result()
    assert ran.returncode == 0, ran.stderr
    assert "failed: 0 of 1 items" in ran.stderr
    assert "succeeded: 1 of 1 items" in ran.stderr
    assert job_of(ran) != job


def test_a_batch_that_nobody_makes_is_said_to_be_unfinished(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    mine = Producer(tmp_path / "mine")
    ran = mine.run("p1,The first page.,1\n", "--seconds", "0")
    assert (ran.returncode, ran.stdout) == (5, "")
    assert "Run the same command again" in ran.stderr
    (stored,) = runtime.inbox.list("jobs/")
    assert commit.read_manifest(stored.key, runtime).job_id == job_of(ran)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runtime, producer.Batch]:
    """A finished batch of two shards."""
    runtime = local_runtime(tmp_path_factory.mktemp("sharded"), shard_items=1)
    items = [{"id": name, "text": f"The words of {name}."} for name in "ab"]
    put_job(runtime)
    voice = {"reference": "refs/alice.flac", "consent": "consent/alice.json", "language": "en"}
    batch = producer.make_batch(items, bucket="inbox", name="two", voice=voice)
    runtime.inbox.put(batch.key, batch.data)
    split_job(batch.key, runtime)
    for info in [*runtime.control.list("work/")]:
        if is_shard_key(info.key):
            carry_out_shard(info.key, runtime)
    return runtime, batch


def public_keys(runtime: Runtime) -> dict[str, Ed25519PublicKey]:
    return producer.read_public_keys(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for key in runtime.keys.verifying.values()
    )


def read(runtime: Runtime, key: str) -> bytes:
    return runtime.results.get(key, limit=1 << 20).data


def test_a_changed_or_foreign_result_is_not_believed(
    sharded: tuple[Runtime, producer.Batch],
) -> None:
    runtime, batch = sharded
    document, keys = read(runtime, producer.result_key(batch.job)), public_keys(runtime)
    result = producer.read_result(batch.job, document, keys)
    assert result["status"] == "succeeded"
    assert result == {k: v for k, v in json.loads(document).items() if k != "signature"}
    part = read(runtime, result["parts"][0]["key"])
    changed = document.replace(b'"status":"succeeded"', b'"status":"partial"')
    doubled = document.replace(b'{"', b'{"status":"partial","', 1)
    bad = [changed, doubled, document[:-1], part, b"{}", b"[]", b'{"signature": {}}']
    bad += [document.replace(b'"key_id":"', b'"key_id":"0')]
    for data in bad:
        with pytest.raises(producer.Invalid):
            producer.read_result(batch.job, data, keys)
    with pytest.raises(producer.Invalid, match="not the result of this job"):
        producer.read_result("0" * 32, document, keys)
    with pytest.raises(producer.Invalid, match="another key"):
        producer.read_result(batch.job, document, {})


def test_a_changed_part_is_not_believed(sharded: tuple[Runtime, producer.Batch]) -> None:
    runtime, batch = sharded
    document = read(runtime, producer.result_key(batch.job))
    result = producer.read_result(batch.job, document, public_keys(runtime))
    items = list(producer.finished_items(result, lambda key: read(runtime, key)))
    assert [item["id"] for item in items] == ["a", "b"]
    with pytest.raises(producer.Invalid, match="was changed"):
        list(producer.finished_items(result, lambda key: read(runtime, key) + b" "))
