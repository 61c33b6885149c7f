"""What runs on CUDA, computed on a CPU: graphs as they are rewritten, and the cache of a device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from core.voice.gpt_sovits import cuda
from core.voice.gpt_sovits.batch import open_cache
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.device_cache import DeviceCache
from core.voice.gpt_sovits.kv_cache import rows_that_fit
from core.voice.gpt_sovits.synthesis import encode, flow, make_noise, vocode
from core.voice.gpt_sovits.t2s import Decoder
from tests.voice.gpt_sovits.test_t2s import decode, decode_alone, t2s_input

SLOW_ON_CUDA = {"Conv", "ConvTranspose", "TensorScatter"}


@pytest.fixture(scope="module")
def rewritten(bundle: Bundle) -> Bundle:
    return Bundle(bundle.folder, threads=2, cpu_only=True, rewrite=True, cuda_graphs=True)


@pytest.mark.parametrize("graph", ["step", "encode", "flow", "vocoder"])
def test_nothing_that_is_slow_on_cuda_is_left(bundle: Bundle, graph: str) -> None:
    model = (bundle.folder / f"{graph}.onnx").read_bytes()
    kinds = {node.op_type for node in onnx.load_from_string(cuda.rewrite(graph, model)).graph.node}
    assert {node.op_type for node in onnx.load_from_string(model).graph.node} & SLOW_ON_CUDA
    assert not kinds & SLOW_ON_CUDA


def test_rewritten_graphs_compute_the_same_speech(bundle: Bundle, rewritten: Bundle) -> None:
    random = np.random.default_rng(0)
    timbre = random.standard_normal((1, 72, 1), np.float32) * np.float32(0.3)
    ids, phones = random.integers(0, 1024, 7), random.integers(0, 700, 20)
    waves = []
    for each in (bundle, rewritten):
        latent = encode(each, ids, phones, timbre)
        z = flow(each, latent, make_noise(each, latent.shape[1], (1,)), timbre)
        waves.append(vocode(each, z, timbre))
    noise = np.square(waves[1] - waves[0]).mean()
    assert 10 * np.log10(np.square(waves[0]).mean() / noise) > 90


def test_rewritten_steps_choose_the_same_tokens(bundle: Bundle, rewritten: Bundle) -> None:
    decoder = Decoder(rewritten, rows=3, device="cpu")
    for _ in range(2):  # the second time, the cache is there already
        assert decode(decoder, [t2s_input(rewritten, seed) for seed in range(5)]) == [
            decode_alone(bundle, seed) for seed in range(5)
        ]


def test_steps_of_a_device_repeat_shapes_and_addresses(bundle: Bundle) -> None:
    """Rows come and go; memory is allocated again only for more rows or positions than before."""
    spec = bundle.spec.t2s
    device, host = (open_cache(bundle, name) for name in ("cpu", ""))
    assert isinstance(device, DeviceCache)
    random, addresses = np.random.default_rng(0), set[int]()
    lengths = [30, 40, 50]
    for cache in (device, host):
        random = np.random.default_rng(0)
        for length in lengths:
            shape = (spec.layers, spec.heads, length, spec.head_width)
            keys, values = (random.standard_normal(shape, np.float32) for _ in range(2))
            cache.add_row(keys, values, 51)
    for kept, capacity in (([0, 1, 2], 60), ([2, 0], 60), ([1], 600), ([0], 601)):
        for cache in (device, host):
            cache.keep_rows(kept)
        lengths = [lengths[i] for i in kept]
        ones = np.ones(len(kept), np.int64)
        steps = [cache.step(ones, ones, np.array(lengths), capacity) for cache in (device, host)]
        np.testing.assert_array_equal(steps[0], steps[1])
        for mine, other in zip(device.row(0, 31), host.row(0, 31), strict=True):
            np.testing.assert_array_equal(mine, other)
        addresses.add(device._memory[0].data_ptr())
    assert len(addresses) == 1
    assert set(device._steps) == {(4, 512), (1, 1024)}


@pytest.mark.parametrize(
    ("gigabytes", "rows"), [(0, 8), (8, 8), (16, 16), (24, 32), (48, 64), (141, 64)]
)
def test_the_rows_of_a_gpu_fit_into_its_memory(gigabytes: int, rows: int) -> None:
    assert rows_that_fit(gigabytes * 2**30, 2 * 24 * 512 * 2048 * 4) == rows


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_works_without_one(bundle: Bundle) -> None:
    """`python -m bench.gpu --device cpu --quick` runs all its sections."""
    command = [sys.executable, "-m", "bench.gpu", str(bundle.folder), "--quick"]
    options = ["--device", "cpu", "--sections", "steps,batch"]
    root = Path(__file__).parents[3]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, cwd=root)
    assert (ran.returncode, ran.stderr) == (0, "")
    for figure in ("T2S step of 8 rows", "a batch of 6 items | ", "(6 made"):
        assert figure in ran.stdout
