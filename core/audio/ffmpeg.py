"""Formats of phones and browsers, converted by the program ffmpeg where it is installed.

ffmpeg is a program that the user installs, not a library of this process. It runs in the sandbox,
confined for any user (`core.audio.confinement.execute`): it reads its libraries and the recording,
writes one file, and can do nothing else. Its output is trusted as little as the recording: it is
decoded in the sandbox like an uploaded AU file, a format whose header may leave the length open.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from core.audio import sandbox
from core.audio.container import CONVERT, find_convertible
from core.audio.sandbox import Crashed, Limits, NotDecoded, Unconfined
from core.errors import Failed, JobError, Refused

INSTALL: Final = "`apt install ffmpeg` or `brew install ffmpeg`"
_MISSING: Final = f"is read by ffmpeg, which was not found: {INSTALL} installs it"
_REFERENCE: Final = Limits(memory=1 << 30)
_CLIP: Final = Limits(cpu_s=600, wall_s=1200.0, memory=1 << 30, output=4 << 30)
_LARGEST_CLIP: Final = 256 << 20
_INPUT: Final = "/proc/self/fd/0"  # ffmpeg can seek in it, unlike in a pipe
_DECODERS: Final = (
    "aac,aac_fixed,aac_latm,alac,amrnb,amrwb,flac,libopencore_amrnb,libopencore_amrwb,libopus,"
    "libvorbis,mp3,mp3float,opus,pcm_f32le,pcm_s16le,pcm_s24le,vorbis,wmalossless,wmapro,wmav1,"
    "wmav2,wmavoice"
)


@dataclass(frozen=True, slots=True)
class Format:
    """A format that ffmpeg decodes for us."""

    title: str
    demuxer: str
    """ffmpeg's name of the reader of the container; it does not guess another one."""
    extensions: tuple[str, ...]


FORMATS: Final = {
    "m4a": Format("M4A or MP4", "mov", ("m4a", "mp4", "m4b", "mov", "3gp", "3g2")),
    "aac": Format("AAC", "aac", ("aac",)),
    "amr": Format("AMR", "amr", ("amr", "awb", "3ga")),
    "webm": Format("WebM or Matroska", "matroska", ("webm", "mkv", "mka", "weba")),
    "wma": Format("WMA", "asf", ("wma", "asf", "wmv")),
    "ogg_flac": Format("Ogg FLAC", "ogg", ("oga", "ogg", "flac")),
}
"""By the names of `container.find_convertible`."""


def convert(data: bytes, kind: str, *, max_seconds: float, name: str) -> bytes:
    """Return a recording as an AU file with 32-bit samples.

    One that is longer than `max_seconds` loses all but a second more, so that it is found too long.
    Raises Refused AUDIO_CODEC_UNSUPPORTED if ffmpeg is not installed or cannot be confined here,
    AUDIO_CORRUPT or AUDIO_TOO_LONG, and Failed AUDIO_DECODER_CRASHED, at the pointer `name`.
    """
    with _open_copy(data) as source, _open_copy(b"") as sink:
        _run(source, sink, kind, "pcm_f32be", max_seconds + 1, _REFERENCE, name)
        sink.seek(0)
        return sink.read()


@contextlib.contextmanager
def converted(
    file: BinaryIO, *, max_seconds: float, name: str, max_cpu_s: float = _CLIP.cpu_s
) -> Iterator[BinaryIO]:
    """Yield the file itself, or if only ffmpeg can read it, an AU file with 16-bit samples.

    max_cpu_s: processor time that ffmpeg may take, in seconds, ten minutes at most.
    Raises like `convert`, and Refused AUDIO_TOO_LARGE for more than 256 MiB.
    """
    kind = find_convertible(os.pread(file.fileno(), 64, 0))
    if not kind:
        yield file
        return
    size = os.fstat(file.fileno()).st_size
    if size > _LARGEST_CLIP:
        message = f"Convert it: {FORMATS[kind].title} is read up to {_LARGEST_CLIP >> 20} MiB."
        raise Refused("AUDIO_TOO_LARGE", message, pointer=name)
    data = os.pread(file.fileno(), size, 0)
    with _open_copy(data) as source, tempfile.TemporaryFile() as sink:
        limits = replace(_CLIP, cpu_s=math.ceil(min(max_cpu_s, _CLIP.cpu_s)))
        _run(source, sink, kind, "pcm_s16be", max_seconds + 1, limits, name)
        yield sink


def explain_missing(data: bytes) -> str:
    """Return what to do if only ffmpeg can read a recording and it is not installed; otherwise an
    empty string."""
    kind = find_convertible(data[:64])
    return f"{FORMATS[kind].title} {_MISSING}" if kind and shutil.which("ffmpeg") is None else ""


def list_notices(kind: str, name: str) -> list[str]:
    """Return the codes of notices that the converted file cannot tell."""
    extension = name.rpartition(".")[2].lower()
    notices = ["LOSSY_TELEPHONY"] if kind == "amr" else []
    return notices if extension in FORMATS[kind].extensions else ["EXTENSION_MISMATCH", *notices]


def _open_copy(data: bytes) -> BinaryIO:
    """Open a file in memory that contains `data`; every user may open it by its descriptor."""
    file = os.fdopen(sandbox.open_memory_file(), "w+b")
    file.write(data)
    file.flush()
    return file


def _run(
    source: BinaryIO,
    sink: BinaryIO,
    kind: str,
    samples: str,
    seconds: float,
    limits: Limits,
    name: str,
) -> None:
    form = FORMATS[kind]
    program = shutil.which("ffmpeg")
    if program is None:
        raise _unsupported(form, _MISSING, name)
    command = [program, *_arguments(form, samples, seconds)]
    try:
        sandbox.run_program(command, source.fileno(), sink.fileno(), limits)
    except Unconfined as exc:
        problem = (
            "is read by ffmpeg, which is started only on Linux with seccomp and landlock, and only "
            "if every user may execute it"
        )
        raise _unsupported(form, problem, name) from exc
    except NotDecoded as exc:
        message = (
            f"ffmpeg finds no audio that it can read in this {form.title} file: play it to see "
            "whether it has sound, then record or export it again."
        )
        raise Refused("AUDIO_CORRUPT", message, pointer=name) from exc
    except Crashed as exc:
        raise _explain(exc, os.fstat(sink.fileno()).st_size >= limits.output, name) from exc


def _explain(crash: Crashed, is_full: bool, name: str) -> JobError:
    if is_full:
        return Refused("AUDIO_TOO_LONG", pointer=name)
    message = f"ffmpeg failed on this file: {crash}. Convert it to WAV or FLAC."
    return Failed("AUDIO_DECODER_CRASHED", message, pointer=name)


def _arguments(form: Format, samples: str, seconds: float) -> list[str]:
    """Return ffmpeg's arguments: a file of one format in, its first audio stream out."""
    quiet = ["-v", "quiet", "-nostdin", "-xerror", "-threads", "1"]
    reading = ["-f", form.demuxer, "-codec_whitelist", _DECODERS, "-protocol_whitelist", "file"]
    audio = ["-map", "0:a:0", "-map_metadata", "-1", "-t", f"{seconds:g}", "-c:a", samples]
    return [*quiet, *reading, "-i", _INPUT, *audio, "-f", "au", "pipe:1"]


def _unsupported(form: Format, problem: str, name: str) -> Refused:
    return Refused(
        "AUDIO_CODEC_UNSUPPORTED",
        f"{form.title} {problem}. Or {CONVERT}",
        pointer=name,
    )
