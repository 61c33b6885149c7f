"""Compares a bundle with golden results, stage by stage.

A golden folder contains recordings, `ref.wav` and `aux_ref.wav`, and what upstream computes from
them, `golden_common.npz` and `golden_<version>.npz`. Each stage reads golden inputs, so that an
error is attributed to its own stage; the last checks run end to end from the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio
from core.errors import Refused, raising
from core.speech.filter_bank import kaldi_bands
from core.voice.gpt_sovits import features, reference, synthesis
from core.voice.gpt_sovits.batch import T2SInput
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.convert.checks import (
    Check,
    check_close,
    check_codes,
    check_equal,
    check_stage,
    check_wave,
)
from core.voice.gpt_sovits.sampling import (
    GREEDY,
    Sampler,
    Sampling,
    penalise_repetition,
    sampling_probabilities,
)
from core.voice.gpt_sovits.t2s import Decoder

Golden = Mapping[str, NDArray[Any]]
Checks = Iterator[Check]

_LOGITS_TOL = 1e-3
_FBANK_TOL = 1e-3
"""Logarithms of energies near zero; upstream's results differ by half of this between machines."""
_SPEAKER_TOL = 2e-4
"""Relative to the largest value; upstream in float32 differs by 1e-4 from float64."""
_PCM_TOL = 4.0
_SILENCE = 9600
_MIN_COSINE, _MIN_ARGMAX = 0.995, 0.85
"""Minimum for quantised bundles, even with random weights."""
_SAMPLING_CASES = {
    "a": Sampling(15, 1.0, 1.0, 1.35),
    "b": Sampling(5, 0.7, 0.6, 1.35),
    "c": Sampling(50, 0.3, 1.5, 2.0),
    "d": Sampling(2000, 0.95, 1.0, 1.0),
}


def verify(bundle: Bundle, golden: Path) -> Checks:
    """Yield the checks of each stage.

    Raises Refused OBJECT_MISSING if the golden folder is incomplete.
    """
    missing = Refused("OBJECT_MISSING", f"{golden} lacks golden results for {bundle.spec.version}")
    with raising(missing, on=(OSError, KeyError)):
        common = _load_golden(golden / "golden_common.npz")
        own = _load_golden(golden / f"golden_{bundle.spec.version}.npz")
        audio = [_load_audio(golden / name) for name in ("ref.wav", "aux_ref.wav")]
        yield from _check_reference(bundle, common, own, audio)
        yield from _check_sampler(own)
        exact = bundle.spec.precision == "fp32"
        yield from _check_t2s(bundle, common, own) if exact else _check_drift(bundle, common, own)
        yield from _check_sovits(bundle, common, own)
        if exact:
            yield from _check_end_to_end(bundle, common, own, audio[0])


def _load_golden(path: Path) -> Golden:
    with np.load(path) as file:
        return dict(file)


def _load_audio(path: Path) -> Audio:
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Audio(samples.mean(axis=1), int(rate))


def _check_reference(bundle: Bundle, common: Golden, own: Golden, audio: list[Audio]) -> Checks:
    spec, ref = bundle.spec, audio[0]
    yield check_close(
        "wave at 16 kHz", features.hubert_input(ref.samples, ref.rate)[0], common["wav16k_in"]
    )
    wave = {"wave": common["wav16k_in"][None]}
    ssl, codes = bundle.run("ssl", ["ssl", "codes"], wave)
    yield check_stage("ssl", bundle, ssl, common["ssl_last_hidden_state"])
    yield check_codes("prompt codes", bundle, codes, own["prompt_semantic"])
    waves = [reference.prepare(bundle, recording) for recording in audio]
    spectrograms = [features.spectrogram(wave, spec.window, spec.hop) for wave in waves]
    yield check_close("spectrogram", spectrograms[0], common["refer_spec"])
    every8 = spectrograms[1][:, : spec.bins : 8]
    yield check_close("spectrogram, auxiliary", every8, common["aux_refer_spec_704_every8"])
    inputs = {"spectrogram": np.ascontiguousarray(common["refer_spec"][:, : spec.bins])}
    if spec.speaker:
        bands = kaldi_bands(own["sv_wav16k"])
        yield check_close("filter bank", bands, own["sv_fbank"], _FBANK_TOL)
        vector = bundle.run("speaker", ["speaker"], {"fbank": own["sv_fbank"][None]})[0]
        vector, want = (value / np.abs(own["sv_emb"]).max() for value in (vector, own["sv_emb"]))
        yield check_stage("sv_emb, relative", bundle, vector, want, _SPEAKER_TOL)
        inputs["speaker"] = own["sv_emb"]
    timbre = bundle.run("timbre", ["timbre"], inputs)[0]
    yield check_stage("ge", bundle, timbre, own["dec_ge"])
    if bundle.spec.bert:
        bert = bundle.run("bert", ["features"], {"ids": common["bert_input_ids"][0]})[0]
        yield check_close("bert", bert, common["bert_char_feature"])


def _check_sampler(own: Golden) -> Checks:
    logits = own["sampler_logits"]
    seen = np.isin(np.arange(len(logits)), own["sampler_prev"])
    worst = 0.0
    for name, sampling in _SAMPLING_CASES.items():
        scores = penalise_repetition(logits, seen, sampling.repetition_penalty)
        probabilities = sampling_probabilities(scores, sampling)
        worst = max(worst, float(np.abs(probabilities - own[f"sampler_probs_{name}"]).max()))
    yield Check("sampler probabilities", worst, 1e-6)


@dataclass
class _Recorder(Sampler):
    """Records the logits; chooses the tokens of a script, if there is one."""

    logits: list[NDArray[np.float32]] = field(default_factory=list)
    script: list[int] | None = None

    def sample(self, logits: NDArray[np.float32]) -> None:
        self.logits.append(logits.copy())
        if self.script is None:
            super().sample(logits)
        elif len(self.tokens) < len(self.script):
            self.tokens.append(self.script[len(self.tokens)])
        else:
            self.ended = True


def _golden_input(
    common: Golden, own: Golden, segment: int, sampling: Sampling = GREEDY, *, prompted: bool = True
) -> tuple[T2SInput, _Recorder]:
    phones, text = common[f"seg{segment}_phones"], common[f"seg{segment}_bert"].T
    prompt = own["prompt_semantic"] if prompted else np.zeros(0, np.int64)
    if prompted:
        phones = np.concatenate([common["prompt_phones"], phones])
        text = np.concatenate([common["prompt_bert"].T, text])
    recorder = _Recorder.create(sampling, prompt, own["seg0_logits"].shape[1], [0])
    return T2SInput(phones, np.ascontiguousarray(text), prompt, recorder), recorder


def _decode(bundle: Bundle, *sequences: tuple[T2SInput, _Recorder]) -> list[_Recorder]:
    Decoder(bundle, rows=len(sequences)).decode(sentence for sentence, _ in sequences)
    return [recorder for _, recorder in sequences]


def _segments(common: Golden) -> range:
    return range(sum(name.startswith("seg") and name.endswith("_phones") for name in common))


def _check_t2s(bundle: Bundle, common: Golden, own: Golden) -> Checks:
    greedy = _decode(bundle, *(_golden_input(common, own, i) for i in _segments(common)))
    for i, recorder in enumerate(greedy):
        yield check_equal(f"tokens of segment {i}, wrong", recorder.tokens, own[f"seg{i}_tokens"])
    yield check_close("logits", np.array(greedy[0].logits), own["seg0_logits"], _LOGITS_TOL)
    cases = {
        "norep": replace(GREEDY, repetition_penalty=1, limit=21),
        "noprompt": replace(GREEDY, limit=25),
    }
    for name, sampling in cases.items():
        sequence = _golden_input(common, own, 0, sampling, prompted=name != "noprompt")
        (recorder,) = _decode(bundle, sequence)
        yield check_equal(f"tokens, {name}, wrong", recorder.tokens, own[f"seg0_{name}_tokens"])
    sampled = _golden_input(common, own, 0, Sampling(15, 0.4, 0.7, 1.35, limit=25))
    sampled[1].noise = lambda step: own["samp_exp_noise"][step]
    _decode(bundle, sampled)
    yield check_equal("tokens, sampled, wrong", sampled[1].tokens, own["samp_tokens"])


def _check_drift(bundle: Bundle, common: Golden, own: Golden) -> Checks:
    """Compare the logits while the golden tokens are decoded."""
    sequence = _golden_input(common, own, 0)
    sequence[1].script = own["seg0_tokens"].tolist()
    _decode(bundle, sequence)
    got, want = np.array(sequence[1].logits), own["seg0_logits"]
    product = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    yield Check("logits, least cosine", float(product.min()), _MIN_COSINE, at_least=True)
    agreed = float((got.argmax(1) == want.argmax(1)).mean())
    yield Check("argmax agreement", agreed, _MIN_ARGMAX, at_least=True)


def _check_sovits(bundle: Bundle, common: Golden, own: Golden) -> Checks:
    timbre, tokens, phones = own["dec_ge"], own["seg0_tokens"], common["seg0_phones"]
    latent = synthesis.encode(bundle, tokens, phones, timbre)
    yield check_stage("enc_p latent", bundle, latent.transpose(0, 2, 1), own["dec_encp_enc2"])
    inputs = {"latent": latent, "noise": np.zeros_like(own["dec_m_p"]), "timbre": timbre}
    z, mean, log_std = bundle.run("flow", ["z", "mean", "log_std"], inputs)
    yield check_stage("enc_p mean", bundle, mean, own["dec_m_p"])
    yield check_stage("enc_p log std", bundle, log_std, own["dec_logs_p"])
    yield check_stage("z", bundle, z, own["dec_z"])
    wave = synthesis.vocode(bundle, own["dec_z"], timbre)
    yield check_wave("wave", bundle, wave, own["wav_noise0"])
    z = synthesis.flow(bundle, latent, own["noise"], timbre)
    yield check_wave("wave, noise", bundle, synthesis.vocode(bundle, z, timbre), own["wav_noise05"])
    for name, speed in (("130", 1.3), ("075", 0.75)):
        paced = synthesis.change_speed(latent, speed)
        silence = np.zeros((1, bundle.spec.inter, paced.shape[1]), np.float32)
        wave = synthesis.vocode(bundle, synthesis.flow(bundle, paced, silence, timbre), timbre)
        length = int(own[f"wav_speed{name}_len"])
        yield check_equal(f"length at speed {speed}, wrong", [len(wave)], np.array([length]))
        want = own[f"wav_speed{name}"]
        yield check_wave(f"wave at speed {speed}", bundle, wave[: len(want)], want)


def _check_end_to_end(bundle: Bundle, common: Golden, own: Golden, ref: Audio) -> Checks:
    codes, timbre = reference.semantic_tokens(bundle, ref), reference.mean_timbre(bundle, [ref])
    computed = {**own, "prompt_semantic": codes}
    recorders = _decode(bundle, *(_golden_input(common, computed, i) for i in _segments(common)))
    tokens = [np.array(recorder.tokens) for recorder in recorders]
    phones = [common[f"seg{i}_phones"] for i in _segments(common)]
    # Upstream draws noise for the shortest segment first.
    order = sorted(_segments(common), key=lambda i: len(phones[i]))
    noise = {segment: own[f"e2e_default_noise{k}"] for k, segment in enumerate(order)}
    frames = [len(tokens[i]) * synthesis.FRAMES_PER_TOKEN for i in _segments(common)]
    if (expected := [noise[i].shape[-1] for i in _segments(common)]) != frames:
        yield Check(f"end to end, frames {frames} not {expected}", np.inf, _PCM_TOL)
        return
    waves = [
        _synthesise(bundle, tokens[i], phones[i], timbre, noise[i]) for i in _segments(common)
    ]  # fmt: skip
    yield check_close("end to end, 16 bit", _to_16_bits(waves), own["e2e_default_audio"], _PCM_TOL)
    if "e2e_batch_audio" in own:
        joint = np.concatenate(tokens), np.concatenate(phones)
        wave = _synthesise(bundle, *joint, timbre, own["e2e_batch_noise0"])
        samples = synthesis.FRAMES_PER_TOKEN * bundle.spec.hop
        parts = np.split(wave, np.cumsum([len(row) for row in tokens])[:-1] * samples)
        yield check_close(
            "end to end, joint, 16 bit", _to_16_bits(parts), own["e2e_batch_audio"], _PCM_TOL
        )


def _synthesise(
    bundle: Bundle,
    tokens: NDArray[np.int64],
    phones: NDArray[np.int64],
    timbre: NDArray[np.float32],
    noise: NDArray[np.float32],
) -> NDArray[np.float32]:
    latent = synthesis.encode(bundle, tokens, phones, timbre)
    return synthesis.vocode(bundle, synthesis.flow(bundle, latent, noise, timbre), timbre)


def _to_16_bits(waves: list[NDArray[np.float32]]) -> NDArray[np.int16]:
    """Convert like upstream: limit peaks, append 0.3 s of silence to each, truncate to 16 bits."""
    gap = np.zeros(_SILENCE, np.float32)
    parts = [part for wave in waves for part in (wave / max(1.0, float(np.abs(wave).max())), gap)]
    samples: NDArray[np.float32] = np.trunc(np.concatenate(parts) * 32768)
    return samples.clip(-32768, 32767).astype(np.int16)
