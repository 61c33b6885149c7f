"""An audit of joined files, subtitles, and the parts of a job that was divided into shards."""

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
from tests.audit.conftest import open_runtime
from tests.audit.test_findings import finding_codes, run_audit

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("memoised_audio")]

CHANGED = {(2, "OBJECT_CHANGED"), (4, "SEAL_INVALID")}
MISSING, UNCLAIMED = (2, "OBJECT_MISSING"), (10, "OBJECT_UNCLAIMED")


@pytest.fixture
def copy(joined: Path, tmp_path: Path) -> Path:
    return shutil.copytree(joined, tmp_path / "copy")


def find_objects(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(f"results/out/*/{pattern}"))


def result_path(root: Path, name: str) -> Path:
    """Return the path of a job's result."""
    found = [
        p for p in find_objects(root, "result.json") if f"jobs/{name}.".encode() in p.read_bytes()
    ]
    return found[0]


def test_a_clean_bucket_has_no_findings(joined: Path) -> None:
    report = run_audit(joined)
    assert report.findings == []
    objects = len(find_objects(joined, "**/*.sealed"))
    kept = 3  # the retry keeps three objects, which are checked for both jobs
    assert report.checks[1].passed == report.checks[3].passed == objects + kept
    chapters = len(find_objects(joined, "chapters/*.wav.sealed"))
    assert chapters == 4
    assert report.checks[6].passed == chapters + report.totals.outputs


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap_objects(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def add_object(path: Path) -> None:
    path.write_bytes(b"hello")


DAMAGES: dict[str, tuple[Callable[[Path], object], set[tuple[int, str]]]] = {
    "a bit of a chapter": (
        lambda r: flip_a_bit(find_objects(r, "chapters/*.wav.sealed")[1]),
        CHANGED,
    ),
    "chapters swapped": (
        lambda r: swap_objects(*find_objects(r, "chapters/c?.wav.sealed")[1:3]),
        CHANGED,
    ),
    "a chapter removed": (lambda r: find_objects(r, "chapters/*.partial.*")[0].unlink(), {MISSING}),
    "a foreign chapter": (
        lambda r: add_object(find_objects(r, "chapters")[0] / "c9.wav.sealed"),
        {UNCLAIMED},
    ),
    "a bit of subtitles": (
        lambda r: flip_a_bit(find_objects(r, "chapters/*.srt.sealed")[1]),
        CHANGED,
    ),
    "subtitles swapped": (lambda r: swap_objects(*find_objects(r, "i?.srt.sealed")[:2]), CHANGED),
    "subtitles removed": (lambda r: find_objects(r, "i1.srt.sealed")[0].unlink(), {MISSING}),
    "foreign subtitles": (
        lambda r: add_object(find_objects(r, "chapters")[0] / "c0.vtt.sealed"),
        {UNCLAIMED},
    ),
    "a foreign part": (
        lambda r: add_object(find_objects(r, "parts")[0] / "00002.json"),
        {UNCLAIMED},
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_fault_in_joined_files_is_found(copy: Path, name: str) -> None:
    damage, expected = DAMAGES[name]
    damage(copy)
    assert finding_codes(run_audit(copy)) == expected


@pytest.mark.parametrize("how", ["a bit", "swapped", "removed"])
def test_a_changed_part_is_found_and_the_others_are_checked(copy: Path, how: str) -> None:
    first, second = find_objects(copy, "parts/*.json")
    if how == "a bit":
        flip_a_bit(second)
    elif how == "swapped":
        swap_objects(first, second)
    else:
        second.unlink()
    report = run_audit(copy)
    code = "OBJECT_MISSING" if how == "removed" else "OBJECT_CHANGED"
    bad = {finding.key for finding in report.findings if finding.check == 1}
    assert (1, code) in finding_codes(report)
    assert len(bad) == (2 if how == "swapped" else 1)
    checked = 7 + (0 if how == "swapped" else 2)
    assert report.totals.outputs == checked


def sign_changed(root: Path, name: str, change: Callable[[Result], Result]) -> None:
    """Change a result and sign it again without logging it."""
    path = result_path(root, name)
    path.write_bytes(
        signed.sign(change(parse_result(path.read_bytes())), open_runtime(root).keys.signing)
    )


def test_an_envelope_of_another_chapter_is_found(copy: Path) -> None:
    def change(found: Result) -> Result:
        first, second = found.chapters
        other = msgspec.structs.replace(first, envelope=second.envelope)
        return msgspec.structs.replace(found, chapters=[other, second])

    sign_changed(copy, "again", change)
    assert (3, "SEAL_INVALID") in finding_codes(run_audit(copy))


def test_a_chapter_that_states_no_items_and_one_without_a_file_are_found(copy: Path) -> None:
    def change(found: Result) -> Result:
        first, second = found.chapters
        gone = msgspec.structs.replace(first, output=None, envelope=None, subtitles=[])
        empty = msgspec.structs.replace(second, items=[])
        return msgspec.structs.replace(found, chapters=[gone, empty])

    sign_changed(copy, "again", change)
    found = finding_codes(run_audit(copy))
    assert {(7, "WATERMARK_VERIFY_FAILED"), UNCLAIMED} <= found


def test_a_chapter_without_watermarks_is_found(copy: Path) -> None:
    """Somebody with every key replaces a chapter."""
    runtime = open_runtime(copy)

    def change(found: Result) -> Result:
        first, second = found.chapters
        assert first.output
        assert first.label
        rate = first.output.sample_rate
        noise = np.random.default_rng(1).standard_normal(round(first.output.duration_s * rate))
        sound = encoding.encode(Audio(noise.astype(np.float32) * 0.1, rate), "wav")
        plain = label.add_label(
            sound.data, label.make_label(runtime.producer, first.label.produce_id)[0]
        )
        owner = Context(job=found.job_id, item="chapters/c0", mt=sound.media_type)
        sealed = io.BytesIO()
        envelope = sealing.seal_stream(io.BytesIO(plain), sealed, owner, runtime.keys.wrapping)
        (copy / "results" / first.output.key).write_bytes(sealed.getvalue())
        output = msgspec.structs.replace(
            first.output,
            bytes=envelope.ct_len,
            sealed_sha256=envelope.ct_sha256,
            plain_sha256=envelope.pt_sha256,
        )
        forged = msgspec.structs.replace(first, output=output, envelope=envelope)
        return msgspec.structs.replace(found, chapters=[forged, second])

    sign_changed(copy, "again", change)
    found = finding_codes(run_audit(copy))
    assert (7, "WATERMARK_VERIFY_FAILED") in found
    assert not {check for check, _ in found} & {2, 3, 4, 5}


def test_the_table_and_the_page_include_joined_files(joined: Path) -> None:
    from core.audit import page
    from tests.audit.conftest import open_sources

    sources = open_sources(joined)
    bucket = audit.audit_bucket(sources)
    lines = "".join(audit.format_items_csv(bucket)).splitlines()
    assert sum(",chapters/c0,," in line for line in lines) == 2
    assert page.render(audit.build_report(bucket, sources, ""))
