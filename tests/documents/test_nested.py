"""Every reader of JSON that others may write refuses what is nested too deeply for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.audio import sandbox
from core.crypto import sealing
from core.crypto.sealing import METADATA_NAMES
from core.documents import base64url
from core.errors import Refused
from core.job.waiting import read_manifest_key
from core.storage.local import LocalStore
from core.tlog.leaf import parse_leaf
from core.trace.registry import read_index

NESTED = b'{"x":' + b"[" * 1500
FIELDS = dict.fromkeys(METADATA_NAMES.values(), base64url.encode(b"{}"))


def read_envelope(data: bytes) -> None:
    sealing.envelope_from_metadata(FIELDS | {METADATA_NAMES["ctx"]: base64url.encode(data)})


@pytest.mark.parametrize(
    ("read", "error"),
    [(read_envelope, Refused), (read_index, Refused), (sandbox.parse_answer, sandbox.Crashed)],
)
def test_what_is_nested_too_deeply_is_refused(
    read: Callable[[bytes], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        read(NESTED)


def test_what_may_be_of_another_kind_is_passed_over(tmp_path: Path) -> None:
    assert parse_leaf(NESTED) is None
    store = LocalStore(tmp_path)
    store.put("waiting/x/y", NESTED)
    assert read_manifest_key(store, "waiting/x/y") == ""
