"""Fit core/voice/kokoro/data/prior.npz, which predicts the speaker embeddings of styles.

    python bench/voice_prior.py [--nets 3 | --keep-networks]

The training data is ../shared/models/style_prior.npz: 3,902 renders of random mixtures of Kokoro's
voices with their GE2E and CAM++ embeddings. Needs scikit-learn. Run it after changing the
components or the encoders' front ends. After changing the rendering or the held-out sentences in
core/voice/kokoro/enrol.py, run it with --keep-networks, which computes only the embeddings of the
unadapted voice.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from core.speech.encoders import CamPlus, Ge2e  # noqa: E402
from core.voice.kokoro import enrol, model, styles  # noqa: E402
from core.voice.kokoro.render import Renderer, VoiceParams  # noqa: E402
from core.voice.kokoro.surrogate import DIMENSIONS  # noqa: E402

RENDERS = ROOT.parent / "shared/models/style_prior.npz"
PRIOR = ROOT / "core/voice/kokoro/data/prior.npz"
TIMBRE_COMPONENTS = 40
TYPICAL_TOKENS = 35
SCALE = 10.0
"""Factor of the training targets, because embeddings less their mean are small."""


def components() -> np.ndarray:
    """Return the matrix from whitened principal components to weights of the voices, shape
    (2, 54, DIMENSIONS)."""
    packs = styles.load()
    voices = len(packs.names)
    typical = np.stack(
        [
            packs.style(packs.weights_of(name), TYPICAL_TOKENS)
            - packs.style(0 * packs.weights_of(name), TYPICAL_TOKENS)
            for name in packs.names
        ]
    )
    basis = np.zeros((2, voices, DIMENSIONS))
    for half, (span, used) in enumerate(
        (
            (slice(0, styles.TIMBRE), slice(0, TIMBRE_COMPONENTS)),
            (slice(styles.TIMBRE, None), slice(TIMBRE_COMPONENTS, DIMENSIONS)),
        )
    ):
        left, _, _ = np.linalg.svd(typical[:, span], full_matrices=False)
        basis[half][:, used] = left[:, : used.stop - used.start] / np.sqrt(voices)
    return basis


def points_of(renders: dict[str, np.ndarray], basis: np.ndarray) -> np.ndarray:
    """Return the components of rendered styles by least squares, shape (n, DIMENSIONS)."""
    packs = styles.load()
    points = np.zeros((len(renders["style"]), DIMENSIONS))
    nothing = np.zeros((2, len(packs.names)), np.float32)
    for count in np.unique(renders["n_tokens"]):
        mean = packs.style(nothing, int(count))
        offsets = np.stack(
            [packs.style(packs.weights_of(n), int(count)) - mean for n in packs.names]
        )
        directions = np.concatenate(
            [basis[0].T @ offsets[:, : styles.TIMBRE], basis[1].T @ offsets[:, styles.TIMBRE :]],
            axis=1,
        )
        chosen = renders["n_tokens"] == count
        rest = renders["style"][chosen].astype(float) - mean
        points[chosen] = np.linalg.lstsq(directions.T, rest.T, rcond=None)[0].T
    return points


def fit(
    points: np.ndarray, embeddings: np.ndarray, seed: int, epochs: int = 80
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train a network with two hidden layers (tanh) and return its matrices and offsets."""
    from sklearn.neural_network import MLPRegressor

    mean = embeddings.mean(axis=0)
    network = MLPRegressor(
        hidden_layer_sizes=(384, 384), activation="tanh", alpha=2.0, learning_rate_init=2e-3,
        max_iter=epochs, tol=0, n_iter_no_change=10 * epochs, random_state=seed,
    )  # fmt: skip
    network.fit(points, (embeddings - mean) * SCALE)
    network.set_params(warm_start=True, learning_rate_init=2e-4, max_iter=epochs // 4)
    network.fit(points, (embeddings - mean) * SCALE)
    matrices, offsets = list(network.coefs_), list(network.intercepts_)
    matrices[-1] = matrices[-1] / SCALE
    offsets[-1] = offsets[-1] / SCALE + mean
    return list(zip(matrices, offsets, strict=True))


def embed_unadapted() -> dict[str, np.ndarray]:
    """Return the embeddings of the held-out sentences in the default voice, by encoder."""
    renderer = Renderer(model.load(ROOT / "build/kokoro", None, threads=1))
    timbre, prosody = styles.load().weights_of(enrol.DEFAULT_VOICE).tolist()
    params = VoiceParams(timbre=timbre, prosody=prosody)
    takes = [
        enrol.set_level(renderer.render(enrol.tokenise(s), params))
        for s in enrol.HELD_OUT_SENTENCES
    ]
    encoders = (Ge2e.load(), CamPlus.load())
    return {e.name: np.stack([e.embed(take) for take in takes]) for e in encoders}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nets", type=int, default=3)
    parser.add_argument("--keep-networks", action="store_true")
    options = parser.parse_args()
    default = {f"default_{name}": value for name, value in embed_unadapted().items()}
    if options.keep_networks:
        with np.load(PRIOR) as stored:
            np.savez_compressed(PRIOR, **({name: stored[name] for name in stored.files} | default))
        return 0
    if not RENDERS.exists():
        Console().print(f"{RENDERS} does not exist: this benchmark needs ../shared/models.")
        return 2
    with np.load(RENDERS) as stored:
        renders = {name: stored[name] for name in ("style", "n_tokens", "ge2e", "campplus")}
    basis = components()
    points = points_of(renders, basis)
    halves = [renders[name].astype(float) for name in ("ge2e", "campplus")]
    embeddings = np.hstack([h / np.linalg.norm(h, axis=1, keepdims=True) for h in halves])
    fitted = {"basis": basis.astype(np.float32)} | default
    for seed in track(range(options.nets), "fitting"):
        for layer, (matrix, offset) in enumerate(fit(points, embeddings, seed)):
            fitted[f"matrix_{seed}_{layer}"] = matrix.astype(np.float16)
            fitted[f"offset_{seed}_{layer}"] = offset.astype(np.float32)
    np.savez_compressed(PRIOR, **fitted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
