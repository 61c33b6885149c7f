"""Converts checkpoints into a bundle: graphs, shared weights and `bundle.json`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from core.errors import Refused, raising
from core.voice.gpt_sovits.bundle import SPEC, STEP_VNNI, Part, Precision, Spec, T2SSpec, sha256_of
from core.voice.gpt_sovits.convert import (
    bert,
    calibrate,
    hubert,
    layers,
    quantize,
    sovits,
    speaker,
    t2s,
    vocoder,
)
from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, open_checkpoint
from core.voice.gpt_sovits.convert.graph import Graph, Weights
from core.voice.gpt_sovits.stored import WEIGHTS

CONVERTER = "voicedrop/5"
"""Stored in every bundle; incremented whenever the graphs change."""
_SPECTROGRAM_BINS = 704
_MAX_JSON = 16 * 2**20
"""Bytes of a config or a tokenizer."""
Progress = Callable[[str, float], None]
"""Called with the current stage and the share that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Paths of the files to convert."""

    t2s: Path
    sovits: Path
    hubert: Path
    """Folder with `config.json` and `pytorch_model.bin` or `model.safetensors`."""
    speaker: Path | None = None
    """ERes2NetV2: needed by v2Pro and v2ProPlus."""
    bert: Path | None = None
    """For Chinese: folder like `hubert`, with `vocab.txt` or `tokenizer.json`."""


class _HuggingFaceConfig(dict[str, Any]):
    """A config.json of Hugging Face."""

    def __missing__(self, key: str) -> Any:
        raise Refused("CHECKPOINT_INVALID", f"A config.json lacks {key}.")


@dataclass(frozen=True, slots=True)
class _OpenModel:
    """The opened checkpoints."""

    t2s: t2s.T2S
    sovits: sovits.Sovits
    vocoder: vocoder.VocoderConfig
    hubert: tuple[Checkpoint, Mapping[str, Any]]
    speaker: Checkpoint | None
    bert: tuple[Checkpoint, Mapping[str, Any]] | None


def convert(
    sources: Sources,
    out: Path,
    *,
    precision: Precision = "int8",
    licence: str = "unstated",
    progress: Progress = lambda what, done: None,
) -> Spec:
    """Write the bundle folder `out`, which must not exist; on an error nothing is written.

    Raises Refused CHECKPOINT_INVALID, CHECKPOINT_UNSAFE or OUTPUT_EXISTS.
    """
    errors = (ValueError, TypeError, ArithmeticError, LookupError)
    mismatch = Refused("CHECKPOINT_INVALID", "The configs and tensors of these files do not fit.")
    with raising(mismatch, on=errors):
        model = _open_sources(sources)
    with _temporary_folder(out) as folder, raising(mismatch, on=errors):
        with Weights(folder / WEIGHTS) as weights:
            graphs = _graph_builders(model, precision, folder)
            for i, (name, build) in enumerate(graphs.items()):
                progress(name, i / (len(graphs) + 2))
                bits = _stored_bits(name, precision, model.sovits.version)
                graph = Graph(weights, _float_type(name, precision), stored_bits=bits)
                build(graph)
                graph.save(folder / f"{name}.onnx")
                weights.flush()
        if sources.bert:
            _copy_vocabulary(sources.bert, folder)
        progress("digests", 1 - 1 / (len(graphs) + 2))
        spec = _make_spec(model, precision, licence, sources, folder)
        (folder / SPEC).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1))
    progress("done", 1.0)
    return spec


def _open_sources(sources: Sources) -> _OpenModel:
    model = sovits.detect_version(open_checkpoint(sources.sovits))
    if model.is_pro and sources.speaker is None:
        what = f"{sources.sovits.name} is a {model.version} model: give --speaker-encoder as well"
        raise Refused("CHECKPOINT_INVALID", what)
    encoder = open_checkpoint(sources.speaker) if model.is_pro and sources.speaker else None
    text = _open_model_folder(sources.bert) if sources.bert else None
    decoder, ssl = t2s.T2S(open_checkpoint(sources.t2s)), _open_model_folder(sources.hubert)
    _check_compatible(decoder, model, ssl[0])
    config = vocoder.VocoderConfig.of(model.ckpt)
    return _OpenModel(decoder, model, config, ssl, encoder, text)


def _check_compatible(decoder: t2s.T2S, model: sovits.Sovits, hubert: Checkpoint) -> None:
    """Refuse files that were not trained together, before they are used to speak."""
    ckpt, codes = model.ckpt, model.ckpt.shape("quantizer.vq.layers.0._codebook.embed")
    symbols = ckpt.shape("enc_p.text_embedding.weight")[0]
    known = decoder.ckpt.shape("ar_text_embedding.word_embeddings.weight")[0]
    if known < symbols:
        raise decoder.ckpt.invalid(f"has {known} symbols, too few for the {symbols} of {ckpt.name}")
    if decoder.vocabulary != codes[0] + 1:
        tokens = f"has {decoder.vocabulary - 1} semantic tokens, but {ckpt.name} has {codes[0]}"
        raise decoder.ckpt.invalid(tokens)
    widths = [hubert.shape(key)[0] for key in hubert.tensors if key.endswith("k_proj.bias")]
    width = max(widths, default=0)
    if width != ckpt.shape("ssl_proj.weight")[1]:
        raise hubert.invalid(f"has {width} channels, unlike the HuBERT of {ckpt.name}")


def _open_model_folder(path: Path) -> tuple[Checkpoint, Mapping[str, Any]]:
    """Open a model folder of Hugging Face."""
    config = _HuggingFaceConfig(_read_json(path / "config.json"))
    return open_checkpoint(_find_weights_file(path)), config


def _read_json(path: Path) -> Any:
    damaged = Refused("CHECKPOINT_INVALID", f"{path} is missing or damaged")
    with raising(damaged, on=(OSError, ValueError, RecursionError)):
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(path)
        return json.loads(path.read_bytes())


def _find_weights_file(path: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    raise Refused("CHECKPOINT_INVALID", f"{path} has no model.safetensors or pytorch_model.bin")


def _graph_builders(
    model: _OpenModel, precision: Precision, folder: Path
) -> dict[str, Callable[[Graph], None]]:
    """Return the builder of each graph. The vocoder is last: others may be used to calibrate it."""
    linear = quantize.choose_linear(precision)
    dense = quantize.blockwise_dense if _has_8bit_t2s(precision) else layers.dense
    ranges = calibrate.key_value_ranges(model.t2s) if _has_8bit_t2s(precision) else None
    graphs: dict[str, Callable[[Graph], None]] = {
        "ssl": lambda g: hubert.build(g, *model.hubert, model.sovits.ckpt, dense),
        "timbre": lambda g: sovits.build_timbre(g, model.sovits),
        "prefill": lambda g: t2s.build_prefill(g, model.t2s, linear, ranges),
        "step": lambda g: t2s.build_step(g, model.t2s, linear, ranges),
        "encode": lambda g: sovits.build_encode(g, model.sovits),
        "flow": lambda g: sovits.build_flow(g, model.sovits),
    }
    if _has_8bit_t2s(precision):
        graphs[STEP_VNNI] = lambda g: t2s.build_step(g, model.t2s, quantize.vnni_linear, ranges)
    if model.speaker is not None:
        encoder = model.speaker
        graphs["speaker"] = lambda g: speaker.build(g, encoder)
    if model.bert is not None:
        text = model.bert
        graphs["bert"] = lambda g: bert.build(g, *text)
    conv = partial(calibrate.quantised_conv, folder, model.sovits.ckpt, model.vocoder)
    graphs["vocoder"] = lambda g: vocoder.build(
        g, model.sovits.ckpt, model.vocoder, conv() if precision == "fast" else vocoder.exact_conv
    )
    return graphs


def _has_8bit_t2s(precision: Precision) -> bool:
    """T2S has 8-bit weights, keys and values."""
    return precision in ("int8", "fast")


def _float_type(graph: str, precision: Precision) -> type[np.floating[Any]]:
    """Use half precision in the slow graphs; the analysis of a reference stays exact."""
    slow = graph in ("prefill", "step", "vocoder")
    return np.float16 if precision == "fp16" and slow else np.float32


def _stored_bits(graph: str, precision: Precision, version: sovits.Version) -> int:
    """Return the bits of a stored weight. v2Pro and v2ProPlus have the speaker encoder and a larger
    vocoder; the speaker embedding tolerates more rounding than what is computed from tokens."""
    if not _has_8bit_t2s(precision) or graph == "bert":
        return 32
    if graph in ("timbre", "speaker") and version != "v2":
        return 6
    if graph in ("ssl", "encode", "flow", "vocoder") and version != "v2":
        return 8
    return 16


def _make_spec(
    model: _OpenModel, precision: Precision, licence: str, sources: Sources, folder: Path
) -> Spec:
    files = [sources.t2s, sources.sovits, _find_weights_file(sources.hubert)]
    files += [sources.speaker] if model.speaker is not None and sources.speaker else []
    files += [_find_weights_file(sources.bert)] if sources.bert else []
    ckpt, text = model.sovits.ckpt, model.t2s
    return Spec(
        version=model.sovits.version,
        precision=precision,
        converter=CONVERTER,
        licence=licence,
        rate=int(ckpt.setting("data", "sampling_rate")),
        hop=int(ckpt.setting("data", "hop_length")),
        window=int(ckpt.setting("data", "filter_length")),
        bins=min(_SPECTROGRAM_BINS, ckpt.shape("ref_enc.spectral.0.fc.weight")[1]),
        inter=ckpt.shape("enc_p.proj.weight")[0] // 2,
        t2s=T2SSpec(
            layers=text.layers,
            heads=text.heads,
            head_width=t2s.cache_head_width(text, int8=_has_8bit_t2s(precision)),
            vocabulary=text.vocabulary,
            bert=text.bert,
            positions=t2s.MAX_POSITIONS,
        ),
        speaker=model.speaker is not None,
        bert=model.bert is not None,
        sources={f"{path.parent.name}/{path.name}": sha256_of(path) for path in files},
        parts={
            path.name: Part(size=path.stat().st_size, sha256=sha256_of(path))
            for path in sorted(folder.iterdir())
        },
    )


def _copy_vocabulary(source: Path, folder: Path) -> None:
    """Write BERT's tokens in order, one per line."""
    lines: list[str] = []
    if (source / "vocab.txt").is_file():
        lines = (source / "vocab.txt").read_text("utf-8").splitlines()
    elif (source / "tokenizer.json").is_file():
        vocabulary = _read_json(source / "tokenizer.json")["model"]["vocab"]
        lines = sorted(vocabulary, key=vocabulary.__getitem__)
    if lines:
        (folder / "vocab.txt").write_text("\n".join(lines) + "\n", "utf-8")


@contextmanager
def _temporary_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out`, which is renamed to `out` on success and removed on error."""
    if out.exists():
        raise Refused("OUTPUT_EXISTS", f"{out} already exists: remove it or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp excludes other users
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder)
        raise
