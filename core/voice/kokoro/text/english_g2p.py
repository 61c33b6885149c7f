"""Phonemes of English words that are not in the lexicon, in Kokoro's alphabet."""

from __future__ import annotations

from collections.abc import Iterable

from core.text.en_g2p import predict_arpabet

_IPA = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "B": "b", "CH": "ʧ",
    "D": "d", "DH": "ð", "EH": "ɛ", "ER": "ɜɹ", "EY": "A", "F": "f", "G": "ɡ", "HH": "h",
    "IH": "ɪ", "IY": "i", "JH": "ʤ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ",
    "OW": "O", "OY": "Y", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ",
    "UH": "ʊ", "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}


def predict_phonemes(word: str) -> str:
    """Return the phonemes of a word of the letters a-z, by the network in `core.text.en_g2p`."""
    return ipa_of_arpabet(predict_arpabet(word))


def ipa_of_arpabet(phones: Iterable[str]) -> str:
    return "".join(map(_ipa, phones))


def _ipa(phone: str) -> str:
    if not phone[-1].isdigit():
        return _IPA[phone]
    name, stress = phone[:-1], phone[-1]
    if stress == "0" and name in {"AH", "ER"}:
        return {"AH": "ə", "ER": "əɹ"}[name]
    return _STRESS[stress] + _IPA[name]
