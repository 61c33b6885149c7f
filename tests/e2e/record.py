"""Record a bucket that this version writes: see tests/data/recorded/README.md.

    python -m tests.e2e.record

Takes a few minutes. Uses only the command line, as an operator does, and never replaces a
recording.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.e2e.recorded import FOLDER, NOTES, RecordedBucket, pack
from tests.support.command_line import ROOT

REFERENCE = ROOT / "tests" / "data" / "speech" / "ref_367.flac"
ENVIRON = {
    "VOICEDROP_LABEL_PRODUCER": "00119111000000000000010000",
    "VOICEDROP_QUOTA_JOBS": "100",
}
PLAIN = {"voice": "alice", "language": "en", "format": "opus"}
UNSUPPORTED_LANGUAGE = {"language": "fr"}
"""Fields of an item that the embedded voice refuses with LANGUAGE_UNSUPPORTED."""
SETTLE_SECONDS = 61.0
"""Seconds after which an audit no longer regards an object as in progress."""
STATUSES = {
    "items": "succeeded",
    "chapters": "partial",
    "book": "succeeded",
    "cut": "partial",
    "lines": "partial",
    "rejected": "rejected",
    "dry": "invalid",
    "withdrawn": "failed",
    "waiting": "",
    "left": "",
}
"""Expected status of each job when it is recorded; empty: not finished."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        workspace = RecordedBucket(Path(folder))
        version = workspace.run("--version").stdout.strip()
        archive = FOLDER / f"{version}.tar.xz"
        if archive.exists():
            sys.stderr.write(f"{archive.relative_to(ROOT)} exists.\n")
            return 1
        notes = {"version": version, "commit": _commit(), **record_bucket(workspace)}
        (workspace.root / NOTES).write_text(json.dumps(notes, indent=1) + "\n")
        pack(workspace.root, archive)
    sys.stdout.write(f"{archive.relative_to(ROOT)}: {archive.stat().st_size} bytes\n")
    return 0


def record_bucket(workspace: RecordedBucket) -> dict[str, Any]:
    """Carry out all jobs of the recording; return its notes."""
    put_first_jobs(workspace)
    jobs = watch_once(workspace)
    checkpoints = [integrate_log(workspace)]
    rotate_keys(workspace)
    put_further_jobs(workspace, jobs)
    jobs |= watch_once(workspace, VOICEDROP_SHARD_ITEMS="4")
    checkpoints.append(integrate_log(workspace))
    waiting = put_open_jobs(workspace)
    jobs |= watch_once(workspace, VOICEDROP_SHARD_ITEMS="4") | {"waiting": waiting}
    jobs["left"] = kill_worker_in_job(workspace)
    assert {name: one["status"] for name, one in jobs.items()} == STATUSES
    time.sleep(SETTLE_SECONDS)
    return {"jobs": jobs, "checkpoints": checkpoints, "audit": count_passed_checks(workspace)}


def put_first_jobs(workspace: RecordedBucket) -> None:
    """Fill the inbox with voices, a job of items, and one of chapters of which an item fails."""
    assert workspace.run("init").returncode == 0
    inbox = workspace.root / "bucket" / "inbox"
    for name in ("refs", "consent", "audit"):
        (inbox / name).mkdir()
    shutil.copy(REFERENCE, inbox / "refs" / "alice.flac")
    for name in ("alice", "bob", "carol"):
        (inbox / "consent" / f"{name}.json").write_text(json.dumps(consent(name), indent=2))
    items = [
        {"id": "one", "text": "The first words in her own voice.", "format": "mp3"},
        {"id": "two", "text": "今天的天气很好，我们出去走走吧。", "language": "zh"},
        {"id": "three", "text": "These are said by Bob.", "voice": "bob", "format": "flac"},
        {"id": "four", "text": "At a lower rate, and in a plain file.", "sample_rate": 8000}
        | {"format": "wav", "speed": 1.1, "seed": 7, "pause_ms": 200, "meta": {"row": 4}},
    ]
    fields = {"id": "recorded-1", "labels": {"team": "tests"}}
    workspace.put_manifest("items", manifest("alice", "bob", items=items, defaults=PLAIN, **fields))
    workspace.put_manifest("chapters", chapters(UNSUPPORTED_LANGUAGE))


def chapters(last: dict[str, str]) -> dict[str, Any]:
    """Return a manifest of two chapters with subtitles; `last` are fields of the last item."""
    texts = (
        "Chapter one begins with this sentence. It has a second one.",
        "Here the first chapter ends.",
        "The second chapter is short.",
        "And this is the end of it.",
    )
    items = [{"id": f"i{n}", "text": text, "chapter": f"c{n // 2}"} for n, text in enumerate(texts)]
    items[3] |= last
    defaults = {"format": "flac", "sample_rate": 16000, "subtitle": ["srt", "vtt", "json"]}
    output = {"concatenate": "chapters", "format": "mp3"}
    return manifest("alice", items=items, defaults=defaults, output=output)


def put_further_jobs(workspace: RecordedBucket, jobs: dict[str, Any]) -> None:
    """Put jobs with all other features of a manifest, and a clip to be traced."""
    book = {"concatenate": "book", "format": "mp3", "titles": {"c0": "The beginning"}}
    workspace.put_manifest(
        "book", chapters({}) | {"retry_of": jobs["chapters"]["job"], "output": book}
    )
    rows = [{"id": f"row-{n}", "text": f"This is row number {n} of the table."} for n in range(5)]
    rows[4] |= UNSUPPORTED_LANGUAGE
    workspace.put_manifest(
        "cut", manifest("alice", items=rows, defaults=PLAIN | {"subtitle": ["srt"]})
    )
    lines = manifest("alice", defaults=PLAIN)
    workspace.put_manifest(
        "lines", lines, '{"id": "good", "text": "This line is good."}', '{"id": "bad"', ""
    )
    workspace.put_manifest(
        "rejected", manifest("alice", items=[{"id": "a", "txet": "Words."}], itmes=[])
    )
    workspace.put_manifest("dry", manifest("alice", items=rows, defaults=PLAIN, mode="validate"))
    opened = workspace.json("open", jobs["items"]["job"], "--out", "heard")["opened"]
    (clip,) = [one["path"] for one in opened if one["item"] == "one"]
    shutil.move(workspace.root / clip, workspace.root / "bucket/inbox/audit/clip.mp3")
    shutil.rmtree(workspace.root / "heard")


def put_open_jobs(workspace: RecordedBucket) -> dict[str, str]:
    """Put a job that fails because Bob withdrew his consent, which is not logged, and a job that
    waits for a recording as long as possible. Return the note of the waiting job."""
    (workspace.root / "bucket/inbox/consent/bob.json.revoked").touch()
    workspace.put_manifest(
        "withdrawn", manifest("bob", items=[{"id": "a", "text": "Not any more."}])
    )
    items = [{"id": "late", "text": "Her recording came late."}]
    late = PLAIN | {"voice": "carol"}
    return submit(workspace, "waiting", manifest("carol", items=items, defaults=late))


def kill_worker_in_job(workspace: RecordedBucket) -> dict[str, str]:
    """Put a job of three shards, of one, two and two items, and kill its worker when it has stored
    two items. Return the note of the job."""
    items = [{"id": f"left-{n}", "text": f"This was left, number {n}."} for n in range(5)]
    note = submit(workspace, "left", manifest("alice", items=items, defaults=PLAIN))
    folder = workspace.results / "out" / note["job"]
    with workspace.start("watch", "--once", **ENVIRON, VOICEDROP_SHARD_ITEMS="2") as worker:
        while len(list(folder.glob("*.sealed"))) < 2:
            assert worker.poll() is None
            time.sleep(0.01)
        worker.kill()
    stored = sorted(path.name.split(".")[0] for path in folder.rglob("*") if path.is_file())
    assert stored == ["00000", "left-0", "left-1"], stored
    return note


def manifest(*voices: str, **fields: Any) -> dict[str, Any]:
    fields_of = {
        name: {
            "reference": f"refs/{'carol' if name == 'carol' else 'alice'}.flac",
            "language": "en",
            "consent": f"consent/{name}.json",
        }
        for name in voices
    }
    return {"schema": "voicedrop/job/1", "voices": fields_of, "wait_s": 86400, **fields}


def consent(name: str) -> dict[str, Any]:
    """Return a consent record without an end of validity."""
    return {
        "schema": "voicedrop/consent/1",
        "id": f"consent-of-{name}",
        "subject": {"pseudonym": name},
        "controller": "tests",
        "purposes": ["tests"],
        "valid_from": "2020-01-01T00:00:00Z",
        "method": "public-domain",
        "source": "LibriSpeech, CC BY 4.0",
        "ref_audio_sha256": [hashlib.sha256(REFERENCE.read_bytes()).hexdigest()],
        "created_by": "tests",
    }


def rotate_keys(workspace: RecordedBucket) -> None:
    """Add new keys beside the old ones, as docs/format.md describes."""
    with tempfile.TemporaryDirectory() as folder:
        other = RecordedBucket(Path(folder))
        assert other.run("init").returncode == 0
        for path in (other.root / "keys").iterdir():
            shutil.copy2(path, workspace.root / "keys" / path.name.replace("001", "002"))


def submit(workspace: RecordedBucket, name: str, document: dict[str, Any]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.manifest.json"
        path.write_text(json.dumps(document))
        return {"job": workspace.json("submit", str(path))["job"], "status": ""}


def watch_once(workspace: RecordedBucket, **environ: str) -> dict[str, dict[str, str]]:
    """Carry out all jobs in the inbox; return a note of each finished job."""
    ran = workspace.run("watch", "--once", "--json", **ENVIRON, **environ)
    answer = json.loads(ran.stdout)["jobs"]
    return {
        key.split("/")[1].split(".")[0]: {"job": one["job"], "status": one["status"]}
        for key, one in answer.items()
        if "job" in one
    }


def integrate_log(workspace: RecordedBucket) -> str:
    checkpoint: str = workspace.json("log", "integrate")["checkpoint"]
    return checkpoint


def count_passed_checks(workspace: RecordedBucket) -> dict[str, int]:
    """Return the number of each check of an audit -> the number of passes."""
    report = json.loads(workspace.run("audit", "--json").stdout)
    shutil.rmtree(workspace.root / "audit")
    return {str(check["number"]): check["passed"] for check in report["checks"]}


def _commit() -> str:
    """Return the last commit that changed the product."""
    product = ("core", "events", "handlers", "watermark")
    command = ["git", "log", "-1", "--format=%H", "--", *product]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout[:40]


if __name__ == "__main__":
    sys.exit(main())
