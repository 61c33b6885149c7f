"""The sound of an English word that no dictionary has: the sequence-to-sequence network of
Kyubyong/g2p (Apache-2.0), two GRUs, run in numpy."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_LETTERS = {letter: i + 3 for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
_UNKNOWN, _END_OF_WORD = 1, 2
_START, _STOP = 2, 3
_PHONES = (  # noqa: SIM905
    "AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 "
    "ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 "
    "P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
).split()
_IPA = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "B": "b", "CH": "ʧ",
    "D": "d", "DH": "ð", "EH": "ɛ", "ER": "ɜɹ", "EY": "A", "F": "f", "G": "ɡ", "HH": "h",
    "IH": "ɪ", "IY": "i", "JH": "ʤ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ",
    "OW": "O", "OY": "Y", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ",
    "UH": "ʊ", "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}


@cache
def pronounce(word: str) -> str:
    """Letters a-z in, Kokoro's phonemes out."""
    return "".join(_ipa(phone) for phone in _predict(word.lower()))


def _ipa(phone: str) -> str:
    if not phone[-1].isdigit():
        return _IPA[phone]
    name, stress = phone[:-1], phone[-1]
    if stress == "0" and name in {"AH", "ER"}:
        return {"AH": "ə", "ER": "əɹ"}[name]
    return _STRESS[stress] + _IPA[name]


def _predict(word: str, longest: int = 20) -> list[str]:
    net = _network()
    state = np.zeros(net["enc_w_hh"].shape[1], np.float32)
    for letter in [*(_LETTERS.get(c, _UNKNOWN) for c in word), _END_OF_WORD]:
        state = _step(net, "enc", letter, state)
    phones: list[str] = []
    last = _START
    while len(phones) < longest:
        state = _step(net, "dec", last, state)
        last = int(np.argmax(net["fc_w"] @ state + net["fc_b"]))
        if last == _STOP:
            break
        if last > _STOP:
            phones.append(_PHONES[last - 4])
    return phones


def _step(net: dict[str, Array], side: str, symbol: int, state: Array) -> Array:
    """One GRU cell (Cho et al. 2014, the variant of cuDNN)."""
    gates_in = net[f"{side}_w_ih"] @ net[f"{side}_emb"][symbol] + net[f"{side}_b_ih"]
    gates_state = net[f"{side}_w_hh"] @ state + net[f"{side}_b_hh"]
    reset_in, update_in, new_in = np.split(gates_in, 3)
    reset_state, update_state, new_state = np.split(gates_state, 3)
    reset = 1 / (1 + np.exp(-(reset_in + reset_state)))
    update = 1 / (1 + np.exp(-(update_in + update_state)))
    new = np.tanh(new_in + reset * new_state)
    blended: Array = (1 - update) * new + update * state
    return blended


@cache
def _network() -> dict[str, Array]:
    with np.load(Path(__file__).parents[1] / "data/en_spelling.npz") as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}
