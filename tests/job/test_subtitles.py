from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from core.job.subtitles import (
    MAX_LINES,
    MAX_SENTENCES,
    MAX_WIDTH,
    MIN_SECONDS,
    TimedText,
    format_srt,
    format_vtt,
    make_cues,
    sentence_times,
    timed_sentences,
)
from core.voice import SpeechChunk

RATE = 1000


def chunk(text: str, *, silent_s: float = 0.0, sound_s: float = 1.0) -> SpeechChunk:
    """Sound with silence before and after it."""
    silence = np.zeros(int(silent_s * RATE), np.float32)
    sound = np.full(int(sound_s * RATE), 0.5, np.float32)
    return SpeechChunk(np.concatenate([silence, sound, silence]), RATE, text)


def test_a_sentence_lasts_from_its_first_sound_to_its_last() -> None:
    text = "One. Two."
    chunks = [chunk("One.", silent_s=0.2), chunk("Two.")]
    times = sentence_times(text, chunks, pause=0.5)
    assert [(s.start_ms, s.end_ms) for s in times] == [(200, 1200), (1900, 2900)]
    assert [t.text for t in timed_sentences(text, times)] == ["One.", "Two."]
    assert [t.start for t in timed_sentences(text, times, offset=10)] == [10.2, 11.9]


def test_a_chunk_without_text_continues_the_sentence_before_it() -> None:
    (only,) = sentence_times("A long one.", [chunk("A long one."), chunk("")], pause=0)
    assert (only.start_ms, only.end_ms, only.chars) == (0, 2000, len("A long one."))


def test_where_nothing_was_spoken_there_is_no_sentence() -> None:
    assert sentence_times("Words.", [], pause=0) == []


def test_a_silent_chunk_lasts_as_long_as_it_is() -> None:
    (only,) = sentence_times("Hush.", [SpeechChunk(np.zeros(500, np.float32), RATE, "Hush.")], 0)
    assert (only.start_ms, only.end_ms) == (0, 500)


def test_a_sentence_that_the_engine_spells_otherwise_is_found() -> None:
    """Only letters and digits are compared; those that the text lacks are passed over."""
    times = sentence_times("Yes; no, maybe.", [chunk("Yes..."), chunk("Xno maybe")], pause=0)
    assert [t.text for t in timed_sentences("Yes; no, maybe.", times)] == ["Yes;", "no, maybe."]


def test_a_sentence_of_which_nothing_is_left_has_no_subtitle() -> None:
    times = sentence_times("Words.", [chunk("Words."), chunk("...")], pause=0)
    assert [t.text for t in timed_sentences("Words.", times)] == ["Words."]


def test_more_sentences_than_fit_into_the_record_are_timed_in_pairs() -> None:
    count = MAX_SENTENCES + 1
    text = " ".join(f"s{n}." for n in range(count))
    times = sentence_times(text, [chunk(f"s{n}.") for n in range(count)], pause=0)
    assert len(times) == (count + 1) // 2
    assert times[-1].end_ms == count * 1000
    assert " ".join(t.text for t in timed_sentences(text, times)) == text


@pytest.mark.parametrize(
    "text",
    [
        "A sentence that is much longer than two lines of a cue can be, so that it is split. " * 3,
        "这是一个很长的句子，它比两行字幕还要长，所以必须分开，而且标点符号不能放在行首。" * 2,
        "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenverordnung" * 2,
        "Ein Wort和一些中文 mixed, wie es vorkommt, 然后继续下去直到行尾为止 and on. " * 2,
    ],
    ids=["words", "full width", "a word longer than a line", "mixed"],
)
def test_cues_have_two_lines_of_42_columns_and_lose_no_letter(text: str) -> None:
    cues = make_cues([TimedText(0.0, 12.0, text.strip())])
    lines = [line for cue in cues for line in cue.text.split("\n")]
    assert all(cue.text.count("\n") < MAX_LINES for cue in cues)
    assert all(sum(1 + (ord(char) > 0x2E80) for char in line) <= MAX_WIDTH for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert not any(line[0] in "，。、" for line in lines)
    assert all(before.end == pytest.approx(after.start) for before, after in pairwise(cues))
    assert cues[-1].end >= 12.0


def test_a_short_cue_is_shown_for_its_least_time_unless_the_next_one_begins() -> None:
    cues = make_cues([TimedText(0, 0.1, "A."), TimedText(0.4, 0.5, "B."), TimedText(3, 3.1, "C.")])
    assert [cue.end for cue in cues] == [0.4, 0.4 + MIN_SECONDS, 3 + MIN_SECONDS]


def test_the_formats_are_those_of_subrip_and_webvtt() -> None:
    sentences = [TimedText(0.5, 3661.25, "Ham & <eggs>"), TimedText(3700, 3702, "Done.")]
    assert format_srt(sentences) == (
        "1\r\n00:00:00,500 --> 01:01:01,250\r\nHam & <eggs>\r\n\r\n"
        "2\r\n01:01:40,000 --> 01:01:42,000\r\nDone.\r\n"
    )
    assert format_vtt(sentences) == (
        "WEBVTT\n\n00:00:00.500 --> 01:01:01.250\nHam &amp; &lt;eggs&gt;\n\n"
        "01:01:40.000 --> 01:01:42.000\nDone.\n"
    )
