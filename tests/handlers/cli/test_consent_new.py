"""Files for which `voicedrop consent new` writes a record, and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.consent.records import parse_consent
from core.errors import Refused
from handlers.cli.consent import consent_new
from handlers.cli.screen import further_advice
from tests.support.runtime import REFERENCE

M4A = b"\0\0\0\x20ftypM4A \0\0\0\0"


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty.flac", b"", "AUDIO_EMPTY"),
        ("text.m4a", b"Some words.\n", "AUDIO_UNRECOGNIZED"),
        ("picture.wav", b"\x89PNG\r\n", "AUDIO_NOT_AUDIO"),
        ("broken.flac", b"fLaC" + bytes(100), "AUDIO_HEADER_INVALID"),
        ("pack.wv", b"wvpk" + bytes(100), "AUDIO_CODEC_UNSUPPORTED"),
    ],
)
@pytest.mark.parametrize("is_proof", [False, True], ids=["recording", "statement"])
def test_no_record_is_written_for_what_nothing_can_read(
    tmp_path: Path, name: str, data: bytes, code: str, is_proof: bool
) -> None:
    bad = tmp_path / name
    bad.write_bytes(data)
    out = tmp_path / "me.json"
    with pytest.raises(Refused) as refusal:
        consent_new(
            [REFERENCE] if is_proof else [REFERENCE, bad],
            subject="me",
            controller="Us",
            method="recorded-statement",
            proof=str(bad if is_proof else REFERENCE),
            out=out,
        )
    assert (refusal.value.code, refusal.value.pointer) == (code, str(bad))
    assert not out.exists()


def test_a_record_in_another_language_names_its_purpose_in_it(tmp_path: Path) -> None:
    for language, purpose in (("zh", "语音合成"), ("en", "speech synthesis")):
        out = tmp_path / f"{language}.json"
        consent_new([REFERENCE], subject="me", method="own-voice", language=[language], out=out)
        record = parse_consent(out.read_bytes())
        assert record.purposes == [purpose]
        assert purpose in record.statement_text
        assert ("speech" in record.statement_text) == (language == "en")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"language": ["en", "klingon"]}, "--language klingon: Write the language as its ISO 639"),
        ({"method": "public-domain"}, "needs the origin and licence of the recording, in words"),
        ({"method": "signed-document"}, "Say who makes and uses the voice: --controller"),
        ({"subject": ""}, "a subject needs a name"),
        ({"days": 9_999_999}, "--days: the record would end after the year 9999"),
        ({"days": 10**12, "method": "public-domain", "proof": "CC0"}, "--days: the record would"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_named_as_it_was_typed(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    usual: dict[str, Any] = {"subject": "me", "method": "own-voice"}
    with pytest.raises(Refused, match=f"CONSENT_INVALID: .*{words}") as refusal:
        consent_new([REFERENCE], **(usual | given), out=tmp_path / "me.json")
    assert "voicedrop/consent/1" not in str(refusal.value) + further_advice(refusal.value)


def test_a_second_language_without_its_option_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no recording zh\. Repeat the option: --language zh"):
        consent_new(
            [REFERENCE, Path("zh")],
            subject="me",
            method="own-voice",
            language=["en"],
            out=tmp_path / "me.json",
        )


def test_a_recording_for_ffmpeg_gets_a_record_and_a_warning_where_ffmpeg_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    phone = tmp_path / "phone.m4a"
    phone.write_bytes(M4A)
    consent_new([phone], subject="me", method="own-voice", out=tmp_path / "me.json")
    assert len(parse_consent((tmp_path / "me.json").read_bytes()).ref_audio_sha256) == 1
    warning, *_ = capsys.readouterr().err.splitlines()
    assert warning.startswith(
        f"Warning: {phone} could not be checked. M4A or MP4 is read by ffmpeg"
    )
    assert warning.endswith(f"for the new file. This record is for {phone} as it is.")


def test_a_recording_that_a_job_would_refuse_is_remarked_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, rate = soundfile.read(REFERENCE)
    noise = np.random.default_rng(0).normal(0, 0.1, rate * 4)
    sounds = {"silence": noise * 0, "noise": noise, "short": speech[:rate], "speech": speech}
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, rate)
    paths = [tmp_path / f"{name}.wav" for name in sounds]
    consent_new(paths, subject="me", method="own-voice", out=tmp_path / "me.json")
    silent, noisy, short, _ = capsys.readouterr().err.splitlines()
    assert (
        short == f"Warning: {paths[2]} lasts 1.0 s, which is less than 3 s: a job would refuse it."
    )
    for line, path in ((silent, paths[0]), (noisy, paths[1])):
        assert line.startswith(f"Warning: {path} has no speech in its first 30 s: ")
