"""Checkpoints -> bundle: every graph, the shared weights and `bundle.json`, all or nothing."""

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
from core.voice.gpt_sovits.bundle import SPEC, STEP_VNNI, Part, Precision, Spec, T2SSpec, digest
from core.voice.gpt_sovits.convert import (
    bert,
    calibrate,
    checkpoint,
    hubert,
    quantize,
    sovits,
    speaker,
    t2s,
    vocoder,
)
from core.voice.gpt_sovits.convert.checkpoint import Checkpoint
from core.voice.gpt_sovits.convert.graph import Graph, Weights

CONVERTER = "voicedrop/4"
"""Named in every bundle, and changed whenever the graphs it writes change."""
_BINS = 704
Progress = Callable[[str, float], None]
"""Told what is done now and how much is done, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the official files are."""

    t2s: Path
    sovits: Path
    hubert: Path
    """Folder with `config.json` and `pytorch_model.bin` or `model.safetensors`."""
    speaker: Path | None = None
    """ERes2NetV2: needed by v2Pro and v2ProPlus."""
    bert: Path | None = None
    """Folder like `hubert`, with `vocab.txt` or `tokenizer.json`: for Chinese."""


class _Config(dict[str, Any]):
    """Of Hugging Face."""

    def __missing__(self, key: str) -> Any:
        raise Refused("CHECKPOINT_INVALID", f"a config.json lacks {key}")


@dataclass(frozen=True, slots=True)
class _Model:
    """The sources, opened."""

    t2s: t2s.T2S
    sovits: sovits.Sovits
    plan: vocoder.Plan
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
    """Write the bundle folder `out`, which must not exist.

    Raises Refused CHECKPOINT_INVALID, CHECKPOINT_UNSAFE or OUTPUT_EXISTS and leaves nothing behind.
    """
    misfit = Refused("CHECKPOINT_INVALID", "The settings and tensors of these files do not fit.")
    with raising(misfit, on=(ValueError, TypeError, ArithmeticError, LookupError)):
        model = _open(sources)
    with _aside(out) as folder, raising(misfit, on=(ValueError, TypeError, ArithmeticError)):
        with Weights(folder / "weights.bin") as weights:
            graphs = _graphs(model, precision, folder)
            for i, (name, build) in enumerate(graphs.items()):
                progress(name, i / (len(graphs) + 2))
                graph = Graph(weights, _dtype(name, precision))
                build(graph)
                graph.save(folder / f"{name}.onnx")
                weights.flush()
        if sources.bert:
            _copy_vocabulary(sources.bert, folder)
        progress("digests", 1 - 1 / (len(graphs) + 2))
        spec = _describe(model, precision, licence, sources, folder)
        (folder / SPEC).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1))
    progress("done", 1.0)
    return spec


def _open(sources: Sources) -> _Model:
    model = sovits.recognise(checkpoint.read(sources.sovits))
    if model.pro and sources.speaker is None:
        what = f"{sources.sovits.name} is a {model.version} model: name a speaker encoder as well"
        raise Refused("CHECKPOINT_INVALID", what)
    encoder = checkpoint.read(sources.speaker) if model.pro and sources.speaker else None
    text = _folder(sources.bert) if sources.bert else None
    said, heard = t2s.T2S(checkpoint.read(sources.t2s)), _folder(sources.hubert)
    _match(said, model, heard[0])
    return _Model(said, model, vocoder.Plan.of(model.ckpt), heard, encoder, text)


def _match(said: t2s.T2S, model: sovits.Sovits, hubert: Checkpoint) -> None:
    """Files that were not trained together are refused here, not when they first speak."""
    ckpt, codes = model.ckpt, model.ckpt.shape("quantizer.vq.layers.0._codebook.embed")
    symbols = ckpt.shape("enc_p.text_embedding.weight")[0]
    known = said.ckpt.shape("ar_text_embedding.word_embeddings.weight")[0]
    if known < symbols:
        raise said.ckpt.invalid(f"it knows {known} symbols, {ckpt.name} {symbols}: not a pair")
    if said.vocabulary != codes[0] + 1:
        raise said.ckpt.invalid(f"it says {said.vocabulary - 1} tokens, {ckpt.name} {codes[0]}")
    widths = [hubert.shape(key)[0] for key in hubert.tensors if key.endswith("k_proj.bias")]
    width = max(widths, default=0)
    if width != ckpt.shape("ssl_proj.weight")[1]:
        raise hubert.invalid(f"{width} channels are not what {ckpt.name} was trained with")


def _folder(path: Path) -> tuple[Checkpoint, Mapping[str, Any]]:
    """A model folder as Hugging Face lays it out."""
    with raising(Refused("CHECKPOINT_INVALID", f"{path}/config.json is missing or damaged"),
                 on=(OSError, ValueError)):  # fmt: skip
        config = json.loads((path / "config.json").read_bytes())
    return checkpoint.read(_weights_file(path)), _Config(config)


def _weights_file(path: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    raise Refused("CHECKPOINT_INVALID", f"{path} holds no model.safetensors or pytorch_model.bin")


def _graphs(
    model: _Model, precision: Precision, folder: Path
) -> dict[str, Callable[[Graph], None]]:
    """The vocoder last: it may be calibrated with the others."""
    project = quantize.projection(precision)
    spans = calibrate.spans(model.t2s) if _in_bytes(precision) else None
    graphs: dict[str, Callable[[Graph], None]] = {
        "ssl": lambda g: hubert.build(g, *model.hubert, model.sovits.ckpt),
        "timbre": lambda g: sovits.build_timbre(g, model.sovits),
        "prefill": lambda g: t2s.build_prefill(g, model.t2s, project, spans),
        "step": lambda g: t2s.build_step(g, model.t2s, project, spans),
        "encode": lambda g: sovits.build_encode(g, model.sovits),
        "flow": lambda g: sovits.build_flow(g, model.sovits),
    }
    if _in_bytes(precision):
        graphs[STEP_VNNI] = lambda g: t2s.build_step(g, model.t2s, quantize.blockwise, spans)
    if model.speaker is not None:
        encoder = model.speaker
        graphs["speaker"] = lambda g: speaker.build(g, encoder)
    if model.bert is not None:
        text = model.bert
        graphs["bert"] = lambda g: bert.build(g, *text)
    branch = partial(calibrate.branch, folder, model.sovits.ckpt, model.plan)
    graphs["vocoder"] = lambda g: vocoder.build(
        g, model.sovits.ckpt, model.plan, branch() if precision == "fast" else vocoder.exact
    )
    return graphs


def _in_bytes(precision: Precision) -> bool:
    """Whether T2S multiplies and remembers in 8 bits."""
    return precision in ("int8", "fast")


def _dtype(graph: str, precision: Precision) -> type[np.floating[Any]]:
    """Half precision pays where time goes; the analysis of a reference stays exact."""
    hot = graph in ("prefill", "step", "vocoder")
    return np.float16 if precision == "fp16" and hot else np.float32


def _describe(
    model: _Model, precision: Precision, licence: str, sources: Sources, folder: Path
) -> Spec:
    files = [sources.t2s, sources.sovits, _weights_file(sources.hubert)]
    files += [sources.speaker] if model.speaker is not None and sources.speaker else []
    files += [_weights_file(sources.bert)] if sources.bert else []
    ckpt, text = model.sovits.ckpt, model.t2s
    return Spec(
        version=model.sovits.version,
        precision=precision,
        converter=CONVERTER,
        licence=licence,
        rate=int(ckpt.setting("data", "sampling_rate")),
        hop=int(ckpt.setting("data", "hop_length")),
        window=int(ckpt.setting("data", "filter_length")),
        bins=min(_BINS, ckpt.shape("ref_enc.spectral.0.fc.weight")[1]),
        inter=ckpt.shape("enc_p.proj.weight")[0] // 2,
        t2s=T2SSpec(
            layers=text.layers,
            heads=text.heads,
            head_width=t2s.kept_width(text, in_bytes=_in_bytes(precision)),
            vocabulary=text.vocabulary,
            bert=text.bert,
            positions=t2s.MAX_POSITIONS,
        ),
        speaker=model.speaker is not None,
        bert=model.bert is not None,
        sources={f"{path.parent.name}/{path.name}": digest(path) for path in files},
        parts={
            path.name: Part(size=path.stat().st_size, sha256=digest(path))
            for path in sorted(folder.iterdir())
        },
    )


def _copy_vocabulary(source: Path, folder: Path) -> None:
    """The tokens of BERT in order, one a line."""
    lines: list[str] = []
    if (source / "vocab.txt").is_file():
        lines = (source / "vocab.txt").read_text("utf-8").splitlines()
    elif (source / "tokenizer.json").is_file():
        vocabulary = json.loads((source / "tokenizer.json").read_bytes())["model"]["vocab"]
        lines = sorted(vocabulary, key=vocabulary.__getitem__)
    if lines:
        (folder / "vocab.txt").write_text("\n".join(lines) + "\n", "utf-8")


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` if all goes well and vanishes if not."""
    if out.exists():
        raise Refused("OUTPUT_EXISTS", f"{out} exists already: remove it or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp keeps others out; a model is no secret
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder)
        raise
