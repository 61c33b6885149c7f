"""Waveform functions, encoding and decoding: level, length and sample rate of the results."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from core.audio import libsndfile
from core.audio.decoding import decode, decode_trusted
from core.audio.encoding import CONTAINERS, Encoded, encode
from core.audio.loudness import loudness, normalise_loudness
from core.audio.waveform import Audio, fade, join, peak, resample, silence
from core.errors import Failed, Refused
from tests.support.recordings.files import (
    flac_announcing,
    minutes_of_silence,
    noise,
    pack,
    patched,
    speech,
    speech_as,
)


def tone(hertz: float, seconds: float = 2.0, rate: int = 48_000, amplitude: float = 1.0) -> Audio:
    t = np.arange(round(seconds * rate)) / rate
    return Audio((amplitude * np.sin(2 * np.pi * hertz * t)).astype(np.float32), rate)


def snr(a: Audio, b: Audio) -> float:
    """Return the level of `a` over the difference in dB."""
    n = min(len(a.samples), len(b.samples))
    x, y = a.samples[:n].astype(float), b.samples[:n].astype(float)
    return float(10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2)))


@pytest.mark.slow
@pytest.mark.parametrize("container", sorted(CONTAINERS))
@pytest.mark.parametrize("rate", [16_000, 24_000, 32_000])
def test_encoded_speech_decodes_to_itself(container: str, rate: int) -> None:
    whole = resample(speech(), rate)
    audio = Audio(whole.samples * np.float32(0.7 / peak(whole.samples)), rate)
    file = encode(audio, container)
    back = decode_trusted(file.data)
    assert back.rate == file.rate
    assert back.seconds == pytest.approx(audio.seconds, abs=0.03)
    least = {"wav": 55, "flac": 55, "mp3": 18, "opus": 20}[container]
    assert snr(audio, resample(back, rate)) > least


def test_the_rate_of_the_file_is_reported() -> None:
    file = encode(resample(speech(), 32_000), "opus")
    assert (file.rate, file.media_type) == (48_000, "audio/ogg")
    assert encode(resample(speech(), 96_000), "mp3").rate == 48_000
    assert encode(resample(speech(), 22_050), "wav").rate == 22_050


def test_samples_beyond_full_scale_are_clipped_not_wrapped() -> None:
    back = decode_trusted(encode(Audio(speech().samples * 20, 16_000), "wav").data)
    assert np.corrcoef(back.samples, np.clip(speech().samples * 20, -1, 1))[0, 1] > 0.999


@pytest.mark.slow
def test_minutes_of_opus_and_mp3_are_written_in_small_blocks() -> None:
    for container in ("mp3", "opus"):
        file = encode(Audio(np.zeros(8_000 * 60, np.float32), 8_000), container)
        assert decode_trusted(file.data).seconds == pytest.approx(60, abs=0.1)


def test_our_output_is_decoded_by_the_confined_decoder_too() -> None:
    file: Encoded = encode(speech(), "flac")
    decoded = decode(file.data, name="a.flac")
    assert (decoded.format, decoded.codec, decoded.rate) == ("flac", "pcm_16", 16_000)
    np.testing.assert_array_equal(decoded.channels[0], decode_trusted(file.data).samples)


def test_channels_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((4_000, 6)) * 0.1).astype(np.float32)
    decoded = decode(pack(samples, subtype="FLOAT"), name="a.wav")
    np.testing.assert_array_equal(decoded.channels, samples.T)


def test_resampling_keeps_tones_and_removes_those_above_the_band() -> None:
    kept = resample(tone(1_000), 16_000)
    assert (kept.rate, len(kept.samples)) == (16_000, 32_000)
    assert np.sqrt(np.mean(kept.samples[1_000:-1_000] ** 2)) == pytest.approx(2**-0.5, rel=1e-3)
    assert peak(resample(tone(12_000), 16_000).samples[1_000:-1_000]) < 1e-4
    assert resample(kept, 16_000) is kept


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_loudness_agrees_with_the_recommendation(rate: int) -> None:
    """BS.1770: a 997 Hz tone at full scale in one channel reads -3.01 LUFS."""
    assert loudness(tone(997, 5, rate)) == pytest.approx(-3.01, abs=0.05)
    assert loudness(tone(997, 5, rate, 0.1)) == pytest.approx(-23.01, abs=0.05)


def test_loudness_gates_pauses() -> None:
    spoken = tone(997, 5)
    with_pause = join([spoken, silence(5, 48_000)])
    assert loudness(with_pause) == pytest.approx(loudness(spoken), abs=0.2)
    assert loudness(silence(1, 48_000)) == -np.inf


def test_normalise_loudness_stops_at_the_ceiling() -> None:
    assert loudness(normalise_loudness(tone(997, 5), -20.0)) == pytest.approx(-20, abs=0.05)
    assert peak(normalise_loudness(tone(997, 5), 3.0, ceiling=0.8).samples) == pytest.approx(0.8)
    assert peak(normalise_loudness(silence(1, 8_000)).samples) == 0


def test_join_puts_pauses_between_parts_only() -> None:
    part = tone(100, 0.5, 8_000)
    assert join([part, part, part], 0.25).seconds == 2.0
    assert join([part, part, part], [0.1, 0.2]).seconds == pytest.approx(1.8)
    assert join([part]).seconds == 0.5
    with pytest.raises(ValueError, match="rates"):
        join([part, tone(100, 0.5, 16_000)])
    with pytest.raises(ValueError, match="3 parts have 2 gaps, not 1"):
        join([part, part, part], [0.1])


def test_fading_does_not_change_the_caller_s_samples() -> None:
    before = speech().samples.copy()
    faded = fade(speech())
    np.testing.assert_array_equal(speech().samples, before)
    assert abs(faded.samples[0]) <= abs(before[0])
    assert fade(Audio(before[:1], 16_000)).samples[0] == before[0]


@pytest.mark.slow
def test_a_longer_limit_admits_a_longer_recording() -> None:
    data = minutes_of_silence(11, "FLAC")
    assert decode(data, name="a.flac", max_seconds=700).seconds == 660


@pytest.mark.slow
def test_a_decoder_that_runs_out_of_memory_is_reported_by_code() -> None:
    """Three hours of silence are a small file, but decode to more than a child may write."""
    data = pack(np.zeros(8_000 * 3_600 * 3, np.int16), 8_000, "FLAC")
    with pytest.raises(Failed) as failure:
        decode(data, name="refs/a.flac", max_seconds=36_000)
    assert failure.value.code == "AUDIO_DECODER_CRASHED"
    assert failure.value.pointer == "refs/a.flac"


DAMAGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a GSM file of two channels": (
        lambda: patched(speech_as("WAV", "GSM610", 8_000), 22, "B", 2),
        "AUDIO_HEADER_INVALID",
    ),
    "AAC in a CAF": (
        lambda: speech_as("CAF").replace(b"lpcm", b"aac "),
        "AUDIO_CODEC_UNSUPPORTED",
    ),
    "MACE in an AIFF": (
        lambda: speech_as("AIFF", "ALAW").replace(b"alaw", b"MAC3"),
        "AUDIO_CODEC_UNSUPPORTED",
    ),
    "a FLAC that announces more than it holds": (
        lambda: flac_announcing(speech_as("FLAC"), 90_000),
        "AUDIO_CORRUPT",
    ),
    "an AIFF without samples": (
        lambda: pack(np.zeros(0, np.float32), container="AIFF"),
        "AUDIO_NO_SAMPLES",
    ),
    "eight channels at 96 kHz": (
        lambda: pack(np.zeros((96_000 * 80, 8), np.int16), 96_000, "FLAC"),
        "AUDIO_TOO_LONG",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", list(DAMAGE))
def test_errors_of_the_decoder_have_our_codes_and_messages(what: str) -> None:
    make, code = DAMAGE[what]
    data = make()
    in_process = libsndfile.decode_task(data, lambda block: None, name="a", max_seconds=600.0)
    assert in_process["refused"] == code
    with pytest.raises(Refused) as refusal:
        decode(data, name="a.x")
    assert refusal.value.code == code
    assert "BytesIO" not in str(refusal.value)


def test_noise_is_not_mistaken_for_a_container() -> None:
    for seed in range(20):
        data = np.random.default_rng(seed).bytes(5_000)
        with pytest.raises(Refused):
            decode(data, name="a.wav")


def test_files_written_elsewhere_are_read() -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(1), 16_000, format="WAVEX", subtype="PCM_24")
    assert decode(file.getvalue(), name="a.wav").codec == "pcm_24"


def test_the_first_seconds_of_a_shorter_recording_are_all_of_it() -> None:
    whole, first = bytearray(), bytearray()
    for out, seconds in ((whole, None), (first, 60.0)):
        libsndfile.decode_task(
            speech_as("FLAC"),
            lambda part, out=out: out.extend(memoryview(part).cast("B")),  # type: ignore[misc]
            name="a.flac",
            max_seconds=60.0,
            first_seconds=seconds,
        )
    assert first == whole
