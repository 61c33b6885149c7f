"""Weights that are stored in fewer bits than a graph uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.voice.gpt_sovits import stored
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.convert.graph import Graph, Weights


def restore(
    form: stored.Form, data: np.ndarray, shape: tuple[int, ...], axis: int = 0
) -> np.ndarray:
    raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    entry = stored.Stored(
        form=form, shape=list(shape), offset=0, size=len(raw), place=0, length=0, axis=axis
    )
    return stored.restore(entry, raw)


@pytest.mark.parametrize(("bits", "least"), [(8, 38.0), (6, 27.0)])
@pytest.mark.parametrize("shape", [(24, 33), (7, 5, 3), (6, 4, 1, 5)])
def test_codes_are_close_to_the_weights(bits: int, least: float, shape: tuple[int, ...]) -> None:
    """Signal-to-noise ratio in dB, whichever axis has rows of different size."""
    random = np.random.default_rng(0)
    for axis in (0, 1):
        sizes = 10.0 ** random.uniform(-3, 3, [n if i == axis else 1 for i, n in enumerate(shape)])
        weight = (random.standard_normal(shape) * sizes).astype(np.float32)
        data, chosen = stored.round_to_codes(weight, bits)
        assert chosen == axis
        got = restore("codes6" if bits == 6 else "codes8", data, shape, chosen)
        assert got.dtype == np.float32
        noise = np.square(got - weight).sum() / np.square(weight).sum()
        assert -10 * np.log10(noise) > least


def test_all_codes_of_six_bits_survive_packing() -> None:
    codes = np.arange(-31, 32, dtype=np.float32)[None]
    data, axis = stored.round_to_codes(codes, 6)
    assert len(data) == 3 * 16 + 4
    np.testing.assert_allclose(restore("codes6", data, codes.shape, axis), codes, rtol=1e-6)


def test_half_precision_weights_are_exact() -> None:
    half = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float16)
    np.testing.assert_array_equal(restore("half", half, half.shape), half.astype(np.float32))


def test_seven_bits_are_rounded_from_eight() -> None:
    codes = np.arange(-127, 128, dtype=np.int8)[None]
    got = restore("seven", codes, codes.shape)
    np.testing.assert_array_equal(got, np.rint(codes * (64 / 127)).astype(np.int8))
    assert (got.min(), got.max()) == (-64, 64)


@pytest.mark.parametrize("inputs", [64, 128, 100])
def test_blocks_are_the_same_weights_transposed(inputs: int) -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (inputs, 3), np.int8)
    blocks = restore("blocks", codes, codes.shape)
    rows = blocks.reshape(3, -1).astype(int) - 128
    np.testing.assert_array_equal(rows[:, :inputs], codes.T)
    assert not rows[:, inputs:].any()


@pytest.mark.parametrize("bits", [6, 8, 16, 32])
def test_a_graph_computes_with_the_restored_weights(tmp_path: Path, bits: int) -> None:
    random = np.random.default_rng(0)
    weight, x = random.standard_normal((40, 30), np.float32), np.eye(40, dtype=np.float32)
    with Weights(tmp_path / stored.WEIGHTS) as weights:
        graph = Graph(weights, stored_bits=bits)
        graph.output("y", graph.op("MatMul", graph.input("x", ("n", 40)), weight), ("n", 30))
        graph.save(tmp_path / "g.onnx")
    assert (tmp_path / "g.json").exists() == (bits < 32)
    (got,) = stored.open_graph(tmp_path / "g.onnx", cpu_only=True).run(None, {"x": x})
    error = {6: 0.08, 8: 0.016, 16: 0.002, 32: 0}[bits]
    assert np.abs(got - weight).max() <= error
    stored_bytes = (tmp_path / stored.WEIGHTS).stat().st_size
    assert stored_bytes <= weight.size * bits / 8 + 4 * 40 + 128


@pytest.mark.slow
def test_both_forms_of_t2s_are_made_of_one(int8_bundle: Bundle) -> None:
    """The step graph for CPUs with VNNI reads the bytes of the other."""
    import msgspec

    read = {}
    for name in ("prefill", "step", "step_vnni"):
        data = (int8_bundle.folder / f"{name}.json").read_bytes()
        entries = msgspec.json.decode(data, type=list[stored.Stored])
        read[name] = {e.offset for e in entries if e.form in ("seven", "blocks")}
    assert read["prefill"] == read["step"] < read["step_vnni"]
