"""Reading checkpoints of unknown origin: exactly, or not at all."""

from __future__ import annotations

import itertools
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.errors import Refused
from core.voice.gpt_sovits.convert import checkpoint, unpickle
from core.voice.gpt_sovits.convert.layers import fold_weight_norm
from tests.support import torch_files
from tests.support.untraced import environ_without_coverage

ROOT = Path(__file__).parents[3]

TENSOR = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ"


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


def test_a_parameter_is_read_as_its_tensor(path: Path) -> None:
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00K\x01\x85K\x01\x85tR"
    body = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_parameter\n(" + tensor + b"\x88NtRs."
    )
    torch_files.write_zip(path, {"a/data.pkl": body, "a/data/0": struct.pack("<f", 1.5)})
    assert checkpoint.open_checkpoint(path).load("w").tolist() == [1.5]


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
        pytest.param(b"\x80\x02.", "stack underflow", id="empty stack"),
        pytest.param(b"\x80\x02\x85.", "stack underflow", id="underflow"),
        pytest.param(b"\x80\x02NK\x01s.", "stack underflow", id="dict underflow"),
        pytest.param(b"\x80\x02]K\x01Ns.", "an opcode is used on a list", id="items of a list"),
        pytest.param(b"\x80\x02}K\x01a.", "an opcode is used on a dict", id="append to a dict"),
        pytest.param(b"\x80\x02)}b.", "an opcode is used on a tuple", id="state of a tuple"),
        pytest.param(b"\x80\x02}(Nt(s.", "stack underflow", id="below a mark"),
        pytest.param(b"\x80\x02}K\x01Ns.", "a key is not a string", id="key no string"),
        pytest.param(b"\x80\x02}(Nu.", "a key is not a string", id="odd items"),
        pytest.param(b"\x80\x02h\x09.", "", id="no memo"),
        pytest.param(
            b"\x80\x02K\x01)R.", "something is called as a function of others", id="calls a number"
        ),
        pytest.param(
            b"\x80\x02ccollections\nOrderedDict\n]R.",
            "the arguments of a call are not a tuple",
            id="calls with a list",
        ),
        pytest.param(
            b"\x80\x02cutils\nHParams\n)R.",
            "utils.HParams is called as a function of others",
            id="calls a class",
        ),
        pytest.param(
            b"\x80\x02cutils\nHParams\n)\x81]b.",
            "attributes are not a mapping",
            id="attributes of a list",
        ),
        pytest.param(
            b"\x80\x02ctorch\nFloatStorage\n)R.",
            "torch.FloatStorage is called as a function of others",
            id="calls a storage",
        ),
        pytest.param(b"\x80\x02K\x01.", "", id="no mapping"),
        pytest.param(
            b"\x80\x02K\x01\x85Q.", "a persistent id is not a storage", id="persistent id"
        ),
        pytest.param(
            b"\x80\x02X\x05\x00\x00\x00aaaaaQ.",
            "a persistent id is not a storage",
            id="persistent id of a text",
        ),
        pytest.param(
            b"\x80\x02(X\x07\x00\x00\x00storagecutils\nHParams\nX\x01\x00\x00\x000NK\x01tQ.",
            "a storage has no element type",
            id="storage of records",
        ),
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
            "a parameter is not a tensor",
            id="parameter of None",
        ),
        pytest.param(
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.",
            "a tensor has no storage or no shape",
            id="tensor of None",
        ),
        pytest.param(
            TENSOR + STORAGE + b"tR.", "a tensor has no storage or no shape", id="tensor cut"
        ),
        pytest.param(
            TENSOR + STORAGE + b"K\x00)K\x01\x85tR.",
            "the strides of a tensor do not fit its shape",
            id="strides",
        ),
        pytest.param(
            TENSOR + STORAGE + b"K\x00](K\x01e](K\x01etR.",
            "a tensor has no storage or no shape",
            id="shape in a list",
        ),
        pytest.param(
            TENSOR + STORAGE + b"K\x00J\xff\xff\xff\xff\x85K\x01\x85tR.",
            "a tensor has sizes that are negative or no numbers",
            id="negative size",
        ),
        pytest.param(
            b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02\x86\x85tR.",
            "an OrderedDict is called with arguments",
            id="pairs",
        ),
    ],
)
def test_a_damaged_pickle_is_described(path: Path, body: bytes, reason: str) -> None:
    error = refused(torch_files.write_pickle(path, body))
    assert error.code == "CHECKPOINT_INVALID"
    assert error.message.partition("its pickle is damaged: ")[2] == reason


OPERANDS = {
    "none": b"N",
    "number": b"K\x01",
    "float": b"G\x3f\xf0\0\0\0\0\0\0",
    "text": b"X\x01\x00\x00\x00a",
    "tuple": b")",
    "pair": b"NN\x86",
    "list": b"](Ne",
    "dict": b"}X\x01\x00\x00\x00aNs",
    "class": b"cutils\nHParams\n",
    "function": b"ctorch._utils\n_rebuild_parameter\n",
    "record": b"cutils\nHParams\n)\x81",
    "storage": STORAGE,
    "tensor": TENSOR[2:] + STORAGE + b"K\x00K\x01\x85K\x01\x85tR",
    "doubled": b")" + b"q\x00h\x00\x86" * 60,  # 2**60 elements, if it were traversed
    "deep": b")" + b"\x85" * 2000,
    "mark": b"(",
}
OPCODES = (b"t", b"u", b"s", b"e", b"a", b"Q", b"R", b"\x81", b"b", b"q\x09", b"\x85", b"\x86")


@pytest.mark.slow
@pytest.mark.repeats
def test_every_opcode_refuses_operands_of_other_types_or_takes_them_as_they_are() -> None:
    """No pair of operands raises another error, hangs or crashes, whatever is on the stack."""
    for below, above in itertools.product(OPERANDS.values(), repeat=2):
        for opcode in OPCODES:
            try:
                unpickle.loads(b"\x80\x02" + below + above + opcode + b".")
            except Refused as error:
                assert error.code == "CHECKPOINT_INVALID"  # noqa: PT017


FLOOD = {
    "tuples in tuples": (b")", b"\x85"),
    "tuples that double": (b")", b"q\x00h\x00\x86"),
    "records in records": (b"}", b"q\x00cutils\nHParams\n)\x81}X\x01\x00\x00\x00ah\x00sb"),
    "lists that contain themselves": (b"]q\x00", b"h\x00a"),
    "dicts": (b"", b"}"),
    "one long list as the pairs of many dicts": (
        b"](" + b"X\x01\0\0\0aN\x86" * 12_000 + b"eq\x00ccollections\nOrderedDict\nq\x01",
        b"h\x01h\x00\x85R",
    ),
    "one long dict as the attributes of many records": (
        b"}(" + b"".join(b"X\x04\0\0\0%04dN" % n for n in range(10_000)) + b"uq\x00"
        b"cutils\nHParams\nq\x01",
        b"h\x01)\x81h\x00b",
    ),
    "keys that are tuples": (b")", b"q\x00h\x00\x86" * 30 + b"}h\x00Ns"),
    "marks": (b"", b"("),
}


OPEN_AND_TIME = """
import sys, time
from contextlib import suppress
from pathlib import Path
from core.errors import Refused
from core.voice.gpt_sovits.convert.checkpoint import open_checkpoint

for path in map(Path, sys.argv[1:]):
    start = time.process_time()
    with suppress(Refused):
        open_checkpoint(path)
    print(path.stem, time.process_time() - start, sep=": ", flush=True)
"""


@pytest.mark.slow
def test_constructions_repeated_without_end_neither_hang_nor_crash(tmp_path: Path) -> None:
    """In a process of its own, which coverage does not slow down and which may crash."""
    record = b"cutils\nHParams\n)\x81}X\x05\x00\x00\x00modelh\x00sb"
    end = b"}X\x06\x00\x00\x00weight}sX\x06\x00\x00\x00config" + record + b"s."
    paths = []
    for name, (first, repeated) in FLOOD.items():
        body = b"\x80\x02" + first + repeated * ((250_000 - len(first)) // len(repeated))
        paths.append(torch_files.write_pickle(tmp_path / f"{name}.ckpt", body + end))
    opened = subprocess.run(
        [sys.executable, "-c", OPEN_AND_TIME, *paths],
        cwd=ROOT,
        env=environ_without_coverage(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert opened.returncode == 0, opened.stdout + opened.stderr[-2000:]
    seconds = dict(line.split(": ") for line in opened.stdout.splitlines())
    assert seconds.keys() == FLOOD.keys()
    assert {name: took for name, took in seconds.items() if float(took) >= 2.0} == {}


def test_a_config_that_contains_itself_is_refused(path: Path) -> None:
    body = b"\x80\x02}X\x06\x00\x00\x00weight}sX\x06\x00\x00\x00config}q\x00"
    itself = torch_files.write_pickle(path, body + b"X\x01\x00\x00\x00ah\x00ss.")
    assert "nested too deeply" in refused(itself).message


def test_a_pickle_of_absurd_size_is_refused(path: Path) -> None:
    huge = b"\x80\x02" + b"N" * unpickle.MAX_BYTES
    assert refused(torch_files.write_pickle(path, huge)).code == "CHECKPOINT_UNSAFE"
    for body in (huge, huge[:1_000_000]):
        with pytest.raises(Refused, match="CHECKPOINT_UNSAFE"):
            unpickle.loads(body)


def test_messages_hold_no_long_names_of_the_file(path: Path) -> None:
    long = b"x" * 60_000
    pickles = [
        b"c" + long + b"\nb\n.",
        STORAGE.replace(b"X\x01\x00\x00\x000", b"X" + struct.pack("<I", len(long)) + long),
    ]
    pickles[1] = b"}X\x01\x00\x00\x00w" + TENSOR[2:] + pickles[1] + b"K\x00))tRs."
    for body in pickles:
        assert len(refused(torch_files.write_pickle(path, b"\x80\x02" + body)).message) < 500
    members = {"a/data.pkl": b"\x80\x02}.", "/" + "b" * 60_000: b""}
    assert len(refused(torch_files.write_zip(path, members)).message) < 500


def test_too_many_zip_members_are_refused_before_they_are_listed(path: Path) -> None:
    torch_files.write_pickle(path, b"\x80\x02}.")
    data = path.read_bytes()
    directory = data.rindex(b"PK\x01\x02")
    end = data.rindex(b"PK\x05\x06")
    entries = data[directory:end] * (3 * 2**20 // (end - directory))
    tail = data[end : end + 12] + struct.pack("<II", len(entries), directory) + b"\0\0"
    path.write_bytes(data[:directory] + entries + tail)
    assert "too many zip members" in refused(path).message


def test_tensors_that_share_their_bytes_too_often_are_refused(path: Path) -> None:
    shared = STORAGE.replace(b"K\x01t", b"K\x40t") + b"K\x00K\x40\x85K\x01\x85tR"
    one = b"X\x04\x00\x00\x00%04d" + TENSOR[2:] + shared
    body = b"\x80\x02}(" + b"".join(one.replace(b"%04d", b"%04d" % n) for n in range(40)) + b"u."
    torch_files.write_zip(path, {"a/data.pkl": body, "a/data/0": bytes(256)})
    assert len(checkpoint.open_checkpoint(path).tensors) == 40
    torch_files.write_zip(path, {"a/data.pkl": body.replace(b"K\x40", b"K\xff"),
                                 "a/data/0": bytes(1020)})  # fmt: skip
    assert "the same bytes" in refused(path).message


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
    [((9,), (1,), 8), ((2,), (8,), 8), ((2**40,), (0,), 8), ((3,), (1,), 4), ((1,), (1,), -1)],
    ids=["long", "strided", "repeated without end", "storage of another size", "negative"],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(
    path: Path, shape: tuple[int], stride: tuple[int], count: int
) -> None:
    numbers = [
        b"\x8a\x06" + n.to_bytes(6, "little", signed=True) for n in (count, shape[0], stride[0])
    ]
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


def test_an_empty_tensor_of_absurd_dimensions_is_refused(path: Path) -> None:
    empty = STORAGE.replace(b"K\x01t", b"K\x00t") + b"K\x00"
    huge = b"\x8a\x08" + (2**62).to_bytes(8, "little")
    body = b"\x80\x02}X\x01\x00\x00\x00w" + TENSOR[2:] + empty + huge + b"K\x00\x86NN\x86tRs."
    body = body.replace(b"NN\x86", b"K\x01K\x01\x86")
    torch_files.write_zip(path, {"a/data.pkl": body, "a/data/0": b""})
    assert "absurd" in refused(path).message


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
        {"a": {"dtype": "F32", "shape": [2**64], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}},
        {"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8.5]}},
        {"a" * 201: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
        {str(n): {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in range(10_001)},
        {"a": 1},
        [],
    ],
    ids=[
        *("beyond", "shape", "type", "fields", "huge shape", "huge empty shape", "no type"),
        *("fraction", "long name", "many", "entry", "list"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, header: object) -> None:
    path = safetensors(tmp_path / "m.safetensors", header, bytes(8))
    assert refused(path).code in ("CHECKPOINT_INVALID", "CHECKPOINT_UNSAFE")


@pytest.mark.parametrize("content", [b"1234", struct.pack("<Q", 2**60) + b"{}"])
def test_cut_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert refused(path).code == "CHECKPOINT_INVALID"


def test_a_weight_without_a_norm_is_used_as_it_is(path: Path) -> None:
    value = np.arange(6, dtype="<f4").reshape(2, 3)
    read = checkpoint.open_checkpoint(torch_files.write(path, {"conv.weight": value}))
    np.testing.assert_array_equal(fold_weight_norm(read, "conv"), value)
