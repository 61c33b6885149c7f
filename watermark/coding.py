"""Channel coding: 32 payload bits as 264 coded bits, and back from soft values.

payload (32) | CRC-12  ->  tail-biting convolutional code, constraint length 15, rate 1/6.

The code is that of the Mars Pathfinder and Cassini missions (generators below, octal). It is
tail-biting (Ma and Wolf, 1986): the encoder starts in the state in which it will end, which saves a
tail that would be costly at 44 bits. The decoder is a circular Viterbi algorithm that starts
`WRAP_STEPS` early and ends as many late, when the start state no longer matters.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PAYLOAD_BITS = 32
CRC_BITS = 12
CRC_POLYNOMIAL = 0x80F
GENERATORS = (0o46321, 0o51271, 0o63667, 0o70535, 0o73277, 0o76513)
MEMORY = 14
INFO_BITS = PAYLOAD_BITS + CRC_BITS
CODED_BITS = INFO_BITS * len(GENERATORS)
WRAP_STEPS = 20


def crc12(payload: int) -> int:
    """Return the CRC-12 of 32 bits, high bit first: x^12+x^11+x^3+x^2+x+1, initially all ones."""
    register = 0xFFF
    for shift in range(PAYLOAD_BITS - 1, -1, -1):
        feedback = (payload >> shift ^ register >> (CRC_BITS - 1)) & 1
        register = (register << 1 & 0xFFF) ^ (CRC_POLYNOMIAL * feedback)
    return register


@lru_cache(maxsize=1024)
def encode(payload: int) -> Floats:
    """Return the codeword: shape (264,), +1 for a coded 0 and -1 for a coded 1. Raises ValueError
    for a payload that is not an unsigned 32-bit number."""
    if not 0 <= payload < 1 << PAYLOAD_BITS:
        raise ValueError(f"payload must be an unsigned 32-bit number, not {payload}")
    word = payload << CRC_BITS | crc12(payload)
    bits = [word >> shift & 1 for shift in range(INFO_BITS - 1, -1, -1)]
    register = 0
    for bit in bits[-MEMORY:]:
        register = (bit << MEMORY | register) >> 1
    signs = np.empty((INFO_BITS, len(GENERATORS)), np.float32)
    for step, bit in enumerate(bits):
        register |= bit << MEMORY
        signs[step] = [1 - 2 * ((register & taps).bit_count() & 1) for taps in GENERATORS]
        register >>= 1
    codeword = signs.reshape(-1)
    codeword.setflags(write=False)
    return codeword


def decode(soft: Floats) -> int | None:
    """Return the payload of the most likely codeword, or None if its CRC is wrong.

    soft: shape (264,), proportional to the log-likelihood ratio; positive for a coded 0.
    """
    word = 0
    for bit in _viterbi(soft.reshape(INFO_BITS, len(GENERATORS))):
        word = word << 1 | int(bit)
    payload, crc = word >> CRC_BITS, word & ((1 << CRC_BITS) - 1)
    return payload if crc12(payload) == crc else None


@lru_cache(maxsize=1)
def _trellis() -> tuple[NDArray[np.intp], Floats]:
    """Return the symbol of each even state at input 0, (8192,), and signs by symbol, (6, 64)."""
    states = np.arange(0, 1 << MEMORY, 2)
    symbol = np.zeros(len(states), np.intp)
    for position, taps in enumerate(GENERATORS):
        parity = states & taps
        for shift in (8, 4, 2, 1):
            parity ^= parity >> shift
        symbol |= (parity & 1) << position
    table = np.arange(1 << len(GENERATORS))
    positions = np.arange(len(GENERATORS))[:, None]
    return symbol, (1 - 2 * (table >> positions & 1)).astype(np.float32)


def _viterbi(soft: Floats) -> NDArray[np.intp]:
    """Return the most likely input bits, (44,). A state is the last 14 bits, the newest highest.

    Every generator taps both the newest and the oldest bit, so flipping either of them negates the
    whole symbol: one branch metric per pair of states serves all four branches of a butterfly.
    """
    symbol, signs = _trellis()
    gains = np.take((soft @ signs).astype(np.float32), symbol, axis=1)
    around = np.arange(-WRAP_STEPS, len(soft) + WRAP_STEPS) % len(soft)
    half = 1 << (MEMORY - 1)
    metric = np.zeros((2, half), np.float32)
    before, move = np.empty_like(metric), np.empty_like(metric)
    from_odd = np.empty((len(around), 2, half), bool)
    for step, gain in enumerate(gains[at] for at in around.tolist()):
        before[:] = metric.reshape(half, 2).T  # copied: contiguous numbers are added faster
        even, odd = before
        np.add(even, gain, out=metric[0])
        np.subtract(even, gain, out=metric[1])
        np.subtract(odd, gain, out=move[0])
        np.add(odd, gain, out=move[1])
        np.greater(move, metric, out=from_odd[step])
        np.maximum(metric, move, out=metric)
    return _trace_back(from_odd.reshape(len(around), -1), int(np.argmax(metric)))


def _trace_back(from_odd: NDArray[np.bool_], state: int) -> NDArray[np.intp]:
    steps = len(from_odd)
    bits = np.empty(steps, np.intp)
    for step in range(steps - 1, -1, -1):
        bits[step] = state >> (MEMORY - 1)
        state = (state << 1 & ((1 << MEMORY) - 1)) | int(from_odd[step, state])
    return bits[WRAP_STEPS : steps - WRAP_STEPS]
