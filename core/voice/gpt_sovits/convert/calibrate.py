"""Finding the ranges that let 8 bits hold keys, values and the vocoder's inner convolutions."""

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

_STAGES = 3
"""The last two upsampling stages stay exact: they are cheap, and their rounding is audible."""
_DRAWS, _TOKENS = 8, 25
_SAID = 200
"""Phonemes, and as many tokens, of a draw for keys and values."""
_ROOM = 1.25
"""Speech may be a quarter louder than what was drawn before it is cut off."""


def spans(said: t2s.T2S) -> t2s.Spans:
    """The largest keys and values over random phonemes and tokens, with and without the features of
    Chinese text. Deterministic."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "prefill.onnx"
        with Weights(Path(scratch) / "weights.bin") as weights:
            graph = Graph(weights)
            t2s.build_prefill(graph, said, t2s.plain)
            graph.save(path)
        session = inference.session(path, cpu_only=True)
        found = [session.run(["keys", "values"], inputs) for inputs in _sayings(said)]
    keys, values = (
        np.asarray(_ROOM * np.max([np.abs(one).max(2) for one in kind], 0), np.float32)
        for kind in zip(*found, strict=True)
    )
    return t2s.Spans(keys, values)


def _sayings(said: t2s.T2S) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    phonemes = said.ckpt.shape("ar_text_embedding.word_embeddings.weight")[0]
    for chinese in (False, True, False, True):
        yield {
            "phones": random.integers(0, phonemes, _SAID),
            "bert": chinese * random.standard_normal((_SAID, said.bert), np.float32),
            "prompt": random.integers(0, said.vocabulary - 1, _SAID),
        }


def branch(folder: Path, ckpt: Checkpoint, plan: vocoder.Plan) -> vocoder.Rounded:
    """Ranges over random speech: random tokens, phonemes and timbres through the graphs in
    `folder`. Deterministic."""
    speech = _speech(folder, ckpt)  # first, so that its sessions are gone when memory is needed
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "observed.onnx"
        with Weights(Path(scratch) / "weights.bin") as weights:
            graph = Graph(weights)
            vocoder.build(graph, ckpt, plan, vocoder.observed)
            graph.save(path)
        session = inference.session(path, cpu_only=True)
        taps = [out.name for out in session.get_outputs() if _inner(out.name, plan)]
        found = [session.run(taps, inputs) for inputs in speech]
    extremes = np.array(found)  # (draws, taps, 2)
    low, high = extremes[:, :, 0].min(0), extremes[:, :, 1].max(0)
    return vocoder.Rounded(
        {tap: (float(a), float(b)) for tap, a, b in zip(taps, low, high, strict=True)}
    )


def _inner(output: str, plan: vocoder.Plan) -> bool:
    parts = output.split(".")
    return parts[0] == "resblocks" and int(parts[1]) < _STAGES * len(plan.dilations)


def _speech(folder: Path, ckpt: Checkpoint) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    encode, flow, timbre = (
        inference.session(folder / f"{name}.onnx", cpu_only=True)
        for name in ("encode", "flow", "timbre")
    )
    inter = ckpt.shape("enc_p.proj.weight")[0] // 2
    made = []
    for _ in range(_DRAWS):
        tone = timbre.run(None, _heard(random, ckpt, timbre))[0]
        tokens = random.integers(
            0, len(ckpt.take("quantizer.vq.layers.0._codebook.embed")), _TOKENS
        )
        phones = random.integers(0, ckpt.shape("enc_p.text_embedding.weight")[0], _TOKENS // 2)
        inputs = {"tokens": tokens, "phones": phones, "timbre": tone}
        latent = encode.run(["latent"], inputs)[0]
        noise = 0.5 * random.standard_normal((1, inter, latent.shape[1]), np.float32)
        z = flow.run(["z"], {"latent": latent, "noise": noise, "timbre": tone})[0]
        made.append({"z": z, "timbre": tone})
    return made


def _heard(random: np.random.Generator, ckpt: Checkpoint, timbre: Any) -> dict[str, Any]:
    """Noise that falls off to high frequencies as speech does, and any speaker."""
    bins = ckpt.shape("ref_enc.spectral.0.fc.weight")[1]
    slope = 30 / (1 + np.arange(bins) / 20)[:, None]
    heard = {"spectrogram": (slope * random.random((1, bins, 200))).astype(np.float32)}
    if "speaker" in {one.name for one in timbre.get_inputs()}:
        size = ckpt.shape("sv_emb.weight")[1]
        heard["speaker"] = random.standard_normal((1, size), np.float32)
    return heard
