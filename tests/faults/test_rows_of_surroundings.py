"""The fault table of docs/reliability.md: stores, keys, disks, settings (25-29, 31-34, 38, 39)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.crypto import keys
from core.crypto.kms import AliyunKms
from core.errors import Misconfigured, Unavailable
from core.job.runtime import Runtime
from core.result.document import Result
from core.settings import Settings
from core.storage.local import LocalStore
from core.storage.oss import Credentials
from core.voice import SpeechChunk
from handlers import oss, sweep, wiring, worker
from tests.support import kms_server
from tests.support.events import notification, published_events
from tests.support.faults import cached_audio
from tests.support.kms_server import Kms
from tests.support.oss_server import Fault, OssServer
from tests.support.oss_server.faults import Kind
from tests.support.present import present
from tests.support.runtime import BuzzVoice, finish_job, local_runtime, put_job, run_job, with_voice
from tests.support.stores import KEYS, oss_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BUCKETS = ("inbox", "results", "control")


@pytest.fixture(autouse=True)
def quick_sound() -> Iterator[None]:
    with cached_audio.memoised():
        yield


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


@pytest.fixture
def server() -> Iterator[OssServer]:
    with OssServer(seed=5) as running:
        running.add_key(KEYS.access_key_id, KEYS.access_key_secret)
        for name in BUCKETS:
            running.create_bucket(name)
        yield running


def over_oss(
    server: OssServer, root: Path, given: Callable[[], Credentials] = lambda: KEYS
) -> Runtime:
    stores = {name: oss_store(server, name, keys=given) for name in BUCKETS}
    return local_runtime(root, **stores)


def retry_job(key: str, runtime: Runtime, times: int = 30) -> Result:
    """Repeat the job while its errors are retryable, as the platform does."""
    for _ in range(times):
        try:
            return finish_job(key, runtime)
        except Unavailable:
            time.sleep(0.05)
    raise TimeoutError(key)


@pytest.mark.parametrize(("status", "code"), [(503, "ServiceUnavailable"), (500, "InternalError")])
def test_row_25_errors_of_the_object_store_are_retried(
    server: OssServer, tmp_path: Path, status: int, code: str
) -> None:
    runtime = over_oss(server, tmp_path)
    key = put_job(runtime)
    struck = server.inject(Fault("error", chance=0.25, times=10**6, status=status, code=code))
    done = retry_job(key, runtime)
    assert (done.status, struck.fired > 5) == ("succeeded", True)
    server.faults.clear()
    assert len(published_events(runtime)) == 1
    assert sweep.run_sweep(runtime, grace=0).findings == []


@pytest.mark.parametrize("kind", ["corrupt", "cut", "wrong_crc"])
def test_row_26_damaged_answers_are_requested_again(
    server: OssServer, tmp_path: Path, kind: Kind
) -> None:
    runtime = over_oss(server, tmp_path)
    key = put_job(runtime)
    objects = ("manifest", "refs/", "consent/alice.json$")
    struck = [server.inject(Fault(kind, method="GET", key=part, times=2)) for part in objects]
    assert retry_job(key, runtime).status == "succeeded"
    assert [fault.fired for fault in struck] == [2, 2, 2]


@pytest.mark.parametrize("kind", ["lost_reply", "reset"])
def test_row_26_after_a_lost_reply_calls_are_repeated_and_nothing_is_written_twice(
    server: OssServer, tmp_path: Path, kind: Kind
) -> None:
    runtime = over_oss(server, tmp_path)
    key = put_job(runtime)
    struck = server.inject(Fault(kind, chance=0.3, times=10**6))
    assert retry_job(key, runtime).status == "succeeded"
    assert struck.fired > 5
    server.faults.clear()
    assert len(published_events(runtime)) == 1
    assert sweep.run_sweep(runtime, grace=0).findings == []


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    with kms_server.running(tmp_path_factory.mktemp("kms")) as running:
        running.keys = {"alias/voices": bytes(32)}
        yield running


def with_kms(kms: Kms, root: Path) -> Runtime:
    given = Credentials("id", kms_server.SECRET)
    wrapping = AliyunKms(
        key="alias/voices",
        region="cn-hangzhou",
        credentials=lambda: given,
        endpoint=kms.endpoint,
        ca_file=kms.ca_file,
    )
    runtime = local_runtime(root)
    return replace(runtime, keys=keys.load_keyring(root / "keys", wrapping=wrapping))


def has_no_plain_audio(runtime: Runtime) -> bool:
    objects = [store.get(info.key, limit=10**8).data for store in (runtime.results, runtime.control)
             for info in store.list("")]  # fmt: skip
    return not any(data.startswith((b"RIFF", b"fLaC", b"ID3", b"OggS")) for data in objects)


def test_row_27_during_an_outage_of_the_key_service_nothing_is_stored_unencrypted(
    kms: Kms, tmp_path: Path
) -> None:
    runtime = with_kms(kms, tmp_path)
    key = put_job(runtime)
    kms.faults = [(503, "ServiceUnavailable")] * 3
    with pytest.raises(Unavailable, match="KMS_UNAVAILABLE"):
        finish_job(key, runtime)
    assert (has_no_plain_audio(runtime), list(runtime.results.list("out/"))) == (True, [])
    assert finish_job(key, runtime).status == "succeeded"
    assert has_no_plain_audio(runtime)


def test_row_28_a_disabled_key_uses_up_no_attempt(kms: Kms, tmp_path: Path) -> None:
    runtime = replace(with_kms(kms, tmp_path), max_attempts=1)
    key = put_job(runtime)
    kms.states = {"alias/voices": "Disabled"}
    for _ in range(3):
        with pytest.raises(Misconfigured, match="KEY_UNUSABLE"):
            finish_job(key, runtime)
    (finding,) = sweep.run_sweep(runtime, grace=0).open_findings
    assert finding.error == "KEY_UNUSABLE"
    kms.states = {}
    assert finish_job(key, runtime).status == "succeeded"


FULL = """
import resource, sys
from pathlib import Path
from core.errors import Unavailable
from handlers.jobs import carry_out
from tests.support.runtime import BuzzVoice, local_runtime

class Filling(BuzzVoice):
    def speak(self, *args, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        return super().speak(*args, **options)

try:
    carry_out(sys.argv[2], local_runtime(Path(sys.argv[1]), voice=Filling()))
except Unavailable as error:
    print(error.code)
"""


def test_row_29_a_full_disk_is_temporary_and_leaves_no_partial_files(
    runtime: Runtime, tmp_path: Path
) -> None:
    key = put_job(runtime)
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), key],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.stdout.split() == ["NO_SPACE"], ran.stderr
    assert list((tmp_path / "results/.meta/aside").iterdir()) == []
    assert retry_job(key, runtime).status == "succeeded"


@pytest.mark.parametrize("state", ["Enabled", "Suspended"])
def test_row_31_a_results_bucket_with_versioning_is_refused_at_start(
    server: OssServer, tmp_path: Path, state: str
) -> None:
    server.state.buckets["results"].versioning = state
    with pytest.raises(Misconfigured, match="BUCKET_VERSIONING_UNSAFE"):
        wiring.check_stores(over_oss(server, tmp_path))


class Worm(LocalStore):
    """A bucket under a retention policy, in which no object can be changed or deleted."""

    def put(self, key: str, data: bytes, **more: Any) -> None:
        if self.head(key):
            raise Misconfigured("BUCKET_FORBIDDEN", "FileImmutable", pointer=key)
        super().put(key, data, **more)

    def delete(self, key: str) -> None:
        raise Misconfigured("BUCKET_FORBIDDEN", "FileImmutable", pointer=key)


def test_row_32_nothing_in_results_is_ever_replaced_or_deleted(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    broken = local_runtime(tmp_path, results=Worm(tmp_path / "results"), voice=BuzzVoice())
    items = [{"id": f"i{n}", "text": "One of several items, said twice."} for n in range(3)]
    key = put_job(broken, items=items)
    with cached_audio.memoised(), pytest.raises(KeyboardInterrupt):
        run_job(key, with_voice(broken, Interrupted()))
    assert retry_job(key, broken).status == "succeeded"
    oss.handle(notification(key), broken)
    assert sweep.run_sweep(broken, grace=0).findings == []


class Interrupted(BuzzVoice):
    def speak(self, *args: Any, **options: Any) -> Iterator[SpeechChunk]:
        if self.spoken:
            raise KeyboardInterrupt
        yield from super().speak(*args, **options)


def test_row_33_a_job_whose_credentials_expire_resumes_with_new_ones(
    server: OssServer, tmp_path: Path
) -> None:
    server.add_key("sts", "s", token="old", expires=time.time() + 3600)
    given = [Credentials("sts", "s", "old")]
    runtime = over_oss(server, tmp_path, lambda: given[0])

    class Slow(BuzzVoice):
        def speak(self, *args: Any, **options: Any) -> Iterator[SpeechChunk]:
            yield from super().speak(*args, **options)
            server.add_key("sts", "s", token="old", expires=time.time() - 1)

    key = put_job(runtime)
    with pytest.raises(Unavailable, match="CREDENTIALS_EXPIRED"):
        finish_job(key, with_voice(runtime, Slow(), lease_seconds=1.0))
    server.add_key("new", "n", token="new")
    given[0] = Credentials("new", "n", "new")
    assert retry_job(key, runtime, times=60).status == "succeeded"


@pytest.mark.parametrize("place", ["RESULTS", "CONTROL"])
def test_row_34_buckets_that_would_trigger_themselves_are_refused_at_start(place: str) -> None:
    environ = {"VOICEDROP_INBOX": "oss://voices", f"VOICEDROP_{place}": "oss://voices/"}
    with pytest.raises(Misconfigured, match="CONFIG_LOOP"):
        worker.worker_from(environ)


def test_row_38_an_item_whose_mark_cannot_be_read_back_is_not_stored(runtime: Runtime) -> None:
    items = [{"id": "a", "text": "!zeros"}, {"id": "b", "text": "A sentence that can be marked."}]
    done = finish_job(put_job(runtime, items=items), runtime)
    assert present(done.items[0].error).code in ("WATERMARK_VERIFY_FAILED", "OUTPUT_SILENT")
    assert [i.key.rpartition("/")[2] for i in runtime.results.list(f"out/{done.job_id}/")] == [
        "b.wav.sealed",
        "result.json",
    ]


@pytest.mark.parametrize("name", ["sign", "watermark", "kek"])
def test_row_39_without_its_keys_a_worker_does_not_start(tmp_path: Path, name: str) -> None:
    local_runtime(tmp_path)
    for path in (tmp_path / "keys").glob(f"*{name}*"):
        path.unlink()
    inbox, results, control = (str(tmp_path / name) for name in BUCKETS)
    settings = Settings(inbox=inbox, results=results, control=control, keys=tmp_path / "keys")
    with pytest.raises(Misconfigured, match="KEY_NOT_FOUND"):
        wiring.create_local_runtime(settings)


def test_the_table_in_the_docs_names_every_row_and_existing_tests() -> None:
    text = (ROOT / "docs/reliability.md").read_text()
    named = {word for word in text.replace("`", " ").split() if word.startswith("test_row_")}
    folder = Path(__file__).parent
    written = "".join(path.read_text() for path in folder.glob("test_rows_*.py"))
    assert {name[9:11] for name in named} == {f"{n:02}" for n in range(1, 41)}
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []
