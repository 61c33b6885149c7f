"""A folder as a bucket, beyond the contract: users, other processes, full disks, crashes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from core.errors import JobError
from core.storage import local_files
from core.storage.local import LocalStore
from tests.support.stores import head
from tests.support.untraced import environ_without_coverage

_PRELUDE = """
import sys, time, resource, os
from pathlib import Path
from core.errors import JobError
from core.storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def _process(root: Path, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PRELUDE + code, str(root)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=environ_without_coverage(),  # a killed process would leave half a coverage file
    )


def _private_files(root: Path) -> list[str]:
    """Return the names of the files in the private folder except the lock."""
    private = root / ".meta"
    return [path.name for path in private.rglob("*") if path.is_file() and path.name != "lock"]


def test_a_file_copied_into_the_folder_is_an_object(root: Path) -> None:
    (root / "refs").mkdir()
    (root / "refs" / "alice.wav").write_bytes(b"sound")
    found = LocalStore(root).get("refs/alice.wav", limit=9)
    assert found.data == b"sound"
    assert found.info.metadata == {}
    assert [info.key for info in LocalStore(root).list("")] == ["refs/alice.wav"]


def test_a_file_that_a_user_replaces_has_another_etag_and_no_metadata(root: Path) -> None:
    store = LocalStore(root)
    store.put("k", b"old", metadata={"a": "b"})
    before = head(store, "k")
    (root / "k").write_bytes(b"new")
    after = head(store, "k")
    assert before.etag != after.etag
    assert after.metadata == {}


def test_two_files_of_one_size_and_time_have_different_etags(root: Path) -> None:
    for name in ("one", "two"):
        (root / name).write_bytes(name.encode())
        os.utime(root / name, (1, 1))
    store = LocalStore(root)
    before = head(store, "one").etag
    (root / "two").replace(root / "one")
    assert head(store, "one").etag != before


def test_metadata_survive_a_copy_of_the_folder(root: Path, tmp_path: Path) -> None:
    LocalStore(root).put("k", b"1", metadata={"a": "b"})
    shutil.copytree(root, tmp_path / "copy")
    assert head(LocalStore(tmp_path / "copy"), "k").metadata == {"a": "b"}


def test_no_temporary_files_remain(root: Path) -> None:
    store = LocalStore(root)
    for _ in range(3):
        store.put("k", b"1", metadata={"a": "b"})
        assert store.put_once("k", b"2", metadata={"a": "c"}) is False
    assert len(_private_files(root)) == 1  # the metadata of k
    store.put("k", b"1")
    store.put_once("j", b"1", metadata={"a": "b"})
    store.delete("j")
    store.append("l", b"1", position=0)
    assert _private_files(root) == []


def test_the_private_folder_is_not_an_object(root: Path) -> None:
    store = LocalStore(root)
    store.put("k", b"1", metadata={"a": "b"})
    assert [info.key for info in store.list("")] == ["k"]
    assert list(store.list(".meta/")) == []
    for key in (".meta", ".meta/lock"):
        with pytest.raises(JobError, match="KEY_INVALID"):
            store.get(key, limit=9)


def test_links_and_pipes_are_not_objects_and_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "file").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    store = LocalStore(root)
    for key in ("file", "folder/secret"):
        for operation in (lambda k=key: store.get(k, limit=9), lambda k=key: store.put(k, b"")):
            with pytest.raises(JobError, match="symbolic link"):
                operation()
    assert store.head("pipe") is None
    # Nor if one has replaced a regular file since that was found.
    with tempfile.TemporaryFile() as file:
        local_files.copy_file(root / "pipe", 9, file)
        with pytest.raises(OSError, match="symbolic links"):
            local_files.copy_file(root / "file", 9, file)
        assert file.seek(0, os.SEEK_END) == 0
    assert list(store.list("")) == list(store.list("folder/")) == []
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_names_that_are_not_utf_8_or_too_long_for_a_key_are_not_listed(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff.wav"))).write_bytes(b"")
    deep = root / "/".join(["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    assert list(LocalStore(root).list("")) == []


@pytest.mark.parametrize("key", ["a/b", "d", "n" * 256], ids=["below a file", "a folder", "long"])
def test_names_that_a_folder_does_not_support_are_refused(root: Path, key: str) -> None:
    (root / "a").write_bytes(b"")
    (root / "d" / "e").mkdir(parents=True)
    store = LocalStore(root)
    for write in (store.put, store.put_once):
        with pytest.raises(JobError, match="KEY_INVALID"):
            write(key, b"", metadata={"a": "b"})
    assert _private_files(root) == []


def test_a_missing_folder_is_a_missing_bucket(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "nowhere")
    for operation in (
        lambda: store.get("k", limit=1),
        lambda: store.head("k"),
        lambda: store.put("k", b""),
        lambda: store.put_once("k", b""),
        lambda: store.append("k", b"", position=0),
        lambda: store.delete("k"),
        lambda: list(store.list("")),
        lambda: store.check(writable_once=False),
    ):
        with pytest.raises(JobError, match="BUCKET_MISSING"):
            operation()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a read-only folder")
def test_a_read_only_folder_is_forbidden() -> None:
    with pytest.raises(JobError, match="BUCKET_FORBIDDEN"):
        LocalStore(Path("/sys/kernel")).put("k", b"")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "NO_SPACE"),
        (errno.EDQUOT, "NO_SPACE"),
        (errno.EACCES, "BUCKET_FORBIDDEN"),
        (errno.EROFS, "BUCKET_FORBIDDEN"),
        (errno.ENAMETOOLONG, "KEY_INVALID"),
        (errno.EIO, "STORAGE_UNAVAILABLE"),
    ],
    ids=errno.errorcode.get,
)
def test_os_errors_become_job_errors(root: Path, number: int, code: str) -> None:
    with pytest.raises(JobError, match=code) as caught, local_files.translate_os_errors(root, "k"):
        raise OSError(number, os.strerror(number))
    assert not re.search("role|deploy", caught.value.advice), "a folder has no role"


def test_a_file_deleted_while_it_is_read_is_empty(root: Path) -> None:
    assert local_files.read_file(root / "deleted", 9) == b""
    with tempfile.TemporaryFile() as file:
        file.write(b"earlier")
        local_files.copy_file(root / "deleted", 9, file)
        assert file.seek(0, os.SEEK_END) == 0


def test_a_full_disk_is_temporary_and_leaves_no_files(root: Path) -> None:
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (store.put, store.put_once):
    try:
        write("k", b"x" * 5000, metadata={"a": "b"})
    except JobError as error:
        print(error.code, error.retry)
"""
    process = _process(root, code)
    assert process.communicate(timeout=60)[0].split() == ["NO_SPACE", "True"] * 2
    assert _private_files(root) == []
    assert LocalStore(root).head("k") is None


def test_temporary_files_of_killed_workers_are_deleted_at_start_up(root: Path) -> None:
    store = LocalStore(root)
    store.put("k", b"1")
    old, young = root / ".meta/aside/old", root / ".meta/aside/young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 7200))
    store.check(writable_once=True)
    assert not old.exists()
    assert young.exists()


@pytest.mark.slow
def test_of_several_processes_one_succeeds_and_no_append_is_lost(root: Path) -> None:
    code = """
while not (Path(sys.argv[1]) / "go").exists():
    time.sleep(0.001)
first = store.put_once("once", str(os.getpid()).encode(), metadata={"pid": str(os.getpid())})
for _ in range(20):
    won = False
    while not won:
        info = store.head("log")
        won = store.append("log", b"%07d\\n" % os.getpid(), position=info.size if info else 0)
print(os.getpid(), first)
"""
    processes = [_process(root, code) for _ in range(4)]
    time.sleep(0.2)
    (root / "go").touch()
    answers = dict(process.communicate(timeout=60)[0].split() for process in processes)
    store = LocalStore(root)
    (winner,) = [pid for pid, won in answers.items() if won == "True"]
    found = store.get("once", limit=99)
    assert (found.data.decode(), found.info.metadata) == (winner, {"pid": winner})
    lines = store.get("log", limit=9999).data.split()
    assert {int(line): lines.count(line) for line in lines} == {int(pid): 20 for pid in answers}


def test_a_killed_writer_leaves_complete_objects_only(root: Path) -> None:
    code = """
for number in range(10**9):
    letter = b"abc"[number % 3 : number % 3 + 1]
    store.put("k", letter * 40_000, metadata={"v": letter.decode()})
    store.put_once(f"n/{number}", letter * 9_000)
    store.append("log", b"0123456789\\n", position=number * 11)
    if number == 0:
        print("ready", flush=True)
"""
    for pause in (0.0, 0.004, 0.013):
        shutil.rmtree(root)
        root.mkdir()
        process = _process(root, code)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        store = LocalStore(root)
        found = store.get("k", limit=40_000)
        assert found.data == found.info.metadata["v"].encode() * 40_000
        assert {info.size for info in store.list("n/")} == {9_000}
        log = store.get("log", limit=10**6).data
        assert log == b"0123456789\n" * (len(log) // 11)
        assert {info.key.split("/")[0] for info in store.list("")} == {"k", "n", "log"}


@pytest.mark.parametrize(
    "junk",
    [b"{", b"[1]", b'{"a": 1}', b"[" * 2000],
    ids=["cut", "a list", "a number", "nested"],
)
def test_metadata_that_somebody_else_wrote_is_none(root: Path, junk: bytes) -> None:
    store = LocalStore(root)
    store.put("k", b"1", metadata={"a": "b"})
    (name,) = _private_files(root)
    (root / ".meta" / name).write_bytes(junk)
    assert head(store, "k").metadata == {}
    assert [info.key for info in store.list("")] == ["k"]
