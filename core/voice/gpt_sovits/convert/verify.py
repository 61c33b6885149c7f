"""Is a bundle numerically the model it was converted from? Stage by stage, against golden results.

A golden folder holds what upstream computed: `golden_common.npz`, `golden_<version>.npz`, `ref.wav`
and `aux_ref.wav`. Every stage is fed the golden input, so that an error shows where it is made; the
last rows go the whole way from the recording.
"""

from __future__ import annotations

from collections import deque
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
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.convert.checks import Check, error, likeness, wrong
from core.voice.gpt_sovits.sampling import (
    GREEDY,
    Chooser,
    Sampling,
    penalised,
    probabilities,
)
from core.voice.gpt_sovits.t2s import Decoder, Sentence

Golden = Mapping[str, NDArray[Any]]

_LOGITS = 1e-3
_FBANK = 1e-3
"""Logarithms of energies near zero: upstream's own rounding moves them by half of that."""
_SPEAKER = 2e-4
"""Relative to the largest: upstream's own float32 is 1e-4 from the same network in float64."""
_LSB = 4.0
_SILENCE = 9600
_COSINE, _AGREEMENT = 0.995, 0.9
"""What a quantised bundle must keep, even of random weights."""
_SAMPLERS = {
    "a": Sampling(15, 1.0, 1.0, 1.35),
    "b": Sampling(5, 0.7, 0.6, 1.35),
    "c": Sampling(50, 0.3, 1.5, 2.0),
    "d": Sampling(2000, 0.95, 1.0, 1.0),
}


def verify(bundle: Bundle, golden: Path) -> Iterator[Check]:
    """One check a stage, as they are made.

    Raises Refused OBJECT_MISSING where the folder lacks what a check needs.
    """
    lacking = Refused("OBJECT_MISSING", f"{golden} is no golden folder for {bundle.spec.version}")
    with raising(lacking, on=(OSError, KeyError)):
        common = _load(golden / "golden_common.npz")
        own = _load(golden / f"golden_{bundle.spec.version}.npz")
        audio = [_audio(golden / name) for name in ("ref.wav", "aux_ref.wav")]
        yield from _reference(bundle, common, own, audio)
        yield from _sampler(own)
        exact = bundle.spec.precision == "fp32"
        yield from _t2s(bundle, common, own) if exact else _t2s_drift(bundle, common, own)
        yield from _sovits(bundle, common, own)
        if exact:
            yield from _end_to_end(bundle, common, own, audio[0])


def _load(path: Path) -> Golden:
    with np.load(path) as file:
        return dict(file)


def _audio(path: Path) -> Audio:
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Audio(samples.mean(axis=1), int(rate))


def _reference(bundle: Bundle, common: Golden, own: Golden, audio: list[Audio]) -> Iterator[Check]:
    spec, ref = bundle.spec, audio[0]
    yield error(
        "wave at 16 kHz", features.hubert_wave(ref.samples, ref.rate)[0], common["wav16k_in"]
    )
    wave = {"wave": common["wav16k_in"][None]}
    ssl, codes = bundle.run("ssl", ["ssl", "codes"], wave)
    yield error("ssl", ssl, common["ssl_last_hidden_state"])
    yield wrong("prompt codes, wrong", codes, own["prompt_semantic"])
    waves = [reference.prepared(bundle, one) for one in audio]
    heard = [features.spectrogram(one, spec.window, spec.hop) for one in waves]
    yield error("spectrogram", heard[0], common["refer_spec"])
    few = heard[1][:, : spec.bins : 8]
    yield error("spectrogram, auxiliary", few, common["aux_refer_spec_704_every8"])
    inputs = {"spectrogram": np.ascontiguousarray(common["refer_spec"][:, : spec.bins])}
    if spec.speaker:
        yield error("filter bank", kaldi_bands(own["sv_wav16k"]), own["sv_fbank"], _FBANK)
        vector = bundle.run("speaker", ["speaker"], {"fbank": own["sv_fbank"][None]})[0]
        size = np.abs(own["sv_emb"]).max()
        yield error("sv_emb, relative", vector / size, own["sv_emb"] / size, _SPEAKER)
        inputs["speaker"] = own["sv_emb"]
    yield error("ge", bundle.run("timbre", ["timbre"], inputs)[0], own["dec_ge"])
    if bundle.spec.bert:
        found = bundle.run("bert", ["features"], {"ids": common["bert_input_ids"][0]})[0]
        yield error("bert", found, common["bert_char_feature"])


def _sampler(own: Golden) -> Iterator[Check]:
    logits = own["sampler_logits"]
    seen = np.isin(np.arange(len(logits)), own["sampler_prev"])
    worst = 0.0
    for name, how in _SAMPLERS.items():
        found = probabilities(penalised(logits, seen, how.repetition_penalty), how)
        worst = max(worst, float(np.abs(found - own[f"sampler_probs_{name}"]).max()))
    yield Check("sampler probabilities", worst, 1e-6)


@dataclass
class _Recorder(Chooser):
    """Keeps the logits it is shown; follows a script where there is one."""

    shown: list[NDArray[np.float32]] = field(default_factory=list)
    script: list[int] | None = None

    def choose(self, logits: NDArray[np.float32]) -> None:
        self.shown.append(logits.copy())
        if self.script is None:
            super().choose(logits)
        elif len(self.tokens) < len(self.script):
            self.tokens.append(self.script[len(self.tokens)])
        else:
            self.ended = True


def _said(
    common: Golden, own: Golden, segment: int, how: Sampling = GREEDY, *, prompted: bool = True
) -> tuple[Sentence, _Recorder]:
    phones, text = common[f"seg{segment}_phones"], common[f"seg{segment}_bert"].T
    prompt = own["prompt_semantic"] if prompted else np.zeros(0, np.int64)
    if prompted:
        phones = np.concatenate([common["prompt_phones"], phones])
        text = np.concatenate([common["prompt_bert"].T, text])
    recorder = _Recorder.of(how, prompt, own["seg0_logits"].shape[1], [0])
    return Sentence(phones, np.ascontiguousarray(text), prompt, recorder), recorder


def _run(bundle: Bundle, *said: tuple[Sentence, _Recorder]) -> list[_Recorder]:
    waiting = deque((i, sentence) for i, (sentence, _) in enumerate(said))
    list(Decoder(bundle, rows=len(said)).decode(waiting))
    return [recorder for _, recorder in said]


def _segments(common: Golden) -> range:
    return range(sum(name.startswith("seg") and name.endswith("_phones") for name in common))


def _t2s(bundle: Bundle, common: Golden, own: Golden) -> Iterator[Check]:
    greedy = _run(bundle, *(_said(common, own, i) for i in _segments(common)))
    for i, recorder in enumerate(greedy):
        yield wrong(f"tokens of segment {i}, wrong", recorder.tokens, own[f"seg{i}_tokens"])
    yield error("logits", np.array(greedy[0].shown), own["seg0_logits"], _LOGITS)
    cases = {
        "norep": replace(GREEDY, repetition_penalty=1, limit=21),
        "noprompt": replace(GREEDY, limit=25),
    }
    for name, how in cases.items():
        (recorder,) = _run(bundle, _said(common, own, 0, how, prompted=name != "noprompt"))
        yield wrong(f"tokens, {name}, wrong", recorder.tokens, own[f"seg0_{name}_tokens"])
    sampled = _said(common, own, 0, Sampling(15, 0.4, 0.7, 1.35, limit=25))
    sampled[1].noise = lambda step: own["samp_exp_noise"][step]
    _run(bundle, sampled)
    yield wrong("tokens, sampled, wrong", sampled[1].tokens, own["samp_tokens"])


def _t2s_drift(bundle: Bundle, common: Golden, own: Golden) -> Iterator[Check]:
    """The same tokens put in, how alike are the logits that come out?"""
    said = _said(common, own, 0)
    said[1].script = own["seg0_tokens"].tolist()
    _run(bundle, said)
    got, want = np.array(said[1].shown), own["seg0_logits"]
    product = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    yield Check("logits, least cosine", float(product.min()), _COSINE, at_least=True)
    agreed = float((got.argmax(1) == want.argmax(1)).mean())
    yield Check("argmax agreement", agreed, _AGREEMENT, at_least=True)


def _sovits(bundle: Bundle, common: Golden, own: Golden) -> Iterator[Check]:
    timbre, tokens, phones = own["dec_ge"], own["seg0_tokens"], common["seg0_phones"]
    latent = synthesis.encode(bundle, tokens, phones, timbre)
    yield error("enc_p latent", latent.transpose(0, 2, 1), own["dec_encp_enc2"])
    inputs = {"latent": latent, "noise": np.zeros_like(own["dec_m_p"]), "timbre": timbre}
    z, mean, log_std = bundle.run("flow", ["z", "mean", "log_std"], inputs)
    yield error("enc_p mean", mean, own["dec_m_p"])
    yield error("enc_p log std", log_std, own["dec_logs_p"])
    yield error("z", z, own["dec_z"])
    wave = synthesis.vocode(bundle, own["dec_z"], timbre)
    yield likeness("wave", bundle, wave, own["wav_noise0"])
    z = synthesis.flow(bundle, latent, own["noise"], timbre)
    yield likeness("wave, noise", bundle, synthesis.vocode(bundle, z, timbre), own["wav_noise05"])
    for name, speed in (("130", 1.3), ("075", 0.75)):
        paced = synthesis.paced(latent, speed)
        still = np.zeros((1, bundle.spec.inter, paced.shape[1]), np.float32)
        wave = synthesis.vocode(bundle, synthesis.flow(bundle, paced, still, timbre), timbre)
        length = int(own[f"wav_speed{name}_len"])
        yield wrong(f"length at speed {speed}, wrong", [len(wave)], np.array([length]))
        want = own[f"wav_speed{name}"]
        yield likeness(f"wave at speed {speed}", bundle, wave[: len(want)], want)


def _end_to_end(bundle: Bundle, common: Golden, own: Golden, ref: Audio) -> Iterator[Check]:
    codes, timbre = reference.codes(bundle, ref), reference.timbre(bundle, [ref])
    heard = {**own, "prompt_semantic": codes}
    said = _run(bundle, *(_said(common, heard, i) for i in _segments(common)))
    tokens = [np.array(recorder.tokens) for recorder in said]
    phones = [common[f"seg{i}_phones"] for i in _segments(common)]
    # Upstream draws noise for the shortest segment first.
    order = sorted(_segments(common), key=lambda i: len(phones[i]))
    noise = {segment: own[f"e2e_default_noise{k}"] for k, segment in enumerate(order)}
    frames = [len(tokens[i]) * synthesis.FRAMES_PER_TOKEN for i in _segments(common)]
    if (wanted := [noise[i].shape[-1] for i in _segments(common)]) != frames:
        yield Check(f"end to end, frames {frames} not {wanted}", np.inf, _LSB)
        return
    waves = [
        _spoken(bundle, tokens[i], phones[i], timbre, noise[i]) for i in _segments(common)
    ]  # fmt: skip
    yield error("end to end, 16 bit", _pcm(waves), own["e2e_default_audio"], _LSB)
    if "e2e_batch_audio" in own:
        joint = np.concatenate(tokens), np.concatenate(phones)
        wave = _spoken(bundle, *joint, timbre, own["e2e_batch_noise0"])
        samples = synthesis.FRAMES_PER_TOKEN * bundle.spec.hop
        parts = np.split(wave, np.cumsum([len(row) for row in tokens])[:-1] * samples)
        yield error("end to end, joint, 16 bit", _pcm(parts), own["e2e_batch_audio"], _LSB)


def _spoken(
    bundle: Bundle,
    tokens: NDArray[np.int64],
    phones: NDArray[np.int64],
    timbre: NDArray[np.float32],
    noise: NDArray[np.float32],
) -> NDArray[np.float32]:
    latent = synthesis.encode(bundle, tokens, phones, timbre)
    return synthesis.vocode(bundle, synthesis.flow(bundle, latent, noise, timbre), timbre)


def _pcm(waves: list[NDArray[np.float32]]) -> NDArray[np.int16]:
    """As upstream writes it: levelled, 0.3 s of silence after each, cut off to 16 bits."""
    gap = np.zeros(_SILENCE, np.float32)
    parts = [part for wave in waves for part in (wave / max(1.0, float(np.abs(wave).max())), gap)]
    samples: NDArray[np.float32] = np.trunc(np.concatenate(parts) * 32768)
    return samples.clip(-32768, 32767).astype(np.int16)
