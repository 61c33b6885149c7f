"""How embedder and detector see sound: the log-energy of cells, and what the host did not foretell.

Speech is smooth: a cell's level follows from its neighbours'. An interpolation-error filter removes
what they foretell, and what remains is divided by its own local spread, so that a steady vowel and
a burst of noise count alike. The result is close to a log-likelihood ratio per cell: positive where
a cell is louder than speech alone would make it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark.layout import CENTRES, HIGH_EDGES, LOW_BANDS, LOW_EDGES, SLOT

Floats = NDArray[np.float32]
Taps = tuple[tuple[float, ...], ...]

FRAME = 0.032
HOP = 0.008
HOPS_A_SLOT = round(SLOT / HOP)
TOP = 8400.0
"""Highest frequency looked at, in Hz: the highest band, pitched up by 12 %."""


@dataclass(frozen=True, slots=True)
class Ear:
    """Filters of log-energies over (bands, slots), symmetric in both: rows are 0, 1, 2 bands away,
    columns 0, 1, 2 (3) slots. Interpolation-error filters where the mark came through whole, else
    the best linear estimate of the mark from what a codec or vocoder left of it."""

    low: Taps
    high: Taps


HOST = Ear(
    ((1.0, -0.4176, 0.0319), (-0.3993, 0.1356, -0.0035), (-0.0818, 0.0599, -0.0084)),
    ((1.0, -0.3705, -0.0006), (-0.4403, 0.1173, 0.0188), (-0.0427, 0.0566, -0.0156)),
)
"""What the embedder informs itself by: fitted on 70 unmarked LibriSpeech utterances. Part of the
format."""
WIDE = Ear(
    ((1.0, -0.3566, -0.0289), (-0.3456, 0.087, 0.0207), (-0.1289, 0.0727, -0.0008)),
    ((1.0, -0.2324, -0.0953), (-0.4033, 0.0415, 0.049), (-0.0697, 0.0575, 0.0019)),
)
"""For most sound: fitted on marked speech of 20 LibriSpeech speakers, clean and after Opus, AMR-NB
and GSM."""
NARROW = Ear(
    ((1.0, -0.3397, -0.0319), (-0.3238, 0.0717, 0.0201), (-0.1391, 0.072, 0.0038)),
    ((1.0, -0.254, -0.1396), (-0.3633, 0.0354, 0.0848), (-0.0512, 0.0351, 0.0056)),
)
"""For sound with nothing above 4 kHz: fitted on the same speech after AMR-NB and GSM."""
SMEARED = Ear(
    (
        (1.0, 0.3507, -0.1345, -0.3114),
        (-0.3876, -0.1695, 0.0292, 0.106),
        (-0.0872, -0.0171, 0.0402, 0.0432),
    ),
    (
        (1.0, 0.3947, -0.0825, -0.3005),
        (-0.4985, -0.208, -0.0008, 0.1265),
        (0.0186, 0.0215, 0.017, 0.0266),
    ),
)
"""For phase vocoders, whose long windows smear the mark over slots: fitted on the same speech after
librosa's."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Short-time power of a clip."""

    power: Floats
    """(frames, bins)"""
    bin_width: float
    """Hz"""
    hop: float
    """Seconds from frame to frame; frame 0 is centred at time 0."""

    @property
    def seconds(self) -> float:
        return (len(self.power) - 1) * self.hop


def spectrum(samples: Floats, rate: int) -> Spectrum:
    """Power spectra every 8 ms at the native rate: nothing is resampled."""
    width = round(FRAME * rate)
    count = int(len(samples) / (HOP * rate)) + 1
    padded = np.pad(samples, (width // 2, width))
    starts = np.rint(np.arange(count) * (HOP * rate)).astype(np.intp)
    size = fast_size(width)
    keep = min(int(TOP / rate * size) + 1, size // 2 + 1)
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[starts] * hann(width)
    bins = rfft(frames, size)[:, :keep]
    return Spectrum(bins.real**2 + bins.imag**2, rate / size, HOP)


def warm() -> None:
    """Import now, where there is time, what the first call would wait 0.15 s for."""
    import scipy.fft  # noqa: F401


def rfft(rows: Floats, size: int, axis: int = -1) -> NDArray[np.complex64]:
    """Spectra along an axis, zero-padded to size. SciPy's works on many rows at once, three times
    as fast as NumPy's; it is imported here because importing it is slow."""
    from scipy import fft

    return fft.rfft(rows, size, axis)  # type: ignore[no-any-return]


def irfft(rows: NDArray[np.complex64], size: int, axis: int = -1) -> Floats:
    """The inverse of `rfft`."""
    from scipy import fft

    return fft.irfft(rows, size, axis)  # type: ignore[no-any-return]


def hann(width: int) -> Floats:
    """Periodic Hann window, (width,)."""
    phase = 2 * np.pi / width * np.arange(width)
    window: Floats = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    return window


def fast_size(width: int) -> int:
    """The least even number >= width that has no prime factor above 5."""
    size = width + width % 2
    while _rest(size) > 1:
        size += 2
    return size


def _rest(size: int) -> int:
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    return size


def band_energies(view: Spectrum, pitch: float = 1.0) -> Floats:
    """Energy of each band at each frame, its frequencies times pitch: (frames, BANDS)."""
    return view.power @ _band_matrix(view.power.shape[1], view.bin_width, pitch)


def _band_matrix(bins: int, bin_width: float, pitch: float) -> Floats:
    """Share of each bin that each band covers: (bins, BANDS). Bin i covers i -+ 1/2."""
    edges = np.concatenate([LOW_EDGES, HIGH_EDGES[1:]]) * (pitch / bin_width) + 0.5
    below = np.clip(edges[None, :] - np.arange(bins)[:, None], 0, 1)
    return np.diff(below, axis=1).astype(np.float32)


def cell_energies(bands: Floats, slot: float, offsets: Floats) -> Floats:
    """Energy of each cell of grids that begin at several offsets: (offsets, BANDS, slots).

    bands: (frames, BANDS); slot, offsets: in frames.
    """
    total = np.zeros((len(bands) + 1, bands.shape[1]))
    np.cumsum(bands, axis=0, out=total[1:])
    count = max(int((len(bands) - 0.5 - offsets.max()) / slot), 0)
    at = offsets[:, None] + 0.5 + slot * np.arange(count + 1)
    low = np.minimum(at.astype(np.intp), len(bands))
    edges = total[low]
    edges += (at - low)[..., None] * (total[np.minimum(low + 1, len(bands))] - edges)
    return np.diff(edges, axis=1).transpose(0, 2, 1).astype(np.float32)


def soft_values(energies: Floats, *, smeared: bool = False) -> Floats:
    """What a detector makes of cells: `soften`, and less trust the higher a band is. Codecs spend
    their bits on low bands, those of telephones most of all, and the mark fares as the sound does.
    Phase vocoders treat all bands alike.
    """
    if smeared:
        return soften(energies, SMEARED)
    ground = _ground(energies[0])
    if ground is None:
        return np.zeros_like(energies)
    wide = float(_openness(energies[0], *ground)[CENTRES > 4000].mean())
    ear = WIDE if wide > 0.2 else NARROW
    trust = 1 / (1 + CENTRES / (1500 + 6500 * wide))
    return soften(energies, ear) * trust[:, None].astype(np.float32)


def soften(energies: Floats, ear: Ear) -> Floats:
    """Soft value of each cell, about a log-likelihood ratio: positive where it was raised.

    energies: (grids, BANDS, slots) of one stretch of sound; its own statistics set the scale.
    """
    ground = _ground(energies[0])
    if ground is None:
        return np.zeros_like(energies)
    low = _soften_group(energies[:, :LOW_BANDS], ear.low, *ground)
    high = _soften_group(energies[:, LOW_BANDS:], ear.high, *ground)
    return np.concatenate([low, high], axis=1)


def _ground(energies: Floats) -> tuple[np.float32, NDArray[np.intp]] | None:
    """The energy below which nothing counts, and the slots that are not digital silence: that, as
    at padded ends, must not set the scale of the speech beside it."""
    loudness = energies.sum(axis=0)
    live = np.flatnonzero(loudness > 1e-6 * loudness.max(initial=0))
    return (np.float32(1e-7) * loudness[live].mean(), live) if len(live) else None


def _openness(energies: Floats, floor: np.float32, live: NDArray[np.intp]) -> Floats:
    """About 1, and 0 for a band 40 dB below all sound: above a telephone's 4 kHz, say, lie nothing
    but the codec's crumbs. (bands,)"""
    share = energies[:, live].mean(axis=1)
    openness: Floats = share / (share + 1000 * floor)
    return openness


def _soften_group(
    energies: Floats, taps: Taps, floor: np.float32, live: NDArray[np.intp]
) -> Floats:
    rest = symmetric_filter(10 * np.log10(energies + floor), taps)
    spread = np.float32(1.48) * np.median(np.abs(rest[0][:, live])) + np.float32(0.3)
    rest /= spread
    squares = np.minimum(rest * rest, 25)
    around = (_box(squares) - squares) / 24
    precision = 1 / np.sqrt(np.maximum(around, 0) + np.float32(0.15))
    # A cell near its band's noise floor says little, for the mark there is drowned.
    noise = 3 * np.quantile(energies[0][:, live], 0.1, axis=1).astype(np.float32) + 10 * floor
    clear = energies / (energies + noise[:, None])
    clear *= _openness(energies[0], floor, live)[:, None]
    soft: Floats = np.clip(rest * precision, -1.5, 1.5) * precision * clear / spread
    return soft


def surprise(levels: Floats) -> Floats:
    """What the neighbours do not foretell of log-energies: (..., BANDS, slots) in and out."""
    low = symmetric_filter(levels[..., :LOW_BANDS, :], HOST.low)
    return np.concatenate([low, symmetric_filter(levels[..., LOW_BANDS:, :], HOST.high)], -2)


def _box(cells: Floats) -> Floats:
    """Sum of the 5 x 5 cells around each, edges repeated."""
    bands, slots = cells.shape[-2:]
    rows = np.clip(np.arange(-2, bands + 2), 0, bands - 1)[:, None]
    wide = cells[..., rows, np.clip(np.arange(-2, slots + 2), 0, slots - 1)]
    tall = sum((wide[..., at : at + bands, :] for at in range(1, 5)), wide[..., :bands, :])
    return sum((tall[..., at : at + slots] for at in range(1, 5)), tall[..., :slots])


def symmetric_filter(cells: Floats, taps: Taps) -> Floats:
    """Correlation with edges repeated; taps: one quadrant, 3 rows of bands, columns of slots."""
    bands, slots = cells.shape[-2:]
    reach = len(taps[0]) - 1
    rows = np.clip(np.arange(-2, bands + 2), 0, bands - 1)[:, None]
    wide = cells[..., rows, np.clip(np.arange(-reach, slots + reach), 0, slots - 1)]
    shifts = [wide[..., at : at + slots] for at in range(2 * reach + 1)]
    pairs = [shifts[reach], *(shifts[reach - j] + shifts[reach + j] for j in range(1, reach + 1))]
    same, one, two = (
        sum((tap * pair for tap, pair in zip(row[1:], pairs[1:], strict=True)), row[0] * pairs[0])
        for row in taps
    )
    out: Floats = same[..., 2:-2, :]
    out += one[..., 1:-3, :] + one[..., 3:-1, :]
    out += two[..., :-4, :] + two[..., 4:, :]
    return out
