"""core.label.aigc and core.label.tags: known answers, every container, the audible cue."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from tinytag import TinyTag

from core.audio.waveform import Audio
from core.errors import Failed, JobError, Refused
from core.label import aigc as label
from core.label import tags
from core.label.aigc import Aigc
from tests.support import vectors

PRODUCER = "001191110102MAD55U9H0F10002"
LABEL, _ = label.make_label(PRODUCER, "0123456789abcdef0123456789abcdef.hello")
CONTAINERS = {
    "wav": ("WAV", "PCM_16"),
    "wav-24": ("WAV", "PCM_24"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", None),
    "opus": ("OGG", "OPUS"),
}


class Vector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str
    file: str
    """Hex."""
    expect: str
    """Code of the error; empty if the file can be read."""
    labels: list[dict[str, str]]


@pytest.mark.parametrize("vector", vectors.read("labels.json", Vector), ids=lambda v: v.name)
def test_vector(vector: Vector) -> None:
    if vector.expect:
        with pytest.raises(JobError) as caught:
            label.read_labels(bytes.fromhex(vector.file))
        assert caught.value.code == vector.expect
    else:
        assert msgspec.to_builtins(label.read_labels(bytes.fromhex(vector.file))) == vector.labels


def encoded(kind: str, samples: int = 24_001) -> bytes:
    form, subtype = CONTAINERS[kind]
    sound = 0.3 * np.sin(np.arange(samples, dtype=np.float32) / 20)
    sink = io.BytesIO()
    soundfile.write(sink, sound, 24_000, format=form, subtype=subtype)
    return sink.getvalue()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_written_read_back_and_the_sound_is_untouched(kind: str) -> None:
    plain = encoded(kind)
    labelled = label.add_label(plain, LABEL)
    assert label.read_labels(plain) == []
    assert label.read_labels(labelled) == [LABEL]
    before, after = (soundfile.read(io.BytesIO(data))[0] for data in (plain, labelled))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("kind", ["flac", "mp3", "opus"])
def test_another_library_reads_the_label(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(label.add_label(encoded(kind), LABEL))
    found = TinyTag.get(path).other["aigc"]
    assert [json.loads(text) for text in found] == [msgspec.to_builtins(LABEL)]


def test_a_labelled_wav_opens_in_the_standard_library() -> None:
    with wave.open(io.BytesIO(label.add_label(encoded("wav"), LABEL))) as file:
        assert (file.getnframes(), file.getframerate()) == (24_001, 24_000)


def test_a_chunk_of_odd_length_is_padded() -> None:
    labels = (label.make_label("P" * i, "x")[0] for i in range(2))
    odd = next(one for one in labels if len(_json(one)) % 2)
    labelled = label.add_label(encoded("wav"), odd)
    assert len(labelled) % 2 == 0
    assert int.from_bytes(labelled[4:8], "little") == len(labelled) - 8


def _json(created: Aigc) -> bytes:
    return msgspec.json.encode(created)


def test_the_document_has_the_fields_of_the_standard() -> None:
    assert json.loads(_json(LABEL)) == {
        "Label": "1",
        "ContentProducer": PRODUCER,
        "ProduceID": LABEL.produce_id,
        "ReservedCode1": "",
        "ContentPropagator": PRODUCER,
        "PropagateID": LABEL.produce_id,
        "ReservedCode2": "",
    }


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_second_label_is_never_written(kind: str) -> None:
    labelled = label.add_label(encoded(kind), LABEL)
    with pytest.raises(Failed, match=r"LABEL_VERIFY_FAILED.*already"):
        label.add_label(labelled, LABEL)


@pytest.mark.parametrize(
    "container",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="not audio"),
        pytest.param(b"fLaC", id="FLAC header only"),
        pytest.param(b"OggS", id="Ogg without a page"),
        pytest.param(encoded("opus")[:40], id="Ogg cut in its first page"),
        pytest.param(encoded("opus")[:60], id="Ogg cut in its second page"),
        pytest.param(b"ID3\4\0\0\0\0\0\0" + encoded("mp3"), id="MP3 with a tag of its own"),
    ],
)
def test_files_that_cannot_take_a_label_are_not_released(container: bytes) -> None:
    with pytest.raises(Failed, match="LABEL_VERIFY_FAILED"):
        label.add_label(container, LABEL)


@pytest.mark.parametrize(
    ("container", "created", "reason"),
    [
        pytest.param(b"<html>", LABEL, "metadata can be added to WAV, FLAC, MP3 and Opus files "
                     "only", id="not audio"),
        pytest.param(b"fLaC", LABEL, "the FLAC file has no header", id="FLAC"),
        pytest.param(encoded("mp3"), Aigc(label="1", content_producer="公司"), "it is not ASCII",
                     id="not ASCII"),
    ],
)  # fmt: skip
def test_the_message_says_why_a_label_was_not_written(
    container: bytes, created: Aigc, reason: str
) -> None:
    with pytest.raises(Failed) as caught:
        label.add_label(container, created)
    assert caught.value.message == f"The label was not written: {reason}."


def test_a_label_that_does_not_read_back_is_not_released() -> None:
    """The label after a data chunk of maximal declared size is not found."""
    endless = bytearray(encoded("wav"))
    endless[40:44] = b"\xff\xff\xff\xff"
    with pytest.raises(Failed, match="LABEL_VERIFY_FAILED"):
        label.add_label(bytes(endless), LABEL)


def test_ogg_vorbis_is_not_written() -> None:
    sink = io.BytesIO()
    soundfile.write(sink, np.zeros(24_000, np.float32), 24_000, format="OGG", subtype="VORBIS")
    with pytest.raises(Failed, match="not an Opus stream of this encoder"):
        label.add_label(sink.getvalue(), LABEL)


def test_existing_comments_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", 24_000, 1, format="FLAC") as file:
        file.title = "A title"
        file.write(np.zeros(100, np.float32))
    path.write_bytes(label.add_label(path.read_bytes(), LABEL))
    assert TinyTag.get(path).title == "A title"
    assert label.read_labels(path.read_bytes()) == [LABEL]


def test_a_flac_without_comments_gets_a_block_of_them() -> None:
    bare = b"fLaC" + bytes([0x80, 0, 0, 34]) + bytes(34) + b"sound"
    labelled = tags.add_field(bare, "AIGC", "x")
    assert tags.read_field(labelled, "AIGC") == [b"x"]
    assert labelled.endswith(b"sound")


@pytest.mark.parametrize("value", ["公司", "a b", 'a"b', "a\\b", "a\n", "\x7f"])
def test_values_outside_the_charset_are_refused(value: str) -> None:
    for fields in ((value, "id"), (PRODUCER, value)):
        with pytest.raises(Refused, match="LABEL_CHARSET"):
            label.make_label(*fields)


def test_without_a_producer_the_label_says_synthetic_and_a_notice_says_incomplete() -> None:
    created, notices = label.make_label("", "job.item")
    assert (created.label, created.content_producer, created.produce_id) == ("1", "", "job.item")
    assert [notice.code for notice in notices] == ["LABEL_INCOMPLETE"]
    assert label.make_label(PRODUCER, "job.item")[1] == []


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
def test_the_cue_is_short_long_short_short(rate: int) -> None:
    signal = label.make_cue(rate)
    assert signal.seconds == pytest.approx(1.32, abs=1e-3)
    assert signal.samples.dtype == np.float32
    unit = rate * 0.12
    loud = [
        np.abs(signal.samples[round((i + 0.2) * unit) : round((i + 0.8) * unit)]).max() > 0.2
        for i in range(11)
    ]
    assert "".join("-" if on else " " for on in loud) == "- ---   - -"


def test_the_cue_is_one_tone_without_clicks() -> None:
    signal = label.make_cue(24_000).samples
    spectrum = np.abs(np.fft.rfft(signal))
    assert np.argmax(spectrum) * 24_000 / len(signal) == pytest.approx(800, abs=2)
    assert np.abs(signal).max() == pytest.approx(label.TONE_PEAK, abs=0.01)
    assert np.abs(np.diff(signal)).max() <= 1.01 * label.TONE_PEAK * 2 * np.pi * 800 / 24_000


@pytest.mark.parametrize(
    ("where", "layout"),
    [("none", "s"), ("morse-start", "cs"), ("morse-end", "sc"), ("morse-both", "csc")],
)
def test_the_position_of_the_cue(where: label.Cue, layout: str) -> None:
    speech = Audio(np.full(2400, 0.5, np.float32), 24_000)
    cue, gap = label.make_cue(24_000).samples, np.zeros(3 * 2880, np.float32)
    parts = {"s": [speech.samples], "cs": [cue, gap, speech.samples]}
    parts |= {"sc": [speech.samples, gap, cue], "csc": [cue, gap, speech.samples, gap, cue]}
    created = label.add_cue(speech, where)
    assert created.rate == 24_000
    assert np.array_equal(created.samples, np.concatenate(parts[layout]))
