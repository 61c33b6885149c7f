"""The program ffmpeg, for tests: the installed one, or the one in the package imageio-ffmpeg."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path


def find_ffmpeg() -> str | None:
    if program := shutil.which("ffmpeg"):
        return program
    if spec := importlib.util.find_spec("imageio_ffmpeg"):
        folder = Path(str(spec.origin)).parent / "binaries"
        return next((str(path) for path in folder.glob("ffmpeg-*")), None)
    return None


def make_recording(ffmpeg: str, wave: bytes, path: Path, *options: str) -> bytes:
    """Encode a WAV file. Raises CalledProcessError if this ffmpeg lacks the encoder."""
    command = [ffmpeg, "-v", "error", "-y", "-i", "pipe:0", *options, str(path)]
    subprocess.run(command, input=wave, check=True, capture_output=True, timeout=60)
    return path.read_bytes()
