"""The signal model of embedder and detector: log-energies of cells, whitened into soft values.

The level of a speech cell is largely predictable from its neighbours. A prediction-error filter
removes the predictable part, and the remainder is divided by its local spread, so that a steady
vowel and a burst of noise count alike. The result is close to a log-likelihood ratio per cell:
positive where a cell is louder than the surrounding speech predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark.layout import CENTRES, HIGH_EDGES, LOW_BANDS, LOW_EDGES, SLOT_S

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
Taps = tuple[tuple[float, ...], ...]

FRAME_S = 0.032
HOP_S = 0.008
HOPS_PER_SLOT = round(SLOT_S / HOP_S)
MAX_FREQUENCY = 8400.0
"""Highest frequency analysed, in Hz: the top of the highest band, pitched up by 12 %."""


@dataclass(frozen=True, slots=True)
class CellFilters:
    """Filters of log-energies over (bands, slots), one per group of bands, symmetric in both
    directions: rows of taps are 0, 1 and 2 bands away, columns 0, 1, 2 (and 3) slots. Those of the
    embedder are prediction-error filters, the others least-squares estimators of the mark."""

    low: Taps
    high: Taps


HOST_FILTERS = CellFilters(
    ((1.0, -0.4176, 0.0319), (-0.3993, 0.1356, -0.0035), (-0.0818, 0.0599, -0.0084)),
    ((1.0, -0.3705, -0.0006), (-0.4403, 0.1173, 0.0188), (-0.0427, 0.0566, -0.0156)),
)
"""Used by the embedder, fitted on 70 unmarked LibriSpeech utterances. Part of the format."""
WIDEBAND = CellFilters(
    ((1.0, -0.3566, -0.0289), (-0.3456, 0.087, 0.0207), (-0.1289, 0.0727, -0.0008)),
    ((1.0, -0.2324, -0.0953), (-0.4033, 0.0415, 0.049), (-0.0697, 0.0575, 0.0019)),
)
"""For most audio, fitted on marked speech of 20 LibriSpeech speakers, clean and after Opus, AMR-NB
and GSM."""
NARROWBAND = CellFilters(
    ((1.0, -0.3397, -0.0319), (-0.3238, 0.0717, 0.0201), (-0.1391, 0.072, 0.0038)),
    ((1.0, -0.254, -0.1396), (-0.3633, 0.0354, 0.0848), (-0.0512, 0.0351, 0.0056)),
)
"""For audio without energy above 4 kHz, fitted on the same speech after AMR-NB and GSM."""
VOCODED = CellFilters(
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
"""For phase vocoders, whose long windows smear the mark over slots, fitted on the same speech after
librosa's phase vocoder."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrogram:
    """The short-time power spectrum of a clip."""

    power: Floats
    """(frames, bins)"""
    bin_width: float
    """In Hz."""
    hop: float
    """Seconds from frame to frame; frame 0 is centred at time 0."""

    @property
    def seconds(self) -> float:
        return (len(self.power) - 1) * self.hop


def compute_spectrogram(samples: Floats, rate: int) -> Spectrogram:
    """Compute a power spectrum every 8 ms at the native sample rate, without resampling."""
    width = round(FRAME_S * rate)
    count = int(len(samples) / (HOP_S * rate)) + 1
    padded = np.pad(samples, (width // 2, width))
    starts = np.rint(np.arange(count) * (HOP_S * rate)).astype(np.intp)
    size = fast_fft_size(width)
    kept_bins = min(int(MAX_FREQUENCY / rate * size) + 1, size // 2 + 1)
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[starts] * hann(width)
    bins = rfft(frames, size)[:, :kept_bins]
    return Spectrogram(bins.real**2 + bins.imag**2, rate / size, HOP_S)


def preload() -> None:
    """Import scipy.fft in advance; otherwise the first call would spend 0.15 s on it."""
    import scipy.fft  # noqa: F401


def rfft(rows: Floats, size: int, axis: int = -1) -> NDArray[np.complex64]:
    """Return the spectra along an axis, zero-padded to `size`. SciPy transforms many rows at once,
    three times as fast as NumPy; the import is deferred because it is slow."""
    from scipy import fft

    return fft.rfft(rows, size, axis)  # type: ignore[no-any-return]


def irfft(rows: NDArray[np.complex64], size: int, axis: int = -1) -> Floats:
    """Invert `rfft`."""
    from scipy import fft

    return fft.irfft(rows, size, axis)  # type: ignore[no-any-return]


def hann(width: int) -> Floats:
    """Return a periodic Hann window, (width,)."""
    phase = 2 * np.pi / width * np.arange(width)
    window: Floats = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    return window


def fast_fft_size(width: int) -> int:
    """Return the smallest even number >= width that has no prime factor above 5."""
    size = width + width % 2
    while _remove_factors(size) > 1:
        size += 2
    return size


def _remove_factors(size: int) -> int:
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    return size


def band_energies(spectrogram: Spectrogram, pitch: float = 1.0) -> Floats:
    """Return the energy of each band in each frame, band edges times `pitch`: (frames, BANDS)."""
    power, bin_width = spectrogram.power, spectrogram.bin_width
    return power @ _band_matrix(power.shape[1], bin_width, pitch)


@lru_cache(maxsize=64)
def _band_matrix(bins: int, bin_width: float, pitch: float) -> Floats:
    """Return the share of each bin that each band covers: (bins, BANDS). Bin i spans i +- 1/2."""
    edges = np.concatenate([LOW_EDGES, HIGH_EDGES[1:]]) * (pitch / bin_width) + 0.5
    below = np.clip(edges[None, :] - np.arange(bins)[:, None], 0, 1)
    return np.diff(below, axis=1).astype(np.float32)


def cell_energies(bands: Floats, slot: float, offsets: Floats) -> Floats:
    """Return the energy of each cell, in one grid per time offset: (offsets, BANDS, slots).

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


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The levels of the cells of a clip, and what each of them counts: what all filters share."""

    decibels: Floats
    """(grids, BANDS, slots)"""
    weight: Floats
    """From 0 to 1: (grids, BANDS, slots). A cell near the noise floor of its band counts little,
    because noise masks the mark there."""
    active: Indices
    """The slots that are not digital silence."""
    bandwidth: float
    """Share of the bands above 4 kHz that are in use."""


def measure_levels(energies: Floats) -> Levels:
    """Measure cells, (grids, BANDS, slots), of one clip, whose own statistics set the scale."""
    floor = _noise_floor(energies[0])
    if floor is None:
        return Levels(np.zeros_like(energies), np.zeros_like(energies), np.zeros(0, np.intp), 0.0)
    quiet, active = floor
    occupancy = _band_occupancy(energies[0], quiet, active)
    noise = 3 * np.quantile(energies[0][:, active], 0.1, axis=1).astype(np.float32) + 10 * quiet
    weight = energies / (energies + noise[:, None])
    weight *= occupancy[:, None]
    decibels = 10 * np.log10(energies + quiet)
    return Levels(decibels, weight, active, float(occupancy[CENTRES > 4000].mean()))


def soft_values(levels: Levels, *, vocoded: bool = False) -> Floats:
    """Return the detector's soft values: whitened levels, (grids, BANDS, slots), with less weight
    the higher the band. Codecs, above all those of telephones, spend their bits on low bands, where
    the mark survives with the speech; phase vocoders treat all bands alike."""
    if vocoded:
        return whiten(levels, VOCODED)
    filters = WIDEBAND if levels.bandwidth > 0.2 else NARROWBAND
    weights = 1 / (1 + CENTRES / (1500 + 6500 * levels.bandwidth))
    return whiten(levels, filters) * weights[:, None].astype(np.float32)


def whiten(levels: Levels, filters: CellFilters) -> Floats:
    """Return the filtered level of each cell, divided by its local spread: about a log-likelihood
    ratio, positive where a cell was raised; zeros for silence."""
    if not len(levels.active):
        return np.zeros_like(levels.decibels)
    groups = (slice(LOW_BANDS), filters.low), (slice(LOW_BANDS, None), filters.high)
    return np.concatenate([_whiten_group(levels, *group) for group in groups], axis=1)


def _noise_floor(energies: Floats) -> tuple[np.float32, Indices] | None:
    """Return the energy of the noise floor and the indices of the active slots; None for silence.
    Digital silence, as in padding, is not active: it must not set the scale for the speech."""
    power = energies.sum(axis=0)
    active = np.flatnonzero(power > 1e-6 * power.max(initial=0))
    return (np.float32(1e-7) * power[active].mean(), active) if len(active) else None


def _band_occupancy(energies: Floats, floor: np.float32, active: Indices) -> Floats:
    """Return about 1 for a band in use and 0 for one 40 dB below the total, such as the bands above
    4 kHz of a telephone call, which hold only codec artefacts: (bands,)."""
    mean = energies[:, active].mean(axis=1)
    occupancy: Floats = mean / (mean + 1000 * floor)
    return occupancy


def _whiten_group(levels: Levels, bands: slice, taps: Taps) -> Floats:
    error = symmetric_filter(levels.decibels[:, bands], taps)
    spread = np.float32(1.48) * np.median(np.abs(error[0][:, levels.active])) + np.float32(0.3)
    error /= spread
    squares = np.minimum(error * error, 25)
    variance = (_box_sum(squares) - squares) / 24
    precision = 1 / np.sqrt(np.maximum(variance, 0) + np.float32(0.15))
    weight = levels.weight[:, bands]
    soft: Floats = np.clip(error * precision, -1.5, 1.5) * precision * weight / spread
    return soft


def prediction_error(levels: Floats) -> Floats:
    """Return the part of log-energies that their neighbours do not predict: (..., BANDS, slots)."""
    low = symmetric_filter(levels[..., :LOW_BANDS, :], HOST_FILTERS.low)
    high = symmetric_filter(levels[..., LOW_BANDS:, :], HOST_FILTERS.high)
    return np.concatenate([low, high], -2)


def _box_sum(cells: Floats) -> Floats:
    """Return the sum over the 5 x 5 cells around each cell, edges repeated."""
    bands, slots = cells.shape[-2:]
    wide = _repeat_edges(cells, 2)
    tall = sum((wide[..., at : at + bands, :] for at in range(1, 5)), wide[..., :bands, :])
    return sum((tall[..., at : at + slots] for at in range(1, 5)), tall[..., :slots])


def _repeat_edges(cells: Floats, reach: int) -> Floats:
    """Extend cells by two bands and `reach` slots on each side."""
    bands, slots = cells.shape[-2:]
    wide = np.empty((*cells.shape[:-2], bands + 4, slots + 2 * reach), cells.dtype)
    inner = wide[..., 2:-2, :]
    inner[..., reach:-reach] = cells
    inner[..., :reach], inner[..., -reach:] = cells[..., :1], cells[..., -1:]
    wide[..., :2, :], wide[..., -2:, :] = inner[..., :1, :], inner[..., -1:, :]
    return wide


def symmetric_filter(cells: Floats, taps: Taps) -> Floats:
    """Correlate cells with a symmetric kernel, edges repeated. taps: one quadrant of it."""
    slots = cells.shape[-1]
    reach = len(taps[0]) - 1
    wide = _repeat_edges(cells, reach)
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
