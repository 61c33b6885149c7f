"""The one place that makes ONNX Runtime sessions: which device, how many threads, how quietly."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import importing

if TYPE_CHECKING:
    import onnxruntime as ort

_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {
    # TF32 keeps ten bits of every factor: tokens then differ from those of the CPU.
    "use_tf32": "0",
    # The default tries every algorithm anew for each length of sound: seconds a sentence.
    "cudnn_conv_algo_search": "HEURISTIC",
}
_QUIET = 4
"""Fatal only: probing CUDA on a machine without it logs errors that are the answer, not a fault."""
_WARNINGS_OFF = 3

_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)
"""The smallest model there is, y = x, in ONNX's protobuf: only a session that really starts on
CUDA proves that driver, CUDA and cuDNN fit together."""


@dataclass(frozen=True, slots=True)
class Providers:
    names: tuple[str, ...]
    """Execution providers in order of preference, as ONNX Runtime names them."""
    reason: str
    """Why these, for people: shown by `voicedrop doctor`."""

    @property
    def cuda(self) -> bool:
        return _CUDA in self.names


@cache
def providers() -> Providers:
    """CUDA if a session really starts on it here, otherwise the CPU; decided once a process."""
    device = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    return decide(_runtime().get_available_providers(), device, _cuda_starts)


def decide(built: Sequence[str], device: bool, starts: Callable[[], bool]) -> Providers:
    """From what the build offers, whether there is an NVIDIA device, and a trial start on it."""
    cpu = ("CPUExecutionProvider",)
    if _CUDA not in built:
        return Providers(cpu, "this build of ONNX Runtime has no CUDA")
    if not device:
        return Providers(cpu, "no NVIDIA device on this machine")
    if not starts():
        return Providers(cpu, "there is an NVIDIA device, but CUDA or cuDNN could not be loaded")
    return Providers((_CUDA, *cpu), "CUDA works here")


def _cuda_starts() -> bool:
    runtime = _runtime()
    runtime.preload_dlls()  # finds CUDA and cuDNN inside nvidia-* wheels too
    both = [_CUDA, "CPUExecutionProvider"]
    probe = runtime.InferenceSession(_IDENTITY, _options(1, log=_QUIET), providers=both)
    return _CUDA in probe.get_providers()


def at_least(version: tuple[int, int]) -> bool:
    """Whether this ONNX Runtime is as new as that."""
    major, minor = _runtime().__version__.split(".")[:2]
    return (int(major), int(minor)) >= version


def session(
    model: Path | bytes, *, threads: int | None = None, cpu_only: bool = False
) -> ort.InferenceSession:
    """Open a model on the best device of this machine.

    `threads` is for the CPU part (default: every CPU we may use). `cpu_only` keeps small models
    off the GPU, where copying would cost more than computing. Raises what ONNX Runtime raises on a
    file that is no model; callers translate it.
    """
    runtime = _runtime()
    names = ("CPUExecutionProvider",) if cpu_only else providers().names
    chosen = [(name, _CUDA_OPTIONS if name == _CUDA else {}) for name in names]
    source = model if isinstance(model, bytes) else str(model)
    options = _options(threads or cpus())
    if _CUDA not in names:
        # On a CPU the norm of a sum takes a third to a sixth of the time where it is not fused.
        options.add_session_config_entry(
            "optimization.disable_specified_optimizers", "SkipLayerNormFusion"
        )
    return runtime.InferenceSession(source, options, providers=chosen)


@cache
def cpus() -> int:
    """CPUs this process may use: the smaller of its affinity mask and its cgroup quota."""
    everywhere = os.cpu_count() or 1  # macOS and Windows have no affinity masks
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everywhere
    return max(1, min(allowed, quota(Path("/sys/fs/cgroup"), unlimited=allowed)))


@cache
def vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies and adds four bytes at once in vectors of 512 bits."""
    try:
        return "avx512_vnni" in cpuinfo.read_text().split()
    except OSError:  # macOS and Windows
        return False


def quota(root: Path, *, unlimited: int) -> int:
    """CPUs granted by the cgroup mounted at `root` (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), rounded
    up; `unlimited` if it sets no limit or there is none."""
    try:
        if (root / "cpu.max").exists():
            granted, period = (root / "cpu.max").read_text().split()
        else:
            granted = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        return math.ceil(int(granted) / int(period)) if int(granted) > 0 else unlimited
    except (OSError, ValueError):  # no cgroup, or the word "max"
        return unlimited


def _options(threads: int, *, log: int = _WARNINGS_OFF) -> ort.SessionOptions:
    options = _runtime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = log
    # Threads that spin while they wait take the CPU from everything else in a container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # A plan of memory is made per shape of the inputs, and speech has a new length each time: it
    # took a block beside what was already had (a third more for the vocoder) and no time away.
    options.enable_mem_pattern = False
    # Without VNNI, x86 adds two products of bytes in 16 bits and cuts off what does not fit, which
    # one hears: speech drowns in noise. This has signed weights multiplied the exact way there.
    # Where the weights share an int8 zero point between nodes the session cannot be opened.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@cache
def _runtime() -> Any:
    with importing("ONNX Runtime", ("onnxruntime",), "cpu"):
        import onnxruntime  # a slow import that many commands do not need

    onnxruntime.set_default_logger_severity(_QUIET)
    return onnxruntime
