from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.crypto.keys import Keyring, LocalKeys
from core.documents.signed import key_id
from core.errors import Unavailable
from core.storage.local import LocalStore
from core.storage.object_keys import mark_key
from core.trace import registry
from core.trace.registry import Mark

SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS = Keyring(
    wrapping=LocalKeys({}),
    signing=SIGNING,
    verifying={key_id(SIGNING.public_key()): SIGNING.public_key()},
    watermark={"k1": bytes(range(32))},
)
FOREIGN = b'{"item":"x","job":"y","schema":"voicedrop/mark/1"}'


@pytest.fixture
def results(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def resolve(results: LocalStore, payload: int, keys: Keyring = KEYS) -> Mark | None:
    return registry.resolve(results, payload, keys.verifying, keys.watermark)


def register(results: LocalStore, job: str, item: str) -> int:
    return registry.register(results, KEYS, job, item)


def test_a_payload_resolves_to_its_job_and_item(results: LocalStore) -> None:
    payload = register(results, "j1", "hello")
    assert resolve(results, payload) == Mark(job="j1", item="hello")


def test_an_item_keeps_its_payload_when_it_is_repeated(results: LocalStore) -> None:
    assert register(results, "j1", "hello") == register(results, "j1", "hello")


def test_a_payload_in_use_is_never_allocated_again(results: LocalStore) -> None:
    """Something else is stored for the first candidate."""
    free = register(results, "j1", "hello")
    results.put(mark_key(free), FOREIGN)
    second = register(results, "j1", "hello")
    assert second != free
    assert resolve(results, second) == Mark(job="j1", item="hello")


def test_another_key_gives_other_payloads(results: LocalStore) -> None:
    other = replace(KEYS, watermark={"k2": bytes(32)})
    assert register(results, "j", "i") != registry.register(results, other, "j", "i")


def test_an_unknown_payload_resolves_to_nothing(results: LocalStore) -> None:
    assert resolve(results, 0xDEADBEEF) is None
    assert mark_key(0xDEADBEEF) == "marks/de/deadbeef.json"


def test_a_store_without_a_free_payload_is_an_error(results: LocalStore) -> None:
    for _ in range(registry.MAX_CANDIDATES):
        results.put(mark_key(register(results, "j1", "hello")), FOREIGN)
    with pytest.raises(Unavailable, match="no free watermark payload"):
        register(results, "j1", "hello")


def test_the_public_key_or_the_watermark_key_suffices_to_resolve(results: LocalStore) -> None:
    payload = register(results, "j1", "hello")
    for keys in (replace(KEYS, verifying={}), replace(KEYS, watermark={})):
        assert resolve(results, payload, keys) == Mark(job="j1", item="hello")
    assert resolve(results, payload, replace(KEYS, verifying={}, watermark={})) is None


def test_a_mark_of_version_0_1_0_is_verified_by_the_watermark_key(results: LocalStore) -> None:
    payload = register(results, "j1", "hello")
    results.put(mark_key(payload), b'{"item":"hello","job":"j1","schema":"voicedrop/mark/1"}')
    assert resolve(results, payload) == Mark(job="j1", item="hello")
    assert register(results, "j1", "hello") == payload


def test_a_mark_that_was_forged_moved_or_changed_is_not_believed(results: LocalStore) -> None:
    payload, other = register(results, "j1", "hello"), register(results, "j2", "hello")
    genuine = results.get(mark_key(payload), limit=9999).data
    for stored in (
        FOREIGN,
        results.get(mark_key(other), limit=9999).data,
        genuine.replace(b"j1", b"j2"),
        json.dumps(json.loads(genuine) | {"job": "j2"}).encode(),
        genuine[:-1],
        b'{"item":"hello","job":"j1","x":' + b"[" * 1500,
        b"",
    ):
        results.put(mark_key(payload), stored)
        assert resolve(results, payload) is None
