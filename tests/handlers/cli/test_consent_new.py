"""Files for which `voicedrop consent new` writes a record, and others."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.consent.records import parse_consent
from core.errors import Refused
from handlers.cli.consent import consent_new
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


def test_a_recording_for_ffmpeg_gets_a_record_and_a_warning_where_ffmpeg_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    phone = tmp_path / "phone.m4a"
    phone.write_bytes(M4A)
    consent_new([phone], subject="me", method="own-voice", out=tmp_path / "me.json")
    assert len(parse_consent((tmp_path / "me.json").read_bytes()).ref_audio_sha256) == 1
    warning, *_ = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"{phone} cannot be read here. M4A or MP4 is read by ffmpeg, ")
    assert warning.endswith("and make the consent record for the new file.")
