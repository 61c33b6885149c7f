"""Writes checkpoints of v2ProPlus of the official size with random weights.

Speed and memory of a random network are those of a trained one if the number of tokens is fixed;
what it says means nothing. `data/v2ProPlus_shapes.json.xz` has the names and shapes of the tensors.
"""

from __future__ import annotations

import json
import lzma
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.voice.gpt_sovits.convert.bundle import Sources

SHAPES = Path(__file__).parent / "data/v2ProPlus_shapes.json.xz"
_T2S = {"model": {"head": 16}}
_SOVITS = {
    "data": {"filter_length": 2048, "hop_length": 640, "win_length": 2048, "sampling_rate": 32000},
    "model": {
        "n_heads": 2,
        "resblock": "1",
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "upsample_rates": [10, 8, 2, 2, 2],
    },
}
_HUBERT = {
    "num_attention_heads": 12,
    "num_conv_pos_embedding_groups": 16,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}
_ONES = ("alpha", "running_var", "weight_g", "gamma")


def write(folder: Path) -> Sources:
    """Write all checkpoints, 0.9 GB, into a folder."""
    shapes = json.loads(lzma.decompress(SHAPES.read_bytes()))
    (folder / "hubert").mkdir(parents=True)
    (folder / "hubert/config.json").write_text(json.dumps(_HUBERT))
    sources = Sources(
        folder / "t2s.ckpt", folder / "sovits.pth", folder / "hubert", folder / "speaker.ckpt"
    )
    for path, name, config in (
        (sources.t2s, "t2s", _T2S),
        (sources.sovits, "sovits", _SOVITS),
        (folder / "hubert/pytorch_model.bin", "hubert", None),
        (folder / "speaker.ckpt", "speaker", None),
    ):
        _write_torch(
            path, {key: _tensor(key, shape) for key, shape in shapes[name].items()}, config
        )
    return sources


def _tensor(key: str, shape: list[int]) -> np.ndarray:
    """Return weights that keep the scale of what passes through them."""
    leaf = key.rsplit(".", 1)[-1]
    if any(word in leaf for word in _ONES):
        return np.ones(shape, np.float16)
    random = np.random.default_rng(len(key) + sum(shape))
    drawn = random.standard_normal(shape, np.float32)
    if leaf in ("bias", "beta", "running_mean"):
        drawn *= 0.05
    elif len(shape) == 1:
        drawn = 1 + 0.1 * drawn
    elif "embed" not in key:
        drawn /= math.sqrt(math.prod(shape[1:]))
    return drawn.astype(np.float16)


def _write_torch(path: Path, weights: Mapping[str, np.ndarray], config: Any) -> None:
    """Write a state dict as torch does, in a mapping with a config if there is one."""
    state = _mapping(
        {key: _pickled(str(i), value) for i, (key, value) in enumerate(weights.items())}
    )
    body = state if config is None else _mapping({"weight": state, "config": _plain(config)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        for i, value in enumerate(weights.values()):
            archive.writestr(f"archive/data/{i}", value.tobytes())


def _pickled(member: str, value: np.ndarray) -> bytes:
    """Return the opcodes for a call of torch._utils._rebuild_tensor_v2."""
    storage = b"(" + _plain("storage") + b"ctorch\nHalfStorage\n" + _plain(member) + _plain("cpu")
    storage += _plain(value.size) + b"tQ"
    stride = tuple(step // value.itemsize for step in value.strides)
    arguments = storage + _plain(0) + _plain(value.shape) + _plain(stride)
    arguments += b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _mapping(pickled: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(_plain(key) + value for key, value in pickled.items()) + b"u"


def _plain(value: Any) -> bytes:
    if isinstance(value, dict):
        return _mapping({key: _plain(item) for key, item in value.items()})
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_plain, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_plain, value)) + b"e"
    if isinstance(value, str):
        data = value.encode()
        return b"X" + struct.pack("<I", len(data)) + data
    return b"J" + struct.pack("<i", value)
