"""Grapheme-to-phoneme model for English words that are not in the dictionary.

The sequence-to-sequence network of Kyubyong/g2p (Apache-2.0), two GRUs, run in numpy.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from core.text.symbols import DATA

Array = NDArray[np.float32]

_LETTERS = {letter: i + 3 for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
_UNKNOWN, _END_OF_WORD = 1, 2
_START, _STOP = 2, 3
_PHONES = (  # noqa: SIM905
    "AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 "
    "ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 "
    "P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
).split()

_READ = 60
"""Letters of a word that are read. More than twenty phones are never returned."""


@cache
def predict_arpabet(word: str, longest: int = 20) -> tuple[str, ...]:
    """Return at most `longest` ARPAbet phones with stress for a word of the letters a-z."""
    net = _network()
    state = np.zeros(net["enc_w_hh"].shape[1], np.float32)
    for letter in [*(_LETTERS.get(c, _UNKNOWN) for c in word[:_READ].lower()), _END_OF_WORD]:
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
    return tuple(phones)


def _step(net: dict[str, Array], side: str, symbol: int, state: Array) -> Array:
    """Compute one step of a GRU (Cho et al. 2014, in cuDNN's variant)."""
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
    with np.load(DATA / "en_spelling.npz") as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}
