"""Items joined into chapters and books, and the subtitles of both."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import signal
from tinytag import TinyTag

from core import sweep
from core.audio import decoding
from core.crypto import sealing
from core.job import attempt, commit
from core.job.runtime import Runtime
from core.joined import assemble
from core.label import aigc
from core.manifest import resolve as jobs
from core.result.document import Result, read_items, sealed_keys
from core.result.item_result import Chapter, ItemResult, SubtitleFile
from core.storage.object_keys import result_key
from core.trace import trace
from tests.support.present import present
from tests.support.runtime import find_mark, local_runtime, put_job, run_job, voice_of
from tests.support.shards import run_all_shards

pytestmark = pytest.mark.slow

TEXTS = [
    ("a", "ch1", "The first sentence of it all. And here is the second one of them."),
    ("b", "ch1", "Another item of the same first chapter, somewhat longer than that."),
    ("c", "ch2", "The second chapter begins with these very words, as you can hear."),
]
ITEMS: list[dict[str, Any]] = [
    {"id": i, "chapter": c, "text": t, "format": "flac"} for i, c, t in TEXTS
]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def run(
    runtime: Runtime,
    how: str = "chapters",
    items: list[dict[str, Any]] = ITEMS,
    *,
    form: str = "wav",
    **fields: Any,
) -> Result:
    output = {"concatenate": how, "format": form, **fields.pop("output", {})}
    return run_job(put_job(runtime, items=items, output=output, **fields), runtime)


def opened(runtime: Runtime, one: ItemResult | Chapter) -> bytes:
    body = runtime.results.get(present(one.output).key, limit=10**8).data
    return sealing.open_sealed(body, present(one.envelope), runtime.keys.wrapping)


def text(runtime: Runtime, subtitle: SubtitleFile) -> str:
    body = runtime.results.get(subtitle.key, limit=10**7).data
    return sealing.open_sealed(body, subtitle.envelope, runtime.keys.wrapping).decode()


def test_each_chapter_is_one_labelled_file_with_the_cue_once(runtime: Runtime) -> None:
    done = run(runtime, label={"cue": "morse-both"})
    assert done.status == "succeeded"
    first, second = done.chapters
    assert present(first.output).key == f"out/{done.job_id}/chapters/ch1.wav.sealed"
    assert [placed.id for placed in first.items] == ["a", "b"]
    assert [placed.id for placed in second.items] == ["c"]
    plain = opened(runtime, first)
    (read,) = aigc.read_labels(plain)
    assert read.produce_id == f"{done.job_id}/chapters/ch1"
    audio = decoding.decode_trusted(plain)
    assert audio.seconds == pytest.approx(present(first.output).duration_s, abs=0.002)
    cue = aigc.make_cue(audio.rate).samples
    power = signal.correlate(audio.samples, cue / np.linalg.norm(cue), "valid", "fft")
    alike = np.abs(power) / np.linalg.norm(cue) > 0.7
    rises = np.flatnonzero(np.diff(np.concatenate([[0], alike.astype(int)])) == 1)
    places = {round(at / audio.rate) for at in rises}
    assert places == {0, round(audio.seconds - 1.32)}
    # The pause between the items is digital silence.
    gap = audio.samples[
        round(first.items[0].end * audio.rate) : round(first.items[1].start * audio.rate)
    ]
    assert len(gap) == round(0.25 * audio.rate)
    assert not gap.any()


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus"])
def test_a_book_has_chapter_marks_and_is_traced_to_its_items(
    runtime: Runtime, tmp_path: Path, form: str
) -> None:
    long = [{**item, "text": item["text"] * 2} for item in ITEMS]
    done = run(runtime, "book", long, form=form, output={"titles": {"ch1": "第一章"}})
    (book,) = done.chapters
    assert (done.status, [c.id for c in book.chapters]) == ("succeeded", ["ch1", "ch2"])
    assert present(book.marks).read == 3
    path = tmp_path / f"book.{form}"
    path.write_bytes(opened(runtime, book))
    marks = read_marks(path)
    assert [title for title, _ in marks] == ["第一章", "ch2"]
    starts = [c.start for c in book.chapters]
    assert [start for _, start in marks] == pytest.approx(starts, abs=0.002)
    if form in ("wav", "flac"):
        return  # lossless: `marks` was read from the same samples
    with path.open("rb") as file:
        report = trace.trace_recording(
            file, path.name, runtime.keys.watermark, lambda p: find_mark(runtime, p), ""
        )
    assert [(f.job, f.item) for f in report.findings] == [(done.job_id, i) for i, _, _ in TEXTS]


def read_marks(path: Path) -> list[tuple[str, float]]:
    """Read chapter marks without the product: comments with tinytag, others from the bytes."""
    data = path.read_bytes()
    if path.suffix in (".flac", ".opus"):
        other = {k.upper(): v[0] for k, v in TinyTag.get(path).other.items()}
        marks = []
        for i in (1, 2):
            h, m, s = other[f"CHAPTER{i:03}"].split(":")
            marks.append((other[f"CHAPTER{i:03}NAME"], int(h) * 3600 + int(m) * 60 + float(s)))
        return marks
    if path.suffix == ".mp3":
        marks = []
        for part in data.split(b"CHAP")[1:]:
            name, _, rest = part[6:].partition(b"\0")
            assert name in (b"ch1", b"ch2")
            size = rest[16 + 4 + 3]
            marks.append((rest[27 : 26 + size].decode(), int.from_bytes(rest[:4], "big") / 1000))
        return marks
    at = data.index(b"cue ") + 12
    starts = [int.from_bytes(data[at + 24 * i + 4 :][:4], "little") / 24000 for i in (0, 1)]
    labels = [part[8:].split(b"\0")[0].decode() for part in data.split(b"labl")[1:]]
    return list(zip(labels, starts, strict=True))


def test_pauses_are_as_requested(runtime: Runtime) -> None:
    items = [ITEMS[0] | {"pause_ms": 700}, ITEMS[1] | {"after_ms": 0}, ITEMS[2] | {"after_ms": 50}]
    (book,) = run(runtime, "book", items).chapters
    a, b, c = book.items
    assert b.start - a.end == pytest.approx(0.7, abs=0.001)
    assert c.start - b.end == pytest.approx(0.0, abs=0.001)
    assert present(book.output).duration_s - c.end == pytest.approx(0.05, abs=0.002)


def test_a_chapter_with_a_missing_item_is_named_partial(runtime: Runtime) -> None:
    items = [ITEMS[0], ITEMS[1] | {"text": "!silence"}, ITEMS[2]]
    done = run(runtime, items=items)
    first, second = done.chapters
    assert (done.status, first.status, second.status) == ("partial", "partial", "succeeded")
    assert present(first.output).key.endswith("/chapters/ch1.partial.wav.sealed")
    assert first.missing == [1]
    done = run_job(
        put_job(runtime, name="two", items=[i | {"text": "!silence"} for i in ITEMS],
             output={"concatenate": "chapters"}), runtime)  # fmt: skip
    assert [present(c.error).code for c in done.chapters] == ["CHAPTER_EMPTY", "CHAPTER_EMPTY"]


def test_a_chapter_too_long_for_wav_is_refused_before_joining(
    runtime: Runtime,
) -> None:
    done = run(runtime, "book", form="flac")
    long = msgspec.structs.replace(present(done.items[0].output), duration_s=25 * 3600.0)
    items = [msgspec.structs.replace(done.items[0], output=long), *done.items[1:]]
    job = replace(
        jobs.parse_job(runtime.inbox.get(done.manifest.key, limit=10**6).data), format="wav"
    )
    with attempt.begin(done.job_id, done.job_id, runtime) as attempted:
        (chapter,) = assemble.join(job, items, {}, attempted)
    error = present(chapter.error)
    assert (chapter.status, error.code) == ("failed", "CHAPTER_TOO_LONG")
    assert error.pointer == "/output"


def test_an_unreadable_item_is_missing_in_every_chapter_it_may_belong_to(runtime: Runtime) -> None:
    items = [ITEMS[0], {"id": "x", "txet": "?"}, ITEMS[2]]
    done = run(runtime, items=items)
    assert [(c.id, c.status, c.missing) for c in done.chapters] == [
        ("ch1", "partial", [1]),
        ("ch2", "partial", [1]),
    ]


@pytest.mark.parametrize(
    ("chapters", "output", "code", "pointer"),
    [
        (["a", "b", "a"], {}, "CHAPTER_INVALID", "/items/2/chapter"),
        (["a", "A", "b"], {}, "CHAPTER_INVALID", "/items/1/chapter"),
        (["a", None, "b"], {}, "FIELD_MISSING", "/items/1/chapter"),
        (["a.partial", "b", "b"], {}, "CHAPTER_INVALID", "/items/0/chapter"),
        (["a", "b", "b"], {"titles": {"c": "C"}}, "CHAPTER_INVALID", "/output/titles/c"),
    ],
)
def test_ambiguous_chapters_are_refused(
    runtime: Runtime, chapters: list[str | None], output: dict[str, Any], code: str, pointer: str
) -> None:
    items = [{"id": f"i{n}", "text": "Words.", **({"chapter": c} if c else {})}
             for n, c in enumerate(chapters)]  # fmt: skip
    done = run(runtime, items=items, output=output)
    error = present(done.error)
    assert (done.status, error.code, error.pointer) == ("rejected", code, pointer)


def test_a_job_that_would_be_split_is_not_joined(runtime: Runtime) -> None:
    small = replace(runtime, shard_items=2)
    for mode in ("run", "validate"):
        done = run(small, name=mode, mode=mode)
        error = present(done.error)
        assert (done.status, error.code) == ("rejected", "FIELD_UNSUPPORTED")
        assert error.pointer == "/output/concatenate"
    assert not voice_of(runtime).spoken


def test_a_dry_run_joins_nothing(runtime: Runtime) -> None:
    done = run(runtime, mode="validate")
    assert (done.status, done.chapters) == ("validated", [])
    assert [info.key for info in runtime.results.list("out/") if info.key.endswith(".sealed")] == []


def test_a_split_job_has_subtitles_for_each_item_and_no_joined_chapters(runtime: Runtime) -> None:
    """A shard may start with any item, and its items name their subtitles."""
    small = replace(runtime, shard_items=2)
    done = run_all_shards(small, put_job(runtime, items=ITEMS, defaults={"subtitle": ["srt"]}))
    items = list(read_items(done, commit.part_reader(runtime)))
    assert (done.status, [item.index for item in items]) == ("succeeded", [0, 1, 2])
    assert [n.code for n in done.notices] == ["CHAPTERS_NOT_JOINED"]
    assert [one.key.rpartition("/")[2] for item in items for one in item.subtitles] == [
        f"{id_}.srt.sealed" for id_, _, _ in TEXTS
    ]
    assert (
        sweep.find_orphans(done.job_id, list(runtime.results.list("out/")), done, runtime) is None
    )


def test_a_retry_joins_kept_and_new_items(runtime: Runtime) -> None:
    fields: dict[str, Any] = {"defaults": {"subtitle": ["json"]}}
    first = run(runtime, items=[ITEMS[0], ITEMS[1] | {"text": "!silence"}], **fields)
    retried = run(runtime, name="again", items=ITEMS[:2], retry_of=first.job_id, **fields)
    assert (retried.status, retried.totals.kept) == ("succeeded", 1)
    (chapter,) = retried.chapters
    assert (chapter.status, [placed.id for placed in chapter.items]) == ("succeeded", ["a", "b"])
    (subtitle,) = chapter.subtitles
    assert len(json.loads(text(runtime, subtitle))["sentences"]) == 3
    # An item without the times of its sentences cannot be kept for subtitles.
    plain = run(runtime, name="plain", items=ITEMS[:1])
    late = run(runtime, name="late", items=ITEMS[:1], retry_of=plain.job_id, **fields)
    assert (late.status, late.totals.kept) == ("succeeded", 0)


def test_a_worker_that_died_after_a_chapter_costs_nothing(runtime: Runtime) -> None:
    key = put_job(runtime, items=ITEMS, output={"concatenate": "chapters"},
               defaults={"subtitle": ["srt", "vtt", "json"]})  # fmt: skip
    done = run_job(key, runtime)
    before = {info.key: info.etag for info in runtime.results.list("out/")}
    named = {*sealed_keys(done.items), *sealed_keys(done.chapters)}
    assert named == set(before) - {result_key(done.job_id)}
    runtime.results.delete(result_key(done.job_id))
    runtime.results.delete(done.chapters[1].subtitles[0].key)
    retried = run_job(key, runtime)
    after = {info.key: info.etag for info in runtime.results.list("out/")}
    kept = set(before) - {result_key(done.job_id), done.chapters[1].subtitles[0].key}
    assert {k: after[k] for k in kept} == {k: before[k] for k in kept}
    assert retried.chapters[0] == done.chapters[0]
    assert len(voice_of(runtime).spoken) == 3
    assert (
        sweep.find_orphans(done.job_id, list(runtime.results.list("out/")), retried, runtime)
        is None
    )


def test_subtitles_of_a_joined_file_have_its_times_and_are_sealed(runtime: Runtime) -> None:
    done = run(runtime, defaults={"subtitle": ["vtt", "json"]}, label={"cue": "morse-start"})
    first = done.chapters[0]
    stored = {s.format: s for s in first.subtitles}
    body = runtime.results.get(stored["vtt"].key, limit=10**6).data
    assert b"sentence" not in body
    assert b"first sentence" not in runtime.results.get(result_key(done.job_id), limit=10**7).data
    sentences = json.loads(text(runtime, stored["json"]))["sentences"]
    assert [s["text"] for s in sentences] == [
        "The first sentence of it all.",
        "And here is the second one of them.",
        TEXTS[1][2],
    ]
    audio = decoding.decode_trusted(opened(runtime, first))
    level = np.abs(audio.samples)
    for before, after in itertools.pairwise(sentences):
        # Between two sentences there is a pause, and the sound starts with the next one.
        quiet = level[round(before["end"] * audio.rate) + 50 : round(after["start"] * audio.rate)]
        assert len(quiet) > 0.2 * audio.rate
        # The sound of a chunk is what exceeds 2 % of its peak. The mark adds to that, depending on
        # the random key: 0.016 to 0.023 in all, of 0.94, over eight keys.
        assert quiet.max() < 0.04 * level.max()
        begin = round(after["start"] * audio.rate)
        assert level[begin : begin + audio.rate // 4].max() > 0.1


def test_a_single_item_has_subtitles_in_files_of_their_own(runtime: Runtime) -> None:
    items = [{"id": "x", "text": TEXTS[0][2], "subtitle": ["srt"], "chapter": "c"}]
    done = run_job(put_job(runtime, items=items), runtime)
    (one,) = done.items[0].subtitles
    assert one.key == f"out/{done.job_id}/x.srt.sealed"
    lines = text(runtime, one).split("\r\n")
    assert (lines[0], lines[2], lines[4]) == ("1", "The first sentence of it all.", "2")
    assert [n.code for n in done.notices] == ["CHAPTERS_NOT_JOINED"]


def test_joining_keeps_one_item_in_memory(runtime: Runtime) -> None:
    """Two and a half times as many items take hardly more memory. With fewer than six the search
    for the mark takes less than its full size."""
    peaks = []
    for count in (6, 15):
        items = [ITEMS[1] | {"id": f"{count}-{n}"} for n in range(count)]
        key = put_job(runtime, name=str(count), items=items, output={"concatenate": "chapters"})
        done = run_job(key, runtime)
        runtime.results.delete(present(done.chapters[0].output).key)
        job = jobs.parse_job(runtime.inbox.get(key, limit=10**6).data)
        with attempt.begin(done.job_id, done.job_id, runtime) as attempted:
            tracemalloc.start()
            (chapter,) = assemble.join(job, done.items, {"alice": []}, attempted)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert chapter.status == "succeeded"
    assert peaks[1] < 1.3 * peaks[0]
