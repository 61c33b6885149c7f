from __future__ import annotations

import numpy as np
import pytest

from watermark import coding


@pytest.mark.parametrize("payload", [0, 1, 0xDEADBEEF, 2**32 - 1])
def test_a_clean_codeword_decodes_to_its_payload(payload: int) -> None:
    assert coding.decode(coding.encode(payload)) == payload


@pytest.mark.parametrize("payload", [-1, 2**32], ids=["negative", "33 bits"])
def test_payloads_that_do_not_fit_are_refused(payload: int) -> None:
    with pytest.raises(ValueError, match="32-bit"):
        coding.encode(payload)


def test_codewords_are_pinned() -> None:
    """The format must not change: released audio carries these bits."""
    bits = np.packbits(coding.encode(0xDEADBEEF) < 0).tobytes().hex()
    assert coding.crc12(0xDEADBEEF) == 0x425
    assert bits == "fc734a929ff555d5be64a72bfa4ff41b23f5b3664d478f1d4d0a56c71920bd74f6"


def test_noise_at_two_decibels_per_bit_is_corrected() -> None:
    noise = np.random.default_rng(1)
    sigma = 1 / np.sqrt(2 * 10 ** (2 / 10) * coding.INFO_BITS / coding.CODED_BITS)
    read = 0
    for payload in range(20):
        soft = coding.encode(payload) + sigma * noise.standard_normal(coding.CODED_BITS)
        read += coding.decode(soft.astype(np.float32)) == payload
    assert read >= 18


@pytest.mark.slow
def test_noise_alone_hardly_ever_passes_the_crc() -> None:
    noise = np.random.default_rng(2)
    soft = noise.standard_normal((50, coding.CODED_BITS)).astype(np.float32)
    assert [coding.decode(row) for row in soft] == [None] * 50
