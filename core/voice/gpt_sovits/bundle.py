"""A bundle: the folder with the ONNX graphs and weights of one converted model."""

from __future__ import annotations

import hashlib
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import msgspec

from core import inference
from core.errors import Misconfigured, raising
from core.voice.gpt_sovits.stored import open_graph

SCHEMA = "voicedrop/gpt-sovits/1"
SPEC = "bundle.json"
HOW_TO_GET = (
    "`voicedrop models list` shows the models that are installed; `voicedrop models get "
    "gpt-sovits-v2proplus` installs the best one."
)
_SINGLE_THREADED = {"encode", "flow", "vocoder"}
"""Graphs that the engine runs in its own threads, one sentence or piece each. This scales better
than threads within an operator, and samples do not depend on the number of threads."""
_CPU_ONLY = {"ssl", "timbre", "speaker"}
"""Graphs that run once per voice; CUDA's rounding would change the semantic tokens."""
STEP_VNNI = "step_vnni"
"""The step graph of 8-bit bundles for CPUs with VNNI: a quarter less time at one row, the same at
eight. CPUs without VNNI would need twice the time at eight rows."""
_T2S = {"prefill", "step", STEP_VNNI}
_INT8_SINCE = (1, 27)
"""First ONNX Runtime with attention over 8-bit keys and values on CPUs."""
Precision = Literal["fp32", "int8", "fast", "fp16"]


class T2SSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions of T2S."""

    layers: int
    heads: int
    head_width: int
    """Channels of a head in the cache."""
    vocabulary: int
    """Number of semantic tokens, including the end token, which is the last."""
    bert: int
    """BERT features per phoneme."""
    positions: int
    """Maximum number of phonemes of prompt and sentence together."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the bundle."""

    size: int
    """In bytes."""
    sha256: str


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of `bundle.json`."""

    schema: str = SCHEMA
    version: Literal["v2", "v2Pro", "v2ProPlus"]
    precision: Precision
    converter: str
    licence: str
    rate: int
    """Sample rate of the reference spectrogram and of the speech, in Hz."""
    hop: int
    """Samples per frame."""
    window: int
    """Samples per window of the spectrogram."""
    bins: int
    """Number of spectrogram bins, from 0 Hz, that the timbre encoder reads."""
    inter: int
    """Channels of the latent z."""
    t2s: T2SSpec
    speaker: bool
    """The timbre encoder reads a speaker embedding (v2Pro, v2ProPlus)."""
    bert: bool
    """The bundle has BERT, for Chinese."""
    sources: dict[str, str]
    """SHA-256 of the converted checkpoints, by file name."""
    parts: dict[str, Part]


class Bundle:
    """Opens each graph when it is first used. Several threads may use a bundle."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        cpu_only: bool = False,
        vnni: bool | None = None,
        rewrite: bool | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        """`vnni` overrides CPU detection. `rewrite` says whether to open graphs as `cuda` rewrites
        them, by default those that run on CUDA. With `cuda_graphs`, steps are captured (see
        `inference.graph_run`). Raises Misconfigured MODEL_MISSING or MODEL_INVALID."""
        self.folder = folder
        self.threads = threads or inference.usable_cpus()
        self.cpu_only = cpu_only
        self.cuda_graphs = cuda_graphs
        self._vnni = inference.has_vnni() if vnni is None else vnni
        self._rewrite = rewrite
        self.spec, self.digest = _read_spec(folder)
        self._sessions: dict[str, Any] = {}
        self._opening = Lock()
        self._graphs = count(1)

    @cached_property
    def fingerprint(self) -> str:
        return f"gpt-sovits/{self.spec.version}/{self.spec.precision}/{self.digest[:16]}"

    @property
    def uses_cuda(self) -> bool:
        return inference.providers().has_cuda and not self.cpu_only

    @property
    def device(self) -> str:
        """The device and the reason it was chosen, for people."""
        if self.cpu_only:
            return "cpu: requested by the caller"
        return f"{'cuda' if self.uses_cuda else 'cpu'}: {inference.providers().reason}"

    @property
    def has_8bit_t2s(self) -> bool:
        """T2S has 8-bit weights, keys and values."""
        return self.spec.precision in ("int8", "fast")

    @cached_property
    def step_graph(self) -> str:
        """Name of the T2S step graph for this CPU."""
        return STEP_VNNI if self._vnni and f"{STEP_VNNI}.onnx" in self.spec.parts else "step"

    def runs_on_cuda(self, graph: str) -> bool:
        """Report whether a graph runs on CUDA, which lacks the operators of 8-bit T2S."""
        return (
            self.uses_cuda and graph not in _CPU_ONLY and not (self.has_8bit_t2s and graph in _T2S)
        )

    def next_graph(self) -> int:
        """Return a number that no CUDA graph of this bundle has."""
        return next(self._graphs)

    def run(self, graph: str, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Return the values of `outputs` in order."""
        return list(self.session(graph).run(outputs, inputs))

    def session(self, graph: str) -> Any:
        """Return an ONNX Runtime session. Raises Misconfigured MODEL_INVALID on a damaged file."""
        with self._opening:
            if graph not in self._sessions:
                self._sessions[graph] = self._open(graph)
            return self._sessions[graph]

    def _open(self, graph: str) -> Any:
        if graph in _T2S and self.has_8bit_t2s and not inference.runtime_is_at_least(_INT8_SINCE):
            old = "This bundle needs ONNX Runtime 1.27: upgrade it or convert with --precision fp32"
            raise Misconfigured("MODEL_INVALID", old)
        path = self.folder / f"{graph}.onnx"
        threads = 1 if graph in _SINGLE_THREADED else self.threads
        on_cuda = self.runs_on_cuda(graph)
        rewrite = None
        if on_cuda if self._rewrite is None else self._rewrite:
            from core.voice.gpt_sovits import cuda  # imported late: only CUDA needs onnx

            rewrite = partial(cuda.rewrite, graph)
        with raising(Misconfigured("MODEL_INVALID", f"{path} cannot be loaded"), on=Exception):
            return open_graph(
                path,
                rewrite=rewrite,
                threads=threads,
                cpu_only=not on_cuda,
                reuse_buffers=graph not in _T2S,
                cuda_graphs=self.cuda_graphs and graph == "step",
            )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_spec(folder: Path) -> tuple[Spec, str]:
    if not (folder / SPEC).is_file():
        raise Misconfigured("MODEL_MISSING", f"{folder} has no {SPEC}. {HOW_TO_GET}")
    data = (folder / SPEC).read_bytes()
    damaged = Misconfigured("MODEL_INVALID", f"{folder / SPEC} is damaged: convert the model again")
    with raising(damaged, on=(msgspec.DecodeError, RecursionError)):
        spec = msgspec.json.decode(data, type=Spec)
    if spec.schema != SCHEMA:
        raise Misconfigured("MODEL_INVALID", f"{folder} has the unknown format {spec.schema}")
    for name, part in spec.parts.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != part.size:
            raise Misconfigured(
                "MODEL_INVALID", f"{path} is missing or truncated: convert the model again"
            )
    return spec, hashlib.sha256(data).hexdigest()
