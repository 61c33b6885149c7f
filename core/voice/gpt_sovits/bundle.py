"""A bundle: the folder of ONNX graphs that stands for one converted model."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import msgspec

from core import inference
from core.errors import Misconfigured, raising

SCHEMA = "voicedrop/gpt-sovits/1"
SPEC = "bundle.json"
_POOLED = {"encode", "flow", "vocoder"}
"""Run on threads of ours, a sentence or a piece each: that scales better than threads within an
operator, and makes samples that do not depend on the number of threads."""
_ANALYSIS = {"ssl", "timbre", "speaker"}
"""Stay on the CPU: they run once a voice, and CUDA's shorter mantissas would move its codes."""
STEP_VNNI = "step_vnni"
"""The step of bundles in 8 bits as CPUs with VNNI are quickest at it: a quarter quicker at one row,
the same at eight. Others would take twice as long at eight rows."""
_T2S = {"prefill", "step", STEP_VNNI}
_BYTES_SINCE = (1, 27)
"""The first ONNX Runtime whose attention reads keys and values of 8 bits on a CPU."""
Precision = Literal["fp32", "int8", "fast", "fp16"]


class T2SSpec(msgspec.Struct, frozen=True, kw_only=True):
    layers: int
    heads: int
    head_width: int
    vocabulary: int
    """Semantic tokens and, as the last one, the end."""
    bert: int
    """Features a phoneme."""
    positions: int
    """Most phonemes of prompt and sentence together."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    size: int
    sha256: str


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """`bundle.json`."""

    schema: str = SCHEMA
    version: Literal["v2", "v2Pro", "v2ProPlus"]
    precision: Precision
    converter: str
    licence: str
    rate: int
    """Of the reference spectrogram and of the speech, in Hz."""
    hop: int
    window: int
    bins: int
    """Of the spectrogram that the timbre encoder sees, counted from 0 Hz."""
    inter: int
    """Channels of the latent that noise is added to."""
    t2s: T2SSpec
    speaker: bool
    """Whether the timbre wants a speaker vector: the Pro family."""
    bert: bool
    """Whether Chinese text features can be computed."""
    sources: dict[str, str]
    """File name -> SHA-256 of what was converted."""
    parts: dict[str, Part]


class Bundle:
    """Opens graphs on demand, each once a process. Sessions may be used by several threads."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        cpu_only: bool = False,
        vnni: bool | None = None,
    ) -> None:
        """`vnni`: of the CPU, asked of it unless told. Raises Misconfigured MODEL_MISSING or
        MODEL_INVALID."""
        self.folder = folder
        self.threads = threads or inference.cpus()
        self.cpu_only = cpu_only
        self._vnni = inference.vnni() if vnni is None else vnni
        self.spec, self.digest = _spec(folder)
        self._sessions: dict[str, Any] = {}
        self._opening = Lock()

    @cached_property
    def fingerprint(self) -> str:
        return f"gpt-sovits/{self.spec.version}/{self.spec.precision}/{self.digest[:16]}"

    @property
    def cuda(self) -> bool:
        return inference.providers().cuda and not self.cpu_only

    @property
    def device(self) -> str:
        """Where it runs, and why, for people."""
        if self.cpu_only:
            return "cpu: asked for"
        return f"{'cuda' if self.cuda else 'cpu'}: {inference.providers().reason}"

    @property
    def in_bytes(self) -> bool:
        """Whether T2S multiplies and remembers in 8 bits."""
        return self.spec.precision in ("int8", "fast")

    @cached_property
    def step(self) -> str:
        """The graph that makes a step of T2S here."""
        return STEP_VNNI if self._vnni and f"{STEP_VNNI}.onnx" in self.spec.parts else "step"

    def on_cuda(self, graph: str) -> bool:
        """T2S in 8 bits stays on the CPU, the only one that has its operators."""
        return self.cuda and graph not in _ANALYSIS and not (self.in_bytes and graph in _T2S)

    def run(self, graph: str, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Values of `outputs` in order."""
        return list(self.session(graph).run(outputs, inputs))

    def session(self, graph: str) -> Any:
        """An ONNX Runtime session. Raises Misconfigured MODEL_INVALID on a damaged part."""
        with self._opening:
            if graph not in self._sessions:
                self._sessions[graph] = self._open(graph)
            return self._sessions[graph]

    def _open(self, graph: str) -> Any:
        if graph in _T2S and self.in_bytes and not inference.at_least(_BYTES_SINCE):
            old = "T2S in 8 bits needs ONNX Runtime 1.27: convert with --precision fp32 or fp16"
            raise Misconfigured("MODEL_INVALID", old)
        path = self.folder / f"{graph}.onnx"
        threads = 1 if graph in _POOLED else self.threads
        with raising(Misconfigured("MODEL_INVALID", f"{path} cannot be loaded"), on=Exception):
            return inference.session(path, threads=threads, cpu_only=not self.on_cuda(graph))

    def damage(self) -> list[str]:
        """Names of parts whose content is not what the converter wrote. Reads everything."""
        return [
            name
            for name, part in self.spec.parts.items()
            if digest(self.folder / name) != part.sha256
        ]


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _spec(folder: Path) -> tuple[Spec, str]:
    if not (folder / SPEC).is_file():
        raise Misconfigured("MODEL_MISSING", f"{folder} holds no {SPEC}: convert a model first")
    data = (folder / SPEC).read_bytes()
    damaged = Misconfigured("MODEL_INVALID", f"{folder / SPEC} is damaged: convert the model again")
    with raising(damaged, on=msgspec.DecodeError):
        spec = msgspec.json.decode(data, type=Spec)
    if spec.schema != SCHEMA:
        raise Misconfigured("MODEL_INVALID", f"{folder} is of the format {spec.schema}")
    for name, part in spec.parts.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != part.size:
            raise Misconfigured("MODEL_INVALID", f"{path} is missing or cut: convert it again")
    return spec, hashlib.sha256(data).hexdigest()
