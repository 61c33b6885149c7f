"""Headers of audio files, checked before a decoder reads the file.

`inspect` identifies the format by the first bytes, parses the headers, refuses files that cannot be
good recordings and returns bytes that every decoder reads alike.
"""

from __future__ import annotations

from collections.abc import Callable

from core.audio.container import mpeg, others, wav
from core.audio.container.source import Source, check_channels, check_rate, check_size, check_tags
from core.errors import Refused

__all__ = [
    "CONVERT",
    "Source",
    "check_channels",
    "check_rate",
    "find_convertible",
    "inspect",
]

CONVERT = "convert the file: `ffmpeg -i INPUT OUTPUT.flac`."
"""What to do with a recording that is not read here."""
_NOT_AUDIO = {
    b"<": "a web page or XML document",
    b"{": "a JSON document",
    b"[": "a JSON document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
}
_CONVERTIBLE = {
    b"#!AMR": "amr",
    b"\x1a\x45\xdf\xa3": "webm",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "wma",
}
_OTHER_CODECS = {
    b"ADIF": "AAC",
    b"RIFX": "Big-endian WAV",
    b"wvpk": "WavPack",
    b"MAC ": "Monkey's Audio",
    b"DSD ": "DSD",
}
_FORMATS_BY_EXTENSION = {
    "wav": "wav",
    "wave": "wav",
    "rf64": "wav",
    "flac": "flac",
    "mp3": "mp3",
    "ogg": "vorbis opus",
    "oga": "vorbis opus",
    "opus": "opus",
    "aif": "aiff",
    "aiff": "aiff",
    "aifc": "aiff",
    "caf": "caf",
    "au": "au",
    "snd": "au",
    "w64": "w64",
    "m4a": "",
    "aac": "",
}


_MAX_TAGS = 16
_Inspector = Callable[[bytes], Source]


def inspect(data: bytes, name: str) -> Source:
    """Check the headers of a file. Raises Refused AUDIO_EMPTY, AUDIO_NOT_AUDIO, AUDIO_UNRECOGNIZED,
    AUDIO_CODEC_UNSUPPORTED, AUDIO_HEADER_INVALID, AUDIO_NO_SAMPLES, AUDIO_TRUNCATED,
    AUDIO_TOO_SHORT, AUDIO_TOO_LONG, AUDIO_TOO_LARGE, AUDIO_RATE_UNSUPPORTED,
    AUDIO_CHANNELS_UNSUPPORTED or AUDIO_DECODE_LIMIT. `name` is compared by its extension."""
    if not data:
        raise Refused("AUDIO_EMPTY")
    body = data[_id3_size(data) :]
    if not body:
        raise Refused("AUDIO_NO_SAMPLES", "The file contains tags but no audio.")
    source = _find_inspector(body)(body)
    notices = list(source.notices)
    if len(body) < len(data) and source.format != "mp3":
        notices.append("TRAILING_BYTES")
    extension = name.rpartition(".")[2].lower()
    if source.format not in _FORMATS_BY_EXTENSION.get(extension, source.format).split():
        notices.append("EXTENSION_MISMATCH")
    return Source(source.format, source.data, source.frames, tuple(dict.fromkeys(notices)))


def find_convertible(data: bytes) -> str:
    """Return the name of a format that `core.audio.ffmpeg` converts, by the first 64 bytes of a
    file, or an empty string."""
    if data[4:8] == b"ftyp":
        return "m4a"
    if data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xF6 == 0xF0:
        return "aac"
    if data[:4] == b"OggS" and data[28:33] == b"\x7fFLAC":
        return "ogg_flac"
    return next((kind for magic, kind in _CONVERTIBLE.items() if data.startswith(magic)), "")


def _find_inspector(data: bytes) -> _Inspector:
    readers: dict[bytes, _Inspector] = {
        b"RIFF": wav.inspect_wav,
        b"RF64": wav.inspect_wav,
        b"fLaC": others.inspect_flac,
        b"OggS": others.inspect_ogg,
        b"FORM": others.inspect_aiff,
        b"caff": others.inspect_caf,
        b".snd": others.inspect_au,
        b"riff": others.inspect_w64,
    }
    if reader := readers.get(data[:4]):
        return reader
    if mpeg.parse_header(data, 0):
        return mpeg.inspect_mp3
    _refuse_other_format(data)
    raise Refused("AUDIO_UNRECOGNIZED")


def _refuse_other_format(data: bytes) -> None:
    head = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, kind in _NOT_AUDIO.items():
        if head.startswith(magic):
            raise Refused("AUDIO_NOT_AUDIO", f"The file is {kind}, not audio.")
    codec = next((name for magic, name in _OTHER_CODECS.items() if data.startswith(magic)), "")
    if kind := find_convertible(data):
        codec = kind.upper()
    elif mpeg.is_free_format(data):
        codec = "Free-format MP3"
    if codec:
        raise Refused(
            "AUDIO_CODEC_UNSUPPORTED",
            f"{codec} is not supported: {CONVERT}",
        )


def _id3_size(data: bytes) -> int:
    """Return the size in bytes of leading ID3v2 tags and their padding (ID3v2.4 section 3.1)."""
    at, tags = 0, 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10 and tags < _MAX_TAGS:
        a, b, c, d = (byte & 0x7F for byte in data[at + 6 : at + 10])
        at += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if data[at + 5] & 0x10 else 0)
        tags += 1
    check_tags(at)
    check_size(data, at)
    return len(data) - len(data[at:].lstrip(b"\0")) if at else 0
