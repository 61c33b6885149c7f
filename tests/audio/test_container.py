"""Inspecting headers either succeeds or raises Refused, whatever the bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from core.audio.container import inspect
from core.audio.decoding import decode
from core.errors import Refused
from tests.support.recordings.cases import CASES, mp3, wav
from tests.support.recordings.files import (
    flac_announcing,
    id3,
    pack,
    patched,
    random_bytes,
    speech,
    speech_as,
)

SEEDS = ["WAV", "RF64", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU", "W64"]


def refusal(data: bytes, name: str = "a") -> str:
    with pytest.raises(Refused) as refused:
        inspect(data, name)
    return refused.value.code


@pytest.mark.parametrize("container", SEEDS)
def test_damaged_headers_are_refused_or_read_but_never_raise_anything_else(container: str) -> None:
    good = speech_as(container)
    rng = np.random.default_rng(7)
    for _ in range(150):
        data = bytearray(good[: int(rng.integers(1, 6_000))] if rng.random() < 0.5 else good)
        for at in rng.integers(0, min(len(data), 128), 4):
            data[at] = rng.integers(256)
        try:
            inspect(bytes(data), "a.wav")
        except Refused:
            continue


def test_every_prefix_of_a_header_is_refused() -> None:
    for container in SEEDS:
        data = speech_as(container)
        for size in range(1, 64):
            try:
                inspect(data[:size], "a.wav")
            except Refused:
                continue
            assert container in ("AU", "CAF"), size  # only the decoder can tell


def test_riff_other_than_wav_and_iff_other_than_aiff_are_unrecognised() -> None:
    assert refusal(wav()[:8] + b"AVI " + wav()[12:]) == "AUDIO_UNRECOGNIZED"
    aiff = speech_as("AIFF")
    assert refusal(aiff[:8] + b"ILBM" + aiff[12:]) == "AUDIO_UNRECOGNIZED"


def test_an_adpcm_header_without_a_block_size_is_invalid() -> None:
    data = speech_as("WAV", "IMA_ADPCM")
    assert refusal(patched(data, 32, "H", 0)) == "AUDIO_HEADER_INVALID"


def test_a_wrong_block_size_of_plain_samples_is_ignored() -> None:
    assert inspect(patched(wav(), 32, "H", 7), "a.wav").data == inspect(wav(), "a.wav").data


def test_extensible_headers_are_read_by_their_subformat() -> None:
    source = inspect(pack(speech().samples, container="WAVEX", subtype="FLOAT"), "a.wav")
    assert struct.unpack("<H", source.data[20:22]) == (3,)
    assert source.frames == len(speech().samples)


def test_chunks_before_the_samples_are_skipped() -> None:
    at = wav().index(b"data")
    extra = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    data = patched(wav()[:at] + extra + wav()[at:], 4, "I", len(wav()) - 8 + len(extra))
    source = inspect(data, "a.wav")
    assert (source.data, source.notices) == (inspect(wav(), "").data, ())


def test_an_extensible_header_without_its_subformat_is_invalid() -> None:
    wavex = pack(speech().samples, container="WAVEX")
    short = wavex[:12] + b"fmt \x10\0\0\0" + wavex[20:36] + wavex[wavex.index(b"data") :]
    assert refusal(short) == "AUDIO_HEADER_INVALID"


def test_chunks_after_the_samples_are_checked_up_to_a_limit() -> None:
    """Millions of empty ones fit into a file of the accepted size."""
    for count, notices in ((10, ("TRAILING_BYTES",)), (1_500, ())):
        data = wav() + b"LIST\0\0\0\0" * count + bytes(100)
        assert inspect(patched(data, 4, "I", len(data) - 8), "a.wav").notices == notices, count


def test_a_file_of_too_many_parts_is_invalid() -> None:
    at = wav().index(b"data")
    assert refusal(wav()[:at] + b"JUNK\0\0\0\0" * 1_001 + wav()[at:]) == "AUDIO_HEADER_INVALID"


def test_a_caf_whose_samples_extend_to_the_end_of_the_file_is_read() -> None:
    caf = speech_as("CAF")
    at = caf.index(b"data") + 4
    size = int.from_bytes(caf[at : at + 8], "big")
    open_ended = caf[:at] + b"\xff" * 8 + caf[at + 8 : at + 8 + size]
    assert inspect(open_ended, "a.caf").data == caf[: at + 8 + size]
    np.testing.assert_array_equal(
        decode(open_ended, name="a.caf").channels, decode(caf, name="a.caf").channels
    )


def test_a_wav_without_samples_chunk_is_invalid() -> None:
    assert refusal(wav()[: wav().index(b"data")]) == "AUDIO_HEADER_INVALID"
    assert refusal(b"RIFF\x04\0\0\0WAVEdata\x04\0\0\0abcd") == "AUDIO_HEADER_INVALID"


def test_wav_with_too_many_bits_or_a_short_format_chunk_is_refused() -> None:
    assert refusal(patched(wav(), 34, "H", 64)) == "AUDIO_CODEC_UNSUPPORTED"
    assert refusal(wav()[:12] + b"fmt \x04\0\0\0abcd" + wav()[36:]) == "AUDIO_HEADER_INVALID"


def test_ogg_of_another_codec_is_unsupported() -> None:
    ogg = speech_as("OGG")
    assert refusal(ogg.replace(b"\x01vorbis", b"Speex  ")) == "AUDIO_CODEC_UNSUPPORTED"


def test_bytes_after_the_end_of_an_ogg_stream_give_a_notice() -> None:
    assert inspect(speech_as("OGG") + random_bytes(320), "a.ogg").notices == ("TRAILING_BYTES",)


def test_flac_with_padding_or_art_beyond_the_limit_is_too_large() -> None:
    flac = speech_as("FLAC")
    art = b"\x06\xff\xff\xff" + bytes(0xFFFFFF)
    assert refusal(flac[:42] + art + art + flac[42:]) == "AUDIO_TOO_LARGE"


def test_flac_that_ends_after_its_headers_has_no_samples() -> None:
    flac = speech_as("FLAC")[:42]
    assert refusal(flac) == "AUDIO_HEADER_INVALID"
    assert refusal(patched(flac, 4, "B", 0x80)) == "AUDIO_NO_SAMPLES"


def test_flac_of_unannounced_length_is_read() -> None:
    assert inspect(flac_announcing(speech_as("FLAC"), 0), "a.flac").frames is None


def test_tags_before_and_after_mp3_frames_give_no_notice() -> None:
    assert inspect(id3(500) + bytes(100) + mp3() + b"TAG" + bytes(125), "a.mp3").notices == ()
    assert inspect(mp3() + random_bytes(640), "a.mp3").notices == ("TRAILING_BYTES",)


def test_an_mp3_of_more_frames_than_any_accepted_recording_has_is_too_long() -> None:
    assert refusal((b"\xff\xf3\x14\xc0" + bytes(20)) * 100_001) == "AUDIO_TOO_LONG"


def test_mp3_in_free_format_is_named_as_unsupported() -> None:
    with pytest.raises(Refused, match="Free-format MP3 is not supported") as refused:
        inspect(b"\xff\xfb\x04\xc4" + bytes(500), "a.mp3")
    assert refused.value.code == "AUDIO_CODEC_UNSUPPORTED"


def test_tags_without_audio_hold_no_samples() -> None:
    assert refusal(id3(500), "a.mp3") == "AUDIO_NO_SAMPLES"


def test_an_mp3_without_an_announced_length_is_read() -> None:
    data = mp3().replace(b"Xing", b"Xinq")
    assert inspect(data, "a.mp3").format == "mp3"
    assert refusal(data[:-20], "a.mp3") == "AUDIO_TRUNCATED"


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        (0xFFFB9064, (417, 1152)),
        (0xFFF34064, (104, 576)),
        (0xFFFDB064, (731, 1152)),
        (0xFFFF9064, (312, 384)),
        (0xFFE31864, (72, 576)),
    ],
    ids=["MPEG-1 layer 3", "MPEG-2 layer 3", "MPEG-1 layer 2", "MPEG-1 layer 1", "MPEG-2.5"],
)
def test_frame_sizes_follow_the_standard(head: int, frame: tuple[int, int]) -> None:
    from core.audio.container.mpeg import parse_header

    found = parse_header(head.to_bytes(4, "big"), 0)
    assert found is not None
    assert (found.size, found.samples) == frame


def test_names_without_a_known_extension_are_not_compared() -> None:
    for name in ("voice", "voice.bin", "refs.d/voice"):
        assert inspect(mp3(), name).notices == ()


def test_the_cases_have_distinct_ids() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("container", ["AU", "CAF"])
def test_the_decoder_refuses_headers_that_inspect_accepts(container: str) -> None:
    data = speech_as(container)
    for size in range(4, 64, 7):
        with pytest.raises(Refused):
            decode(data[:size], name="a.wav")
