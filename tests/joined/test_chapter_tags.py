from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from core.joined.chapter_tags import ChapterMark, Splice, splice

RATE = 8000
MARKS = [ChapterMark(0.0, 0.5, "one", "First"), ChapterMark(0.5, 1.0, "two", "第二章")]


def encode(container: str, subtype: str) -> bytes:
    file = io.BytesIO()
    sound = np.sin(np.arange(RATE) / 9).astype(np.float32) / 2
    soundfile.write(file, sound, RATE, format=container, subtype=subtype)
    return file.getvalue()


FILES = {
    "wav": lambda: encode("WAV", "PCM_16"),
    "flac": lambda: encode("FLAC", "PCM_16"),
    "mp3": lambda: encode("MP3", "MPEG_LAYER_III"),
}


def join(data: bytes, made: Splice) -> bytes:
    return made.head + data[made.start :] + made.tail


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_field_and_marks_stays_as_it_is(name: str) -> None:
    data = FILES[name]()
    assert join(data, splice(data, len(data), RATE, None, [])) == data


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("field", [None, ("AIGC", '{"Label":"1"}')], ids=["marks", "both"])
def test_marks_are_added_and_the_sound_stays(name: str, field: tuple[str, str] | None) -> None:
    data = FILES[name]()
    joined = join(data, splice(data, len(data), RATE, field, MARKS))
    for mark in MARKS:
        assert mark.title.encode() in joined
    assert (field is not None) == (b'{"Label":"1"}' in joined)
    before, after = (soundfile.read(io.BytesIO(file))[0] for file in (data, joined))
    assert np.array_equal(before, after)
