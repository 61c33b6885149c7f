"""Keys are rotated with the commands of docs/operations.md, and everything goes on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from core.audit import Sources, audit_bucket, build_report
from core.crypto import keys, sealing
from core.errors import Refused
from core.job.runtime import Runtime
from core.result.document import Result
from core.settings import Settings
from core.storage.object_keys import result_key, shard_key
from core.tlog import log
from handlers import jobs, wiring
from handlers.jobs import carry_out_shard
from handlers.wiring import CurrentCredentials
from tests.support.command_line import ROOT
from tests.support.runtime import (
    BuzzVoice,
    finish_job,
    local_runtime,
    put_job,
    split_job,
    voice_of,
)

PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
NAMES = ("VOICEDROP_SIGNING_KEY", "VOICEDROP_WATERMARK_KEY", "VOICEDROP_KEK")
SOURCES = tuple(f"{name}_SOURCE" for name in NAMES)
UPLOAD = "ossutil cp -r keys/ oss://$CONTROL/keys/\n"
WORDS = "Some words that are long enough to carry a mark, number"
ITEMS = [{"id": f"i{n}", "text": f"{WORDS} {n}."} for n in range(4)]


def commands(heading: str) -> list[str]:
    """Return the shell blocks of a section of the page."""
    section = PAGE.split(f"\n{heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def run_commands(script: str, folder: Path) -> list[dict[str, str]]:
    """Run commands in a folder; return the keys in the settings at each `# s deploy`, where
    `control` is the bucket."""
    shown = " ".join(f'"${{{name}:-}}"' for name in SOURCES)
    script = script.replace("# s deploy", f"printf '%s\\n' {shown}")
    script = script.replace("voicedrop init", "true").replace(UPLOAD, "cp -r keys control/\n")
    ran = subprocess.run(
        ["/bin/bash", "-euc", script], cwd=folder, check=True, capture_output=True, text=True
    )
    lines = ran.stdout.split()
    found = [dict(zip(NAMES, lines[i : i + 3], strict=True)) for i in range(0, len(lines), 3)]
    return [one | {"VOICEDROP_CONTROL": str(folder / "control")} for one in found]


def deployed(runtime: Runtime, environ: Mapping[str, str], worker: str) -> Runtime:
    """Return the runtime of an instance with these settings."""
    ring = wiring.load_keyring(Settings.from_environ(environ), CurrentCredentials(environ))
    return replace(runtime, keys=ring, worker=worker)


@pytest.fixture
def fleet(tmp_path: Path) -> list[Runtime]:
    """Instances before the rotation, after the first deployment and after the second."""
    runtime = local_runtime(tmp_path, shard_items=2, voice=BuzzVoice())
    create, export = commands("## Keys")
    assert export.startswith(UPLOAD)
    before = re.sub(r",control:keys/\S+-002\.\S+", "", export.split("# s deploy")[0])
    (first,) = run_commands(before + "# s deploy\n", tmp_path)
    run_commands(create, tmp_path)
    keys.create_keys(tmp_path / "keys")  # what `voicedrop init` does
    settings = [first, *run_commands(export, tmp_path)]
    return [deployed(runtime, one, f"w{number}") for number, one in enumerate(settings)]


def audit(root: Path, kept: str) -> list[str]:
    """Audit with every key in the folder, and return the findings."""
    runtime = local_runtime(root)
    reading = keys.load_reading_keys(root / "keys")
    sources = Sources(
        results=runtime.results, control=runtime.control, inbox=runtime.inbox, keys=reading
    )
    report = build_report(audit_bucket(sources, earlier=kept), sources, "")
    return [f"{one.code} {one.key} {one.message}" for one in report.findings]


def opens(result: Result, runtime: Runtime) -> bool:
    for item in result.items:
        assert item.output
        assert item.envelope
        body = runtime.results.get(item.output.key, limit=1 << 24).data
        sealing.open_sealed(body, item.envelope, runtime.keys.wrapping)
    return bool(result.items)


@pytest.mark.slow
def test_the_keys_of_a_function_are_rotated(fleet: list[Runtime], tmp_path: Path) -> None:
    old, between, new = fleet
    a = finish_job(put_job(old, name="a", items=ITEMS[:2]), old)
    jobs.integrate_log(old)
    kept = log.read_latest_checkpoint(old.results) or ""
    stopped = put_job(old, name="b", items=ITEMS[2:])
    b = finish_job(stopped, old)
    assert b.items[1].output
    for key in (result_key(b.job_id), b.items[1].output.key):
        old.results.delete(key)  # as if the worker had stopped after its first item
    cut = split_job(put_job(old, name="c", items=ITEMS), old)
    assert carry_out_shard(shard_key(cut.job_id, 0), old) is None
    spoken = len(voice_of(old).spoken)

    # An instance of the first deployment and one of the second work side by side.
    done = finish_job(stopped, new)
    assert done.status == "succeeded"
    assert done.items[0].output == b.items[0].output
    assert len(voice_of(new).spoken) == spoken + 1
    assert finish_job("jobs/a.manifest.json", new) == a
    shared = carry_out_shard(shard_key(cut.job_id, 1), new)
    assert shared
    assert shared.status == "succeeded"
    book = put_job(
        new, name="d", items=ITEMS[1:3], retry_of=a.job_id, output={"concatenate": "book"}
    )
    joined = finish_job(book, new)
    assert joined.status == "succeeded", joined.error
    assert joined.totals.kept == 1
    assert len(voice_of(new).enrolled) == 1  # the kept voice is opened with the old key
    assert opens(a, new)
    assert opens(finish_job(book, between), between)
    assert set(new.keys.watermark) == {
        item.watermark.key_id for item in joined.items if item.watermark
    }

    jobs.integrate_log(new)
    jobs.integrate_log(between)
    assert audit(tmp_path, kept) == []
    new_ids = {next(iter(new.keys.verifying))}
    assert (joined.signature.key_id if joined.signature else "") in new_ids


@pytest.mark.slow
def test_without_the_earlier_public_key_nothing_is_lost(
    fleet: list[Runtime], tmp_path: Path
) -> None:
    """The operator forgets it, and then adds it."""
    old, _, new = fleet
    finish_job(put_job(old, name="a", items=ITEMS[:1]), old)
    jobs.integrate_log(old)
    finish_job(put_job(old, name="b", items=ITEMS[1:2]), old)
    (current, _) = new.keys.verifying.items()
    forgetful = replace(new, keys=replace(new.keys, verifying=dict([current])))
    with pytest.raises(Refused, match="SIGNATURE_INVALID"):
        finish_job("jobs/a.manifest.json", forgetful)
    with pytest.raises(Refused, match="the earlier public key is missing"):
        jobs.integrate_log(forgetful)
    assert jobs.integrate_log(new).refused == []
    assert audit(tmp_path, "") == []


def test_an_earlier_signing_key_may_be_either_half_of_its_pair(tmp_path: Path) -> None:
    local_runtime(tmp_path)
    create, _ = commands("## Keys")
    run_commands(create, tmp_path)
    keys.create_keys(tmp_path / "keys")
    rings = []
    for half in ("pub.pem", "pem"):
        script = f"{UPLOAD}VOICEDROP_SIGNING_KEY_SOURCE="
        script += f"control:keys/sign-002.pem,control:keys/sign-001.{half}\n"
        script += "VOICEDROP_WATERMARK_KEY_SOURCE=control:keys/watermark-001.key\n"
        script += "VOICEDROP_KEK_SOURCE=control:keys/kek-001.key\n# s deploy\n"
        (environ,) = run_commands(script, tmp_path)
        rings.append(wiring.load_keyring(Settings.from_environ(environ), CurrentCredentials({})))
    assert list(rings[0].verifying) == list(rings[1].verifying)
    assert len(rings[0].verifying) == 2
