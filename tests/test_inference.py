from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from core import inference
from core.errors import Misconfigured
from tests.support.stores import together


def cgroup(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"cpu.max": "150000 100000\n"}, 2, id="v2-rounds-up"),
        pytest.param({"cpu.max": "max 100000\n"}, 7, id="v2-unlimited"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4, id="v1"
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 7, id="v1-none"
        ),
        pytest.param({}, 7, id="no-cgroup"),
    ],
)
def test_threads_follow_the_cgroup_quota(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert inference.cgroup_cpus(cgroup(tmp_path, files), unlimited=7) == expected


def test_at_least_one_cpu_is_usable() -> None:
    assert inference.usable_cpus() >= 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param("flags : avx2 avx512f avx512_vnni\n", True, id="vnni"),
        pytest.param("flags : avx2 avx_vnni\n", False, id="narrow-vectors-only"),
        pytest.param(None, False, id="no-file"),
    ],
)
def test_vnni_is_read_from_the_cpus_flags(
    tmp_path: Path, flags: str | None, expected: bool
) -> None:
    inference.has_vnni.cache_clear()  # the folder of a test that passed is used again
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(flags)
    assert inference.has_vnni(cpuinfo) is expected


def test_a_session_runs_and_uses_the_providers_we_report() -> None:
    session = inference.open_session(inference._IDENTITY_MODEL)
    (y,) = session.run(None, {"x": np.array([3.5], np.float32)})
    assert y == 3.5
    assert session.get_providers() == list(inference.providers().names)
    assert inference.providers().has_cuda == ("CUDAExecutionProvider" in session.get_providers())
    assert inference.providers().reason


@pytest.mark.parametrize(
    ("built_in", "has_device", "starts", "has_cuda", "reason"),
    [
        pytest.param(["CPUExecutionProvider"], True, True, False, "no CUDA", id="cpu-build"),
        pytest.param([inference._CUDA], False, True, False, "no NVIDIA device", id="no-device"),
        pytest.param([inference._CUDA], True, False, False, "could not be loaded", id="no-cudnn"),
        pytest.param([inference._CUDA], True, True, True, "works", id="cuda"),
    ],
)
def test_the_device_is_chosen_for_a_stated_reason(
    built_in: list[str], has_device: bool, starts: bool, has_cuda: bool, reason: str
) -> None:
    chosen = inference.choose_providers(built_in, has_device, lambda: starts)
    assert chosen.has_cuda is has_cuda
    assert reason in chosen.reason
    assert chosen.names[-1] == "CPUExecutionProvider"


def test_probing_cuda_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    if inference._CUDA not in inference._onnxruntime().get_available_providers():
        pytest.skip("this build of ONNX Runtime has no CUDA")
    assert inference._can_start_cuda() == inference.providers().has_cuda
    assert capfd.readouterr().err == ""


def test_small_models_can_be_kept_on_the_cpu() -> None:
    session = inference.open_session(inference._IDENTITY_MODEL, threads=1, cpu_only=True)
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 1


@pytest.mark.slow
def test_opening_a_session_prints_nothing() -> None:
    """A GPU build must not print CUDA errors on a machine without a GPU."""
    code = (
        "from core import inference as i; i.open_session(i._IDENTITY_MODEL); "
        "print(i.providers().reason)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""


@pytest.fixture
def fake_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is first on Python's path, for a fake ONNX Runtime."""
    inference._onnxruntime.cache_clear()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    yield tmp_path
    inference._onnxruntime.cache_clear()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "raise ModuleNotFoundError('No module', name='onnxruntime')",
            "ONNX Runtime is not installed. Install it: scripts/setup cpu",
        ),
        (
            "raise ImportError('libcublasLt.so.13: no such file')",
            "ONNX Runtime is installed but cannot be loaded: libcublasLt.so.13: no such file",
        ),
        (
            "import onnxruntime_parts_that_are_not_there",
            "ONNX Runtime is installed but cannot be loaded: "
            "No module named 'onnxruntime_parts_that_are_not_there'",
        ),
    ],
    ids=["not installed", "a library is missing", "a module is missing"],
)
def test_a_runtime_that_cannot_be_loaded_says_why(
    fake_packages: Path, source: str, message: str
) -> None:
    (fake_packages / "onnxruntime.py").write_text(source)
    with pytest.raises(Misconfigured, match="MODEL_MISSING") as caught:
        inference.open_session(inference._IDENTITY_MODEL)
    assert caught.value.message == message


def test_importing_the_module_does_not_load_onnx_runtime() -> None:
    code = "import sys, core.inference; sys.exit('onnxruntime' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_products_of_bytes_are_exact_on_this_processor() -> None:
    """Without VNNI, sums of two products of bytes saturate at 16 bits on x86, unless disabled."""
    import onnx as format_
    from onnx import helper, numpy_helper

    floats, byte = format_.TensorProto.FLOAT, format_.TensorProto.UINT8
    weights = np.full((64, 32), 127, np.int8)
    constants = {"w": weights, "one": np.float32(1), "zero": np.uint8(0), "signed": np.int8(0)}
    node = helper.make_node(
        "MatMulIntegerToFloat", ["x", "w", "one", "one", "zero", "signed"], ["y"],
        domain="com.microsoft",
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", byte, [1, 64])],
        [helper.make_tensor_value_info("y", floats, [1, 32])],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = inference.open_session(model.SerializeToString(), threads=1, cpu_only=True)
    (y,) = session.run(None, {"x": np.full((1, 64), 255, np.uint8)})
    np.testing.assert_array_equal(y, 64 * 255 * 127)


def test_matrix_products_take_one_thread_wherever_the_product_is_entered() -> None:
    """A second thread would only wait for the next small product, at the cost of a processor."""
    entries = "import handlers.cli.app, handlers.oss, handlers.server.app"
    measure = "import numpy, threadpoolctl; pools = threadpoolctl.threadpool_info()"
    program = f"{entries}; {measure}; print({{pool['num_threads'] for pool in pools}})"
    environ = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True)
    assert done.stdout.decode().strip() == "{1}", done.stderr.decode()


@pytest.mark.parametrize(
    "location", ["../secret", "link", "sub/../../secret", "{absolute}", "//proc/self/environ"]
)
def test_a_model_reads_no_file_outside_its_folder(tmp_path: Path, location: str) -> None:
    """Weights may be in a file beside the model, as those of a large network are."""
    (tmp_path / "bundle").mkdir()
    for name in ("secret", "bundle/weights"):
        (tmp_path / name).write_bytes(b"0123456789abcdef")
    (tmp_path / "bundle/link").symlink_to(tmp_path / "secret")
    beside = save_model(tmp_path / "bundle/beside.onnx", "weights")
    (read,) = inference.open_session(beside, cpu_only=True).run(None, {})
    assert bytes(read) == b"01234567"
    outside = location.format(absolute=tmp_path / "secret")
    with pytest.raises(Exception, match=r"(?i)external"):
        inference.open_session(save_model(tmp_path / "bundle/m.onnx", outside), cpu_only=True)


def test_what_is_loaded_once_is_loaded_by_the_first_of_several_threads() -> None:
    calls: list[int] = []

    @inference.LoadedOnce
    def load() -> object:
        calls.append(1)
        time.sleep(0.05)
        return object()

    assert len(set(together(4, lambda _: load()))) == len(calls) == 1
    load.cache_clear()
    load()
    assert len(calls) == 2


def save_model(path: Path, location: str) -> Path:
    """Write a model that returns eight bytes of the file at `location`."""
    weights = onnx.TensorProto(name="w", data_type=onnx.TensorProto.UINT8, dims=[8])
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "8"}.items():
        weights.external_data.add(key=key, value=value)
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, [8])
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [output], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path
