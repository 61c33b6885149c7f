"""Record what this version writes: tests/data/recorded/README.md.

    python -m tests.e2e.record

Takes a few minutes. It uses the command line alone, as an operator would, and never replaces a
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

from tests.e2e.recorded import FOLDER, NOTES, Recorded, pack
from tests.support.command_line import ROOT

REFERENCE = ROOT / "tests" / "data" / "speech" / "ref_367.flac"
ENVIRON = {
    "VOICEDROP_LABEL_PRODUCER": "00119111000000000000010000",
    "VOICEDROP_QUOTA_JOBS": "100",
}
PLAIN = {"voice": "alice", "language": "en", "format": "opus"}
NOBODY_SPEAKS = {"language": "fr"}
"""An item of which the embedded voice says LANGUAGE_UNSUPPORTED."""
ARRIVING = 61.0
"""Seconds after which an audit takes no object for one that is still being written."""
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
"""Of the jobs, as they shall be recorded; empty: not finished."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = Recorded(Path(folder))
        version = place.run("--version").stdout.strip()
        archive = FOLDER / f"{version}.tar.xz"
        if archive.exists():
            sys.stderr.write(f"{archive.relative_to(ROOT)} exists.\n")
            return 1
        notes = {"version": version, "commit": _commit(), **record(place)}
        (place.root / NOTES).write_text(json.dumps(notes, indent=1) + "\n")
        pack(place.root, archive)
    sys.stdout.write(f"{archive.relative_to(ROOT)}: {archive.stat().st_size} bytes\n")
    return 0


def record(place: Recorded) -> dict[str, Any]:
    """Everything that the buckets shall hold; what is noted of it."""
    begin(place)
    jobs = watched(place)
    checkpoints = [integrated(place)]
    rotate_keys(place)
    go_on(place, jobs)
    jobs |= watched(place, VOICEDROP_SHARD_ITEMS="4")
    checkpoints.append(integrated(place))
    waiting = leave_open(place)
    jobs |= watched(place, VOICEDROP_SHARD_ITEMS="4") | {"waiting": waiting}
    jobs["left"] = break_off(place)
    assert {name: one["status"] for name, one in jobs.items()} == STATUSES
    time.sleep(ARRIVING)
    return {"jobs": jobs, "checkpoints": checkpoints, "audit": audited(place)}


def begin(place: Recorded) -> None:
    """An inbox with two voices, a job of items and one of chapters, of which an item fails."""
    assert place.run("init").returncode == 0
    inbox = place.root / "bucket" / "inbox"
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
    place.drop("items", manifest("alice", "bob", items=items, defaults=PLAIN, **fields))
    place.drop("chapters", chapters(NOBODY_SPEAKS))


def chapters(last: dict[str, str]) -> dict[str, Any]:
    """Of two chapters with subtitles; `last`: fields of the last item."""
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


def go_on(place: Recorded, jobs: dict[str, Any]) -> None:
    """Whatever else a manifest may ask for, and a clip to be traced."""
    book = {"concatenate": "book", "format": "mp3", "titles": {"c0": "The beginning"}}
    place.drop("book", chapters({}) | {"retry_of": jobs["chapters"]["job"], "output": book})
    rows = [{"id": f"row-{n}", "text": f"This is row number {n} of the table."} for n in range(5)]
    rows[4] |= NOBODY_SPEAKS
    place.drop("cut", manifest("alice", items=rows, defaults=PLAIN | {"subtitle": ["srt"]}))
    lines = manifest("alice", defaults=PLAIN)
    place.drop("lines", lines, '{"id": "good", "text": "This line is good."}', '{"id": "bad"', "")
    place.drop("rejected", manifest("alice", items=[{"id": "a", "txet": "Words."}], itmes=[]))
    place.drop("dry", manifest("alice", items=rows, defaults=PLAIN, mode="validate"))
    opened = place.json("open", jobs["items"]["job"], "--out", "heard")["opened"]
    (clip,) = [one["path"] for one in opened if one["item"] == "one"]
    shutil.move(place.root / clip, place.root / "bucket/inbox/audit/clip.mp3")
    shutil.rmtree(place.root / "heard")


def leave_open(place: Recorded) -> dict[str, str]:
    """Bob withdraws his consent, so that a job fails, which is not logged; another job waits for a
    recording, for as long as a manifest may say. That one's note is returned."""
    (place.root / "bucket/inbox/consent/bob.json.revoked").touch()
    place.drop("withdrawn", manifest("bob", items=[{"id": "a", "text": "Not any more."}]))
    items = [{"id": "late", "text": "Her recording came late."}]
    late = PLAIN | {"voice": "carol"}
    return submitted(place, "waiting", manifest("carol", items=items, defaults=late))


def break_off(place: Recorded) -> dict[str, str]:
    """A job of three shards, of one, two and two items, whose worker is killed when it has stored
    two items."""
    items = [{"id": f"left-{n}", "text": f"This was left, number {n}."} for n in range(5)]
    note = submitted(place, "left", manifest("alice", items=items, defaults=PLAIN))
    folder = place.results / "out" / note["job"]
    with place.start("watch", "--once", **ENVIRON, VOICEDROP_SHARD_ITEMS="2") as worker:
        while len(list(folder.glob("*.sealed"))) < 2:
            assert worker.poll() is None
            time.sleep(0.01)
        worker.kill()
    stored = sorted(path.name.split(".")[0] for path in folder.rglob("*") if path.is_file())
    assert stored == ["00000", "left-0", "left-1"], stored
    return note


def manifest(*voices: str, **fields: Any) -> dict[str, Any]:
    said = {
        name: {
            "reference": f"refs/{'carol' if name == 'carol' else 'alice'}.flac",
            "language": "en",
            "consent": f"consent/{name}.json",
        }
        for name in voices
    }
    return {"schema": "voicedrop/job/1", "voices": said, "wait_s": 86400, **fields}


def consent(name: str) -> dict[str, Any]:
    """In date whenever the test runs."""
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


def rotate_keys(place: Recorded) -> None:
    """As docs/format.md says: new files beside the old ones."""
    with tempfile.TemporaryDirectory() as folder:
        other = Recorded(Path(folder))
        assert other.run("init").returncode == 0
        for path in (other.root / "keys").iterdir():
            shutil.copy2(path, place.root / "keys" / path.name.replace("001", "002"))


def submitted(place: Recorded, name: str, document: dict[str, Any]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.manifest.json"
        path.write_text(json.dumps(document))
        return {"job": place.json("submit", str(path))["job"], "status": ""}


def watched(place: Recorded, **environ: str) -> dict[str, dict[str, str]]:
    """Carry out what lies in the inbox; a note of each job that is finished."""
    ran = place.run("watch", "--once", "--json", **ENVIRON, **environ)
    told = json.loads(ran.stdout)["jobs"]
    return {
        key.split("/")[1].split(".")[0]: {"job": one["job"], "status": one["status"]}
        for key, one in told.items()
        if "job" in one
    }


def integrated(place: Recorded) -> str:
    checkpoint: str = place.json("log", "integrate")["checkpoint"]
    return checkpoint


def audited(place: Recorded) -> dict[str, int]:
    """Number of a check -> what passed it."""
    report = json.loads(place.run("audit", "--json").stdout)
    shutil.rmtree(place.root / "audit")
    return {str(check["number"]): check["passed"] for check in report["checks"]}


def _commit() -> str:
    """The last one that changed the product."""
    product = ("core", "events", "handlers", "watermark")
    command = ["git", "log", "-1", "--format=%H", "--", *product]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout[:40]


if __name__ == "__main__":
    sys.exit(main())
