"""Opens ONNX Runtime sessions and chooses their device, threads and log level."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from core.errors import importing

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime as ort
    from numpy.typing import NDArray

T = TypeVar("T")

_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {
    # TF32 multiplies with 10-bit mantissas, so GPT-SoVITS chooses other tokens than on a CPU.
    "use_tf32": "0",
    # The default benchmarks every algorithm for each new audio length: seconds a sentence.
    "cudnn_conv_algo_search": "HEURISTIC",
}
_LOG_FATAL = 4
"""Probing CUDA on a machine without it logs errors although nothing is wrong."""
_LOG_ERRORS = 3

_IDENTITY_MODEL = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)
"""A serialised model, y = x. Only opening a session on CUDA shows that the driver, CUDA and cuDNN
are compatible."""


@dataclass(frozen=True, slots=True)
class Providers:
    """The execution providers chosen for this machine."""

    names: tuple[str, ...]
    """ONNX Runtime's names, in order of preference."""
    reason: str
    """Explanation that `voicedrop doctor` shows."""

    @property
    def has_cuda(self) -> bool:
        return _CUDA in self.names


@cache
def providers() -> Providers:
    """Return CUDA and the CPU if a session can be opened on CUDA, otherwise the CPU. Cached."""
    has_device = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    return choose_providers(_onnxruntime().get_available_providers(), has_device, _can_start_cuda)


def choose_providers(
    built_in: Sequence[str], has_device: bool, can_start_cuda: Callable[[], bool]
) -> Providers:
    """Choose from the build's providers; `can_start_cuda` is called only if CUDA is possible."""
    cpu = ("CPUExecutionProvider",)
    if _CUDA not in built_in:
        return Providers(cpu, "this build of ONNX Runtime has no CUDA")
    if not has_device:
        return Providers(cpu, "no NVIDIA device on this machine")
    if not can_start_cuda():
        return Providers(cpu, "an NVIDIA device is present, but CUDA or cuDNN could not be loaded")
    return Providers((_CUDA, *cpu), "CUDA works here")


def _can_start_cuda() -> bool:
    runtime = _onnxruntime()
    runtime.preload_dlls()  # finds CUDA and cuDNN inside nvidia-* wheels too
    options = _session_options(1, log=_LOG_FATAL)
    both = [_CUDA, "CPUExecutionProvider"]
    probe = runtime.InferenceSession(_IDENTITY_MODEL, options, providers=both)
    return _CUDA in probe.get_providers()


def runtime_is_at_least(version: tuple[int, int]) -> bool:
    """Compare the installed version of ONNX Runtime with (major, minor)."""
    major, minor = _onnxruntime().__version__.split(".")[:2]
    return (int(major), int(minor)) >= version


def open_session(
    model: Path | bytes,
    *,
    threads: int | None = None,
    cpu_only: bool = False,
    reuse_buffers: bool = True,
    cuda_graphs: bool = False,
    files: Mapping[str, NDArray[np.uint8]] | None = None,
) -> ort.InferenceSession:
    """Open a model on the best device of this machine.

    `threads` limits the CPU provider (default: every usable CPU). `cpu_only` is for small models,
    for which copying to the GPU takes longer than computing. Without `reuse_buffers`, a graph of a
    thousand nodes whose shapes are unknown is opened in a fifth of the time: ONNX Runtime compares
    each tensor with every earlier one, and finds none of the same shape. With `cuda_graphs`, runs
    on CUDA that have a `gpu_graph_id` are captured, see `graph_run`. `files` are contents of
    external data files that are not on the disk. Raises ONNX Runtime's own exceptions if the file
    is not a valid model.
    """
    runtime = _onnxruntime()
    names = ("CPUExecutionProvider",) if cpu_only else providers().names
    on_cuda = _CUDA_OPTIONS | {"enable_cuda_graph": str(int(cuda_graphs))}
    chosen = [(name, on_cuda if name == _CUDA else {}) for name in names]
    source = model if isinstance(model, bytes) else str(model)
    options = _session_options(threads or usable_cpus())
    options.enable_mem_reuse = reuse_buffers
    if files:
        sizes = [len(data) for data in files.values()]
        options.add_external_initializers_from_files_in_memory(
            list(files), list(files.values()), sizes
        )
    if _CUDA not in names:
        # On CPUs, Add followed by LayerNormalization is 1.4 to 6 times as fast as the fused node.
        options.add_session_config_entry(
            "optimization.disable_specified_optimizers", "SkipLayerNormFusion"
        )
    return runtime.InferenceSession(source, options, providers=chosen)


def graph_run(number: int) -> ort.RunOptions:
    """Return the options of runs that are captured as CUDA graph `number`, or replay it.

    A graph repeats the launches of kernels with the shapes and addresses of its capture: all inputs
    and outputs must be bound to memory on the device, always the same, and all runs be made by one
    thread. The third run captures; meanwhile no other thread may use the device. The CPU ignores
    the option.
    """
    options: ort.RunOptions = _onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


@cache
def usable_cpus() -> int:
    """Count the CPUs this process may use: the smaller of affinity mask and cgroup quota."""
    all_cpus = os.cpu_count() or 1  # macOS and Windows have no affinity masks
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else all_cpus
    return max(1, min(allowed, cgroup_cpus(Path("/sys/fs/cgroup"), unlimited=allowed)))


@cache
def gpu_memory() -> int:
    """Return the memory of the first CUDA device in bytes, or 0 if its driver cannot be asked."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    device, size = ctypes.c_int(), ctypes.c_size_t()
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    )
    return 0 if failed else size.value


@cache
def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Report whether the CPU has AVX-512 VNNI, which multiplies and adds four bytes at once."""
    try:
        return "avx512_vnni" in cpuinfo.read_text().split()
    except OSError:  # macOS and Windows
        return False


def cgroup_cpus(root: Path, *, unlimited: int) -> int:
    """Return the CPU limit of the cgroup at `root` (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), rounded
    up, or `unlimited` if there is no limit or no cgroup."""
    try:
        if (root / "cpu.max").exists():
            granted, period = (root / "cpu.max").read_text().split()
        else:
            granted = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        return math.ceil(int(granted) / int(period)) if int(granted) > 0 else unlimited
    except (OSError, ValueError):  # no cgroup, or the word "max"
        return unlimited


class LoadedOnce(Generic[T]):
    """A function like `functools.cache` makes of one without arguments, for what is large: threads
    that call it at once wait for the first one, instead of loading it several times."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._lock, self._load = threading.Lock(), cache(load)
        self.cache_clear, self.cache_info = self._load.cache_clear, self._load.cache_info

    def __call__(self) -> T:
        with self._lock:
            return self._load()


def _session_options(threads: int, *, log: int = _LOG_ERRORS) -> ort.SessionOptions:
    options = _onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = log
    # Spinning threads take CPU time from other processes in the container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # ONNX Runtime allocates a memory pattern for each input shape, and every sentence has a new
    # length: patterns took a third more memory in the vocoder and saved no time.
    options.enable_mem_pattern = False
    # Without VNNI, x86 adds two products of bytes in saturating 16-bit arithmetic, which makes
    # speech audibly noisy. This option multiplies signed weights exactly instead. Sessions cannot
    # be opened with it if nodes share the int8 zero point of their weights.
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@cache
def _onnxruntime() -> Any:
    with importing("ONNX Runtime", ("onnxruntime",), "cpu"):
        import onnxruntime  # imported late: slow, and many commands do not need it

    onnxruntime.set_default_logger_severity(_LOG_FATAL)
    return onnxruntime
