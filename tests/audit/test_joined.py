"""An audit of joined files, of subtitles, and of the parts of a job that was cut."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from core import audit
from core.audio import encoding
from core.audio.waveform import Audio
from core.crypto import sealing
from core.crypto.sealing import Context
from core.documents import signed
from core.label import aigc as label
from core.result.document import Result, parse_result
from tests.audit.conftest import opened
from tests.audit.test_findings import run, told

pytestmark = pytest.mark.slow

CHANGED = {(2, "OBJECT_CHANGED"), (4, "SEAL_INVALID")}
MISSING, UNCLAIMED = (2, "OBJECT_MISSING"), (10, "OBJECT_UNCLAIMED")


@pytest.fixture
def copy(joined: Path, tmp_path: Path) -> Path:
    return shutil.copytree(joined, tmp_path / "copy")


def places(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(f"results/out/*/{pattern}"))


def document(root: Path, name: str) -> Path:
    """Where the result of a job lies."""
    found = [p for p in places(root, "result.json") if f"jobs/{name}.".encode() in p.read_bytes()]
    return found[0]


def test_a_clean_bucket_has_no_findings(joined: Path) -> None:
    report = run(joined)
    assert report.findings == []
    objects = len(places(joined, "**/*.sealed"))
    kept = 3  # by the repetition: they are looked at for each of the two
    assert report.checks[1].passed == report.checks[3].passed == objects + kept
    chapters = len(places(joined, "chapters/*.wav.sealed"))
    assert chapters == 4
    assert report.checks[6].passed == chapters + report.totals.outputs


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def add(path: Path) -> None:
    path.write_bytes(b"hello")


SPOILED: dict[str, tuple[Callable[[Path], object], set[tuple[int, str]]]] = {
    "a bit of a chapter": (lambda r: flip(places(r, "chapters/*.wav.sealed")[1]), CHANGED),
    "chapters swapped": (lambda r: swap(*places(r, "chapters/c?.wav.sealed")[1:3]), CHANGED),
    "a chapter removed": (lambda r: places(r, "chapters/*.partial.*")[0].unlink(), {MISSING}),
    "a foreign chapter": (
        lambda r: add(places(r, "chapters")[0] / "c9.wav.sealed"),
        {UNCLAIMED},
    ),
    "a bit of subtitles": (lambda r: flip(places(r, "chapters/*.srt.sealed")[1]), CHANGED),
    "subtitles swapped": (lambda r: swap(*places(r, "i?.srt.sealed")[:2]), CHANGED),
    "subtitles removed": (lambda r: places(r, "i1.srt.sealed")[0].unlink(), {MISSING}),
    "foreign subtitles": (
        lambda r: add(places(r, "chapters")[0] / "c0.vtt.sealed"),
        {UNCLAIMED},
    ),
    "a foreign part": (lambda r: add(places(r, "parts")[0] / "00002.json"), {UNCLAIMED}),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_fault_in_joined_files_is_found(copy: Path, name: str) -> None:
    spoil, expected = SPOILED[name]
    spoil(copy)
    assert told(run(copy)) == expected


@pytest.mark.parametrize("how", ["a bit", "swapped", "removed"])
def test_a_changed_part_is_found_and_the_others_are_checked(copy: Path, how: str) -> None:
    first, second = places(copy, "parts/*.json")
    if how == "a bit":
        flip(second)
    elif how == "swapped":
        swap(first, second)
    else:
        second.unlink()
    report = run(copy)
    code = "OBJECT_MISSING" if how == "removed" else "OBJECT_CHANGED"
    bad = {finding.key for finding in report.findings if finding.check == 1}
    assert (1, code) in told(report)
    assert len(bad) == (2 if how == "swapped" else 1)
    looked_at = 7 + (0 if how == "swapped" else 2)
    assert report.totals.outputs == looked_at


def resigned(root: Path, name: str, change: Callable[[Result], Result]) -> None:
    """By somebody who holds the signing key; not logged."""
    path = document(root, name)
    path.write_bytes(
        signed.sign(change(parse_result(path.read_bytes())), opened(root).keys.signing)
    )


def test_an_envelope_of_another_chapter_is_found(copy: Path) -> None:
    def change(found: Result) -> Result:
        first, second = found.chapters
        other = msgspec.structs.replace(first, envelope=second.envelope)
        return msgspec.structs.replace(found, chapters=[other, second])

    resigned(copy, "again", change)
    assert (3, "SEAL_INVALID") in told(run(copy))


def test_a_chapter_without_watermarks_is_found(copy: Path) -> None:
    """By somebody who holds every key."""
    made = opened(copy)

    def change(found: Result) -> Result:
        first, second = found.chapters
        assert first.output
        assert first.label
        rate = first.output.sample_rate
        noise = np.random.default_rng(1).standard_normal(round(first.output.duration_s * rate))
        sound = encoding.encode(Audio(noise.astype(np.float32) * 0.1, rate), "wav")
        plain = label.add_label(
            sound.data, label.make_label(made.producer, first.label.produce_id)[0]
        )
        owner = Context(job=found.job_id, item="chapters/c0", mt=sound.media_type)
        sealed = io.BytesIO()
        envelope = sealing.seal_stream(io.BytesIO(plain), sealed, owner, made.keys.wrapping)
        (copy / "results" / first.output.key).write_bytes(sealed.getvalue())
        output = msgspec.structs.replace(
            first.output,
            bytes=envelope.ct_len,
            sealed_sha256=envelope.ct_sha256,
            plain_sha256=envelope.pt_sha256,
        )
        forged = msgspec.structs.replace(first, output=output, envelope=envelope)
        return msgspec.structs.replace(found, chapters=[forged, second])

    resigned(copy, "again", change)
    found = told(run(copy))
    assert (7, "WATERMARK_VERIFY_FAILED") in found
    assert not {check for check, _ in found} & {2, 3, 4, 5}


def test_the_table_and_the_page_include_joined_files(joined: Path) -> None:
    from core.audit import page
    from tests.audit.conftest import sources

    held = sources(joined)
    bucket = audit.audit_bucket(held)
    lines = "".join(audit.format_items_csv(bucket)).splitlines()
    assert sum(",chapters/c0,," in line for line in lines) == 2
    assert page.render(audit.build_report(bucket, held, ""))
