"""`voicedrop protect`: as a user protects a voice, and as its owner allows its use."""

from __future__ import annotations

import hashlib

import pytest

from core.crypto.keys import load_keyring
from core.storage.local import LocalStore
from tests.support.command_line import Workspace
from tests.support.present import present
from tests.support.runtime import local_runtime, put_job, run_job
from tests.support.speech import cut_clip

pytestmark = pytest.mark.slow


def test_a_voice_is_protected_and_its_owner_allows_its_use(workspace: Workspace) -> None:
    root = workspace.root
    (root / "known.flac").write_bytes(known := cut_clip(0, 3.6))
    added = workspace.json("protect", "add", "known.flac", "--label", "Alice", "--owner", "Agency")
    digest = hashlib.sha256(known).hexdigest()
    assert (added["recording"], added["label"], added["owner"]) == (digest, "Alice", "Agency")

    foreign = root / "bucket/control/protected" / f"{'0' * 64}.json"
    foreign.write_text("{}")
    listed = workspace.run("protect", "list")
    assert listed.returncode == 1
    assert f"{digest[:8]}  Alice  (owner: Agency" in listed.stdout
    assert f"protected/{foreign.name}: not signed by us" in listed.stdout
    assert workspace.run("protect", "remove", "0000").returncode == 0
    assert not foreign.exists()

    store = root / "bucket"
    places = {name: LocalStore(store / name) for name in ("inbox", "results", "control")}
    runtime = local_runtime(root / "unused", **places, keys=load_keyring(root / "keys"))
    key = put_job(runtime, reference=(new := cut_clip(2.4, 6)), mode="validate")
    assert present(run_job(key, runtime).items[0].error).code == "VOICE_PROTECTED"
    (root / "new.flac").write_bytes(new)
    named = ("--method", "own-voice", "--subject", "Alice", "--protection-owner", "Agency")
    record = str(store / "inbox/consent/new.json")
    assert workspace.run("consent", "new", "new.flac", *named, "-o", record).returncode == 0
    voice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/new.json"}
    key = put_job(runtime, reference=new, mode="validate", voices={"alice": voice})
    assert run_job(key, runtime).status == "validated"

    assert workspace.json("protect", "remove", "Alice")["removed"].endswith(f"{digest}.json")
    assert list((root / "bucket/control/protected").iterdir()) == []
