"""Nothing read back from a bucket is believed unless a signature of ours binds it to its place.

For every kind of object in results and control: whoever can write to the buckets, but holds no key,
moves, swaps, copies, repeats, truncates, deletes or forges one. What is believed about a place is
then still what was written for it, or nothing; and where an audit looks, it finds the change.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core import audit
from core.crypto import keys as key_files
from core.documents import base64url, signed
from core.errors import JobError
from core.job.object_record import RECORD
from core.job.runtime import Runtime
from core.storage import object_keys
from core.storage.local import LocalStore
from core.storage.port import Object, Store
from handlers.sweep import run_sweep
from tests.audit.conftest import open_sources
from tests.support.every_object import Installation, Kind, build, store_of
from tests.support.present import present
from tests.support.runtime import local_runtime, put_job, run_job

pytestmark = [pytest.mark.slow, pytest.mark.repeats]
OF_PRODUCERS = {"cancellation_key", "named_voice_key", "ticket_key"}
"""Keys of the inbox, where producers write, so that nothing there is believed anyway."""
STRANGER = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return build(tmp_path_factory.mktemp("every"))


def copy(root: Path, to: Path) -> Runtime:
    """Copy the buckets, by links: a folder replaces its files and never changes one."""
    shutil.copytree(root, to, copy_function=os.link)
    return local_runtime(to, shard_items=2)


def believed(kind: Kind, runtime: Runtime, index: int) -> Any:
    try:
        return kind.read(runtime, index)
    except JobError:
        return None


class HourLater(LocalStore):
    def now(self) -> float:
        return super().now() + 3600


def is_audited_clean(root: Path) -> bool:
    """Audit with public keys alone, an hour later, when nothing is excused for being new."""
    public = key_files.load_reading_keys(root / "keys").verifying
    results = HourLater(root / "results")
    sources = open_sources(root, keys=key_files.ReadingKeys(public), inbox=None, results=results)
    bucket = audit.audit_bucket(sources)
    return audit.build_report(bucket, sources, "").findings == []


def get(store: Store, key: str) -> Object:
    return store.get(key, limit=10**8)


def put(store: Store, key: str, found: Object) -> None:
    store.put(key, found.data, metadata=found.info.metadata)


def move(store: Store, kind: Kind) -> None:
    put(store, kind.keys[1], get(store, kind.keys[0]))
    store.delete(kind.keys[0])


def swap(store: Store, kind: Kind) -> None:
    first, second = (get(store, key) for key in kind.keys)
    put(store, kind.keys[0], second)
    put(store, kind.keys[1], first)


def copy_over(store: Store, kind: Kind) -> None:
    put(store, kind.keys[1], get(store, kind.keys[0]))


def swap_bodies(store: Store, kind: Kind) -> None:
    """The metadata stay: for sealed objects, the signed record and the envelope."""
    first, second = (get(store, key) for key in kind.keys)
    store.put(kind.keys[0], second.data, metadata=first.info.metadata)
    store.put(kind.keys[1], first.data, metadata=second.info.metadata)


def swap_envelopes(store: Store, kind: Kind) -> None:
    """Everything is swapped but the signed record."""
    first, second = (get(store, key) for key in kind.keys)
    for key, body, own in ((kind.keys[0], second, first), (kind.keys[1], first, second)):
        record = {RECORD: own.info.metadata[RECORD]} if RECORD in own.info.metadata else {}
        store.put(key, body.data, metadata={**body.info.metadata, **record})


def repeat(store: Store, kind: Kind) -> None:
    """The first half of the lines of a log is appended again."""
    if kind.may_begin_again:
        data = get(store, kind.keys[0]).data
        lines = data.splitlines(keepends=True)
        store.append(kind.keys[0], b"".join(lines[: len(lines) // 2]), position=len(data))


def truncate(store: Store, kind: Kind) -> None:
    found = get(store, kind.keys[0])
    store.put(kind.keys[0], found.data[: len(found.data) // 2], metadata=found.info.metadata)


def delete(store: Store, kind: Kind) -> None:
    store.delete(kind.keys[0])


def empty(store: Store, kind: Kind) -> None:
    store.put(kind.keys[0], b"")


def garble(store: Store, kind: Kind) -> None:
    found = get(store, kind.keys[0])
    data = bytearray(found.data)
    data[len(data) // 2] ^= 1
    store.put(kind.keys[0], bytes(data), metadata=found.info.metadata)


def forge(store: Store, kind: Kind) -> None:
    """Change the content and keep the signature."""
    _rewrite(store, kind, lambda document: json.dumps(document).encode())


def sign_again(store: Store, kind: Kind) -> None:
    """Change the content and sign it with another key."""
    _rewrite(store, kind, lambda document: signed.sign(document, STRANGER))


def _rewrite(store: Store, kind: Kind, write: Callable[[dict[str, Any]], bytes]) -> None:
    """Rewrite the last line of an object that has lines like a lease, the first of a shard, the
    whole of another; and the record of a sealed object."""
    found = get(store, kind.keys[0])
    metadata = dict(found.info.metadata)
    if record := metadata.get(RECORD):
        document = json.loads(base64url.decode(record))
        document["fingerprint"] = "0" * 64
        metadata[RECORD] = base64url.encode(write(document))
        store.put(kind.keys[0], found.data, metadata=metadata)
        return
    lines = found.data.splitlines()
    changed = -1 if kind.name == "lease" else 0
    try:
        document = json.loads(lines[changed])
    except ValueError:
        store.put(kind.keys[0], b"forged\n" * 9, metadata=metadata)
        return
    kind.forge(document)
    lines[changed] = write(document)
    store.put(kind.keys[0], b"\n".join(lines) + b"\n" * found.data.endswith(b"\n"))


CHANGES = (
    *(move, swap, copy_over, swap_bodies, swap_envelopes, repeat),
    *(truncate, delete, empty, garble, forge, sign_again),
)
DELETES = {move, delete}
FORGERIES = {forge, sign_again}


def test_every_key_belongs_to_a_kind(installation: Installation) -> None:
    """A new kind of object needs a row."""
    made = {
        name
        for name, value in vars(object_keys).items()
        if name.endswith("_key") and callable(value) and not name.startswith(("is_", "parse_"))
    }
    covered = {name for kind in installation.kinds for name in kind.made_by}
    assert made - {"check_key"} - OF_PRODUCERS == covered
    assert {kind.bucket for kind in installation.kinds} == {"results", "control"}


def test_everything_is_believed_before_anything_is_changed(
    installation: Installation, tmp_path: Path
) -> None:
    assert is_audited_clean(installation.root)
    for number, kind in enumerate(installation.kinds):
        runtime = copy(installation.root, tmp_path / f"{number}")
        assert all(store_of(runtime, kind).head(key) for key in kind.keys), kind.name
        assert believed(kind, runtime, 0) is not None, kind.name
        assert believed(kind, runtime, 1) is not None, kind.name


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_was_changed_is_not_believed_and_an_audit_finds_it(
    installation: Installation, tmp_path: Path, change: Callable[[Store, Kind], None]
) -> None:
    wrong = []
    for number, kind in enumerate(installation.kinds):
        genuine = copy(installation.root, tmp_path / f"{number}a")
        expected = [believed(kind, genuine, index) for index in range(2)]
        changed = copy(installation.root, tmp_path / f"{number}b")
        store = store_of(changed, kind)
        before = [get(store, key) for key in kind.keys]
        change(store, kind)
        is_same = all(_is_same(store, found) for found in before[: 1 + kind.is_second_read])
        must_find = kind.audited and not is_same and (kind.is_missed or change not in DELETES)
        must_find &= kind.is_record_audited or change not in FORGERIES
        if must_find and is_audited_clean(tmp_path / f"{number}b"):
            wrong.append(f"{kind.name}: no finding")
        found = [believed(kind, changed, index) for index in range(2)]
        for value, right in zip(found, expected, strict=True):
            is_less = kind.may_begin_again and _is_less(value, right)
            if value not in (None, right) and not is_less:
                wrong.append(f"{kind.name}: {str(value)[:200]} is believed")
    assert not wrong, "\n".join(wrong)


def _is_same(store: Store, before: Object) -> bool:
    if store.head(before.info.key) is None:
        return False
    now = get(store, before.info.key)
    return (now.data, now.info.metadata) == (before.data, before.info.metadata)


def _is_less(value: Any, right: Any) -> bool:
    return isinstance(value, frozenset) and value < right


def test_a_result_of_another_inbox_is_neither_retried_nor_announced(
    installation: Installation, tmp_path: Path
) -> None:
    """Two installations with the same keys: the results of one are copied to the other."""
    source = copy(installation.root, tmp_path / "source")
    (tmp_path / "inbox-2").mkdir()
    runtime = local_runtime(
        tmp_path / "other", inbox=LocalStore(tmp_path / "inbox-2"), keys=source.keys
    )
    place = installation.kinds[0].keys[0]
    put(runtime.results, place, get(source.results, place))
    key = put_job(runtime, retry_of=object_keys.job_id_of(place))
    assert present(run_job(key, runtime).error).code == "RETRY_UNKNOWN"
    runtime.inbox.delete(key)
    run_sweep(runtime, grace=0)
    events = [info.key for info in runtime.results.list(object_keys.EVENTS)]
    assert not any(object_keys.job_id_of(place) in key for key in events)


def test_no_object_is_taken_for_one_of_another_kind(
    installation: Installation, tmp_path: Path
) -> None:
    """Every object is put to the place of every other kind."""
    genuine = copy(installation.root, tmp_path / "genuine")
    objects = {kind.name: get(store_of(genuine, kind), kind.keys[0]) for kind in installation.kinds}
    wrong = []
    for number, kind in enumerate(installation.kinds):
        runtime = copy(installation.root, tmp_path / f"{number}")
        expected = believed(kind, runtime, 0)
        for name in objects.keys() - {kind.name}:
            put(store_of(runtime, kind), kind.keys[0], objects[name])
            if believed(kind, runtime, 0) not in (None, expected):
                wrong.append(f"{name} is believed as {kind.name}")
    assert not wrong, "\n".join(wrong)
