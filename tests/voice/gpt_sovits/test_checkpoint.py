"""Reading checkpoints of unknown origin: exactly, or not at all."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from core.errors import Refused
from core.voice.gpt_sovits.convert import checkpoint, unpickle
from tests.support import torch_files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def refused(path: Path) -> Refused:
    with pytest.raises(Refused) as caught:
        checkpoint.open_checkpoint(path)
    assert path.name in str(caught.value)
    return caught.value


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", "<i8"])
def test_tensors_come_back_as_they_were_written(path: Path, dtype: str) -> None:
    value = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    read = checkpoint.open_checkpoint(torch_files.write(path, {"a.weight": value}))
    assert read.shape("a.weight") == (3, 4)
    assert read.load("a.weight").dtype == np.float32
    np.testing.assert_array_equal(read.load("a.weight"), value)


@pytest.mark.parametrize("header", [b"05", b"06", b"PK"])
def test_a_version_code_in_place_of_the_first_bytes_is_allowed(path: Path, header: bytes) -> None:
    torch_files.write(path, {"w": np.ones(3, "<f4")}, {"model": {"n": 2}}, header=header)
    assert checkpoint.open_checkpoint(path).setting("model", "n") == 2


def test_other_first_bytes_are_refused(path: Path) -> None:
    torch_files.write(path, {"w": np.ones(3, "<f4")}, header=b"99")
    assert refused(path).code == "CHECKPOINT_INVALID"


def test_views_into_a_storage_are_followed(path: Path) -> None:
    body = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQ"
        b"K\x01K\x02K\x03\x86K\x01K\x04\x86\x89NtRs."
    )
    data = np.arange(12, dtype="<f4").tobytes()
    torch_files.write_zip(path, {"a/data.pkl": body, "a/data/0": data})
    assert checkpoint.open_checkpoint(path).load("w").tolist() == [[1, 5, 9], [2, 6, 10]]


def test_hparams_become_plain_settings(path: Path) -> None:
    """Fine-tuned models pickle an instance of HParams; only its attributes are read."""
    inner = b"cutils\nHParams\n)\x81}X\x05\x00\x00\x00ratesK\x0asb"
    config = b"cutils\nHParams\n)\x81}X\x05\x00\x00\x00model" + inner + b"sb"
    body = b"\x80\x02}(X\x06\x00\x00\x00weight}X\x06\x00\x00\x00config" + config + b"u."
    read = checkpoint.open_checkpoint(torch_files.write_pickle(path, body))
    assert read.setting("model", "rates") == 10


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("os.system", b"cos\nsystem\nX\x02\x00\x00\x00id\x85R."),
        ("builtins.eval", b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R."),
        ("torch.load", b"ctorch\nload\n)R."),
        ("numpy.core.multiarray.scalar", b"cnumpy.core.multiarray\nscalar\n)R."),
    ],
)
def test_a_pickle_that_would_run_code_is_refused_by_name(
    path: Path, name: str, call: bytes
) -> None:
    error = refused(torch_files.write_pickle(path, b"\x80\x02" + call))
    assert error.code == "CHECKPOINT_UNSAFE"
    assert name in error.message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x80\x02\x8a\x01\x01\x93.", id="STACK_GLOBAL"),
        pytest.param(b"\x80\x02(cos\nsystem\no.", id="OBJ"),
        pytest.param(b"\x80\x02\x82\x01.", id="EXT1"),
        pytest.param(b"(ios\nsystem\n.", id="INST"),
    ],
)
def test_opcodes_that_torch_does_not_write_are_refused(path: Path, body: bytes) -> None:
    assert refused(torch_files.write_pickle(path, body)).code == "CHECKPOINT_UNSAFE"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"\x80\x02", "", id="cut"),
        pytest.param(b"\x80\x02.", "", id="empty stack"),
        pytest.param(b"\x80\x02\x85.", "stack underflow", id="underflow"),
        pytest.param(b"\x80\x02NK\x01s.", "stack underflow", id="dict underflow"),
        pytest.param(b"\x80\x02]K\x01Ns.", "", id="items of a list"),
        pytest.param(b"\x80\x02}K\x01Ns.", "a key is not a string", id="key no string"),
        pytest.param(b"\x80\x02h\x09.", "", id="no memo"),
        pytest.param(b"\x80\x02K\x01)R.", "", id="calls a number"),
        pytest.param(
            b"\x80\x02ctorch\nFloatStorage\n)R.",
            "FloatStorage is called with arguments that are not tensors",
            id="calls a storage",
        ),
        pytest.param(b"\x80\x02K\x01.", "", id="no mapping"),
        pytest.param(b"\x80\x02K\x01\x85Q.", "", id="persistent id"),
        pytest.param(
            b"\x80\x02(NNNNNtQ.",
            "a persistent id is not a storage",
            id="persistent id of nothing",
        ),
        pytest.param(
            b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NNtQ.",
            "a storage has no size",
            id="storage without size",
        ),
        pytest.param(
            b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.",
            "_rebuild_parameter is called with arguments that are not tensors",
            id="parameter of None",
        ),
        pytest.param(
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.",
            "a tensor has no storage or negative sizes",
            id="tensor of None",
        ),
        pytest.param(
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n()K\x00)K\x01\x85tR.",
            "the strides of a tensor do not fit its shape",
            id="strides",
        ),
        pytest.param(
            b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02\x86\x85tR.",
            "a key is not a string",
            id="pairs",
        ),
    ],
)
def test_a_damaged_pickle_is_described(path: Path, body: bytes, reason: str) -> None:
    error = refused(torch_files.write_pickle(path, body))
    assert error.code == "CHECKPOINT_INVALID"
    assert error.message.partition("its pickle is damaged: ")[2] == reason


@pytest.mark.slow
def test_tuples_nested_without_end_neither_hang_nor_crash(path: Path) -> None:
    deep = b"\x80\x02)" + b"\x85" * 200_000 + b"."
    doubled = b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"."  # 2**60 elements, if it were traversed
    for body in (deep, doubled):
        assert refused(torch_files.write_pickle(path, body)).code == "CHECKPOINT_INVALID"


def test_a_pickle_of_absurd_size_is_refused(path: Path) -> None:
    huge = b"\x80\x02" + b"N" * unpickle.MAX_BYTES
    assert refused(torch_files.write_pickle(path, huge)).code == "CHECKPOINT_UNSAFE"
    with pytest.raises(Refused, match="CHECKPOINT_UNSAFE"):
        unpickle.loads(huge)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "a\\b"])
def test_zip_members_that_point_elsewhere_are_refused(path: Path, name: str) -> None:
    members = {"archive/data.pkl": b"\x80\x02}.", name: b"x"}
    assert refused(torch_files.write_zip(path, members)).code == "CHECKPOINT_UNSAFE"


def test_two_members_of_one_name_are_refused(path: Path) -> None:
    torch_files.write_zip(
        path, {"archive/data.pkl": b"\x80\x02}.", "archive/data.pkk": b"\x80\x02N."}
    )
    path.write_bytes(path.read_bytes().replace(b"data.pkk", b"data.pkl"))
    assert refused(path).code == "CHECKPOINT_UNSAFE"


def test_sizes_beyond_the_file_are_refused(path: Path) -> None:
    torch_files.write(path, {"w": np.ones(4, "<f4")})
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 20 : directory + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    error = refused(path)
    assert error.code == "CHECKPOINT_INVALID"
    assert "more than the file has" in error.message


@pytest.mark.parametrize(
    ("shape", "stride", "count"),
    [((9,), (1,), 8), ((2,), (8,), 8), ((2**40,), (0,), 8), ((3,), (1,), 4)],
    ids=["long", "strided", "repeated without end", "storage of another size"],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(
    path: Path, shape: tuple[int], stride: tuple[int], count: int
) -> None:
    numbers = [b"\x8a\x06" + n.to_bytes(6, "little") for n in (count, shape[0], stride[0])]
    body = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + numbers[0]
        + b"tQK\x00"
        + numbers[1]
        + b"\x85"
        + numbers[2]
        + b"\x85\x89NtRs."
    )
    torch_files.write_zip(path, {"a/data.pkl": body, "a/data/0": bytes(32)})
    assert refused(path).code == "CHECKPOINT_INVALID"


def test_an_empty_tensor_is_empty(path: Path) -> None:
    read = checkpoint.open_checkpoint(torch_files.write(path, {"w": np.empty((0, 3), "<f4")}))
    assert read.load("w").shape == (0, 3)


@pytest.mark.parametrize("content", [b"", b"PK", b"RIFF" * 100, b"\x80\x02}."], ids=repr)
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refused(path).code == "CHECKPOINT_INVALID"


def test_a_missing_file_is_refused(path: Path) -> None:
    assert refused(path).code == "CHECKPOINT_INVALID"


def test_a_zip_without_a_pickle_is_refused(path: Path) -> None:
    assert refused(torch_files.write_zip(path, {"a/b": b""})).code == "CHECKPOINT_INVALID"


def test_big_endian_files_are_refused(path: Path) -> None:
    torch_files.write_zip(path, {"a/data.pkl": b"\x80\x02}.", "a/byteorder": b"big"})
    assert "big-endian" in refused(path).message


def test_missing_tensors_and_settings_are_named(path: Path) -> None:
    read = checkpoint.open_checkpoint(
        torch_files.write(path, {"w": np.ones(1, "<f4")}, {"model": {}})
    )
    with pytest.raises(Refused, match=r"the tensor dec\.x is missing"):
        read.load("dec.x")
    with pytest.raises(Refused, match=r"model\.n_heads"):
        read.setting("model", "n_heads")


def test_values_that_are_not_finite_are_refused(path: Path) -> None:
    read = checkpoint.open_checkpoint(torch_files.write(path, {"w": np.array([1, np.nan], "<f4")}))
    with pytest.raises(Refused, match="not finite"):
        read.load("w")


@pytest.mark.slow
def test_random_damage_never_ends_in_another_error(path: Path) -> None:
    """A short version of a fuzz test that has run for minutes."""
    config = {"model": {"a": [1, 2.5, None, True], "b": "text"}}
    torch_files.write(path, {"w": np.ones((2, 3), "<f4"), "v": np.ones(5, "<f2")}, config)
    original, dice = path.read_bytes(), random.Random(1)
    for _ in range(400):
        data = bytearray(original)
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data[: dice.choice([len(data), dice.randrange(len(data))])])
        try:
            read = checkpoint.open_checkpoint(path)
            for key in read.tensors:
                read.load(key)
        except Refused as error:
            assert error.code.startswith("CHECKPOINT_")  # noqa: PT017


def safetensors(path: Path, header: object, body: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def test_safetensors_are_read(tmp_path: Path) -> None:
    floats, half = np.arange(6, dtype="<f4"), np.array([1.5, -2], "<f2")
    brain = (np.array([3.0, -0.5], "<f4").view("<u4") >> 16).astype("<u2")
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "F16", "shape": [2], "data_offsets": [24, 28]},
        "c": {"dtype": "BF16", "shape": [2], "data_offsets": [28, 32]},
    }
    body = floats.tobytes() + half.tobytes() + brain.tobytes()
    read = checkpoint.open_checkpoint(safetensors(tmp_path / "m.safetensors", header, body))
    assert read.load("a").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read.load("b").tolist() == [1.5, -2]
    assert read.load("c").tolist() == [3.0, -0.5]


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 80]}},
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
        {"a": {"dtype": "Q4", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32"}},
        {"a": 1},
        [],
    ],
    ids=["beyond", "shape", "type", "fields", "entry", "list"],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, header: object) -> None:
    path = safetensors(tmp_path / "m.safetensors", header, bytes(8))
    assert refused(path).code == "CHECKPOINT_INVALID"


@pytest.mark.parametrize("content", [b"1234", struct.pack("<Q", 2**60) + b"{}"])
def test_cut_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert refused(path).code == "CHECKPOINT_INVALID"
