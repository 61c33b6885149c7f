"""Recorded buckets of earlier versions: see tests/data/recorded/README.md."""

from __future__ import annotations

import json
import os
import tarfile
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.command_line import ROOT, Workspace

FOLDER = ROOT / "tests" / "data" / "recorded"
ARCHIVES = sorted(FOLDER.glob("*.tar.xz"))
NOTES = "notes.json"
"""File with the notes of the recorder, beside the buckets and keys."""


class RecordedBucket(Workspace):
    """An unpacked recording, in which the current commands run."""

    @cached_property
    def notes(self) -> dict[str, Any]:
        """The recorder's notes: `version`; `commit`; `jobs`: name of the manifest -> `job` (its id)
        and `status` (empty: not finished); `checkpoints` of the log, oldest first; `audit`:
        number of a check -> number of passes."""
        notes: dict[str, Any] = json.loads((self.root / NOTES).read_text())
        return notes

    @property
    def results(self) -> Path:
        return self.root / "bucket" / "results"

    def job(self, name: str) -> str:
        """Return the id of the job with this manifest."""
        found: str = self.notes["jobs"][name]["job"]
        return found

    def finished(self) -> list[str]:
        """Return the ids of the jobs that had a result when they were recorded."""
        return [one["job"] for one in self.notes["jobs"].values() if one["status"]]

    def result(self, job_id: str) -> dict[str, Any]:
        return self._read(f"out/{job_id}/result.json")

    def items(self, job_id: str) -> list[dict[str, Any]]:
        """Return the items of the result and of its parts."""
        result = self.result(job_id)
        items: list[dict[str, Any]] = result["items"]
        for part in result["parts"]:
            items += self._read(part["key"])["items"]
        return items

    def outputs(self, job_id: str) -> list[str]:
        """Return the names of the files that `voicedrop open` must write for the job."""
        keys = [
            file["key"]
            for one in [*self.items(job_id), *self.result(job_id)["chapters"]]
            if one["output"]
            for file in (one["output"], *one["subtitles"])
        ]
        return [key.rpartition("/")[2].removesuffix(".sealed") for key in keys]

    def manifest(self, name: str) -> dict[str, Any]:
        path = self.root / "bucket" / "inbox" / "jobs" / f"{name}.manifest.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a worker over these buckets."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("VOICEDROP_")}
        places = {
            "VOICEDROP_BUCKET": str(self.root / "bucket"),
            "VOICEDROP_KEYS": str(self.root / "keys"),
        }
        return clean | places | more

    def _read(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.results / key).read_text())
        return found

    def put_manifest(self, name: str, document: dict[str, Any], *lines: str) -> str:
        """Put a manifest into the inbox and return its key. `lines` are items of JSON Lines."""
        key = f"jobs/{name}.manifest.json{'l' if lines else ''}"
        path = self.root / "bucket" / "inbox" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([json.dumps(document, ensure_ascii=False), *lines]))
        return key


def pack(root: Path, archive: Path) -> None:
    """Pack with modification times in nanoseconds, by which a local bucket recognises the metadata
    of an object (docs/storage.md)."""
    with tarfile.open(archive, "w:xz", format=tarfile.PAX_FORMAT, preset=9) as tar:
        for path in sorted(root.rglob("*")):
            if not path.is_file():
                continue
            found = tar.gettarinfo(path, str(path.relative_to(root)))
            seconds, rest = divmod(path.stat().st_mtime_ns, 10**9)
            found.uid = found.gid = 0
            found.uname = found.gname = ""
            found.mtime = seconds
            found.pax_headers = {"mtime": f"{seconds}.{rest:09}"}
            with path.open("rb") as file:
                tar.addfile(found, file)


def unpack(archive: Path, root: Path) -> RecordedBucket:
    with tarfile.open(archive) as tar:
        tar.extractall(root, filter="data")
        for member in tar:
            modified = int(Decimal(member.pax_headers["mtime"]) * 10**9)
            os.utime(root / member.name, ns=(modified, modified))
    return RecordedBucket(root)
