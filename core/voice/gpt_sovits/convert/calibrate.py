"""Finds the value ranges for 8-bit keys, values and vocoder convolutions, with random inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core import inference
from core.voice.gpt_sovits.convert import t2s, vocoder
from core.voice.gpt_sovits.convert.checkpoint import Checkpoint
from core.voice.gpt_sovits.convert.graph import Graph, Weights
from core.voice.gpt_sovits.stored import open_graph

_QUANTISED_STAGES = 3
"""The last two upsampling stages stay exact: they are fast, and rounding them is audible."""
_DRAWS, _TOKENS = 8, 25
_LENGTH = 200
"""Number of phonemes, and of tokens, of an input for keys and values."""
_HEADROOM = 1.25
"""Keys and values of speech may be this many times larger before they are clipped."""


def key_value_ranges(model: t2s.T2S) -> t2s.CacheRanges:
    """Measure the largest keys and values, with and without BERT features. Deterministic."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "prefill.onnx"
        with Weights(Path(scratch) / "weights.bin") as weights:
            graph = Graph(weights)
            t2s.build_prefill(graph, model, t2s.float_linear)
            graph.save(path)
        session = inference.open_session(path, cpu_only=True)
        results = [session.run(["keys", "values"], inputs) for inputs in _random_t2s_inputs(model)]
    keys, values = (
        np.asarray(_HEADROOM * np.max([np.abs(value).max(2) for value in kind], 0), np.float32)
        for kind in zip(*results, strict=True)
    )
    return t2s.CacheRanges(keys, values)


def _random_t2s_inputs(model: t2s.T2S) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    phonemes = model.ckpt.shape("ar_text_embedding.word_embeddings.weight")[0]
    for chinese in (False, True, False, True):
        yield {
            "phones": random.integers(0, phonemes, _LENGTH),
            "bert": chinese * random.standard_normal((_LENGTH, model.bert), np.float32),
            "prompt": random.integers(0, model.vocabulary - 1, _LENGTH),
        }


def quantised_conv(
    folder: Path, ckpt: Checkpoint, config: vocoder.VocoderConfig
) -> vocoder.QuantisedConv:
    """Measure the ranges for random speech, with the graphs in `folder`. Deterministic."""
    speech = _random_latents(folder, ckpt)  # before `session` is opened, to save memory
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "observed.onnx"
        with Weights(Path(scratch) / "weights.bin") as weights:
            graph = Graph(weights)
            vocoder.build(graph, ckpt, config, vocoder.observed_conv)
            graph.save(path)
        session = inference.open_session(path, cpu_only=True)
        names = [out.name for out in session.get_outputs() if _is_quantised(out.name, config)]
        results = [session.run(names, inputs) for inputs in speech]
    extremes = np.array(results)  # (draws, names, 2)
    low, high = extremes[:, :, 0].min(0), extremes[:, :, 1].max(0)
    return vocoder.QuantisedConv(
        {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
    )


def _is_quantised(output: str, config: vocoder.VocoderConfig) -> bool:
    parts = output.split(".")
    return parts[0] == "resblocks" and int(parts[1]) < _QUANTISED_STAGES * len(config.dilations)


def _random_latents(folder: Path, ckpt: Checkpoint) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    encode, flow, timbre = (
        open_graph(folder / f"{name}.onnx", cpu_only=True) for name in ("encode", "flow", "timbre")
    )
    inter = ckpt.shape("enc_p.proj.weight")[0] // 2
    latents = []
    for _ in range(_DRAWS):
        voice = timbre.run(None, _random_reference(random, ckpt, timbre))[0]
        tokens = random.integers(
            0, len(ckpt.load("quantizer.vq.layers.0._codebook.embed")), _TOKENS
        )
        phones = random.integers(0, ckpt.shape("enc_p.text_embedding.weight")[0], _TOKENS // 2)
        inputs = {"tokens": tokens, "phones": phones, "timbre": voice}
        latent = encode.run(["latent"], inputs)[0]
        noise = 0.5 * random.standard_normal((1, inter, latent.shape[1]), np.float32)
        z = flow.run(["z"], {"latent": latent, "noise": noise, "timbre": voice})[0]
        latents.append({"z": z, "timbre": voice})
    return latents


def _random_reference(random: np.random.Generator, ckpt: Checkpoint, timbre: Any) -> dict[str, Any]:
    """Return a noise spectrogram that falls off like speech, and a random speaker embedding."""
    bins = ckpt.shape("ref_enc.spectral.0.fc.weight")[1]
    slope = 30 / (1 + np.arange(bins) / 20)[:, None]
    reference = {"spectrogram": (slope * random.random((1, bins, 200))).astype(np.float32)}
    if "speaker" in {entry.name for entry in timbre.get_inputs()}:
        size = ckpt.shape("sv_emb.weight")[1]
        reference["speaker"] = random.standard_normal((1, size), np.float32)
    return reference
