"""Measure the watermark: robustness, cost, false positives, secrecy and audio quality.

    python -m bench.watermark robust --seconds 5 --clips 40    payloads read, per attack
    python -m bench.watermark robust --suite harsh --seconds 8 the same under harsher attacks
    python -m bench.watermark false --segments 2000 --keys 4   scores of unmarked speech
    python -m bench.watermark leak --minutes 10                chips revealed by averaging
    python -m bench.watermark quality                          PESQ, STOI, SNR, noise to mask
    OMP_NUM_THREADS=1 python -m bench.watermark speed          CPU seconds per second, one core
    python -m bench.watermark short                            payloads read from short clips
    python -m bench.watermark cuts --seconds 3                 payloads read from cuts of streams
    python -m bench.watermark plot                             docs/watermark.svg from `robust`

`robust`, `false`, `quality`, `speed` and `short` take --stream: the mark of streams.

Each command prints a table and writes its figures to bench/results/watermark/. Speech comes from
--audio, by default ../shared/speech (LibriSpeech, CC BY 4.0), which is not part of this repository.
Needs `av`, `pesq`, `pystoi` and `soundfile`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import watermark
from bench import noise_to_mask
from bench.attacks import ATTACKS, Attack, Samples, resample
from bench.harsh import HARSH
from bench.watermark_plot import draw
from watermark import cells, search
from watermark.layout import BANDS, PERIOD, TILE, derive_layout
from watermark.receiver import NO_WARP, make_receiver

RESULTS = Path(__file__).parent / "results" / "watermark"
PLOT = Path(__file__).parents[1] / "docs" / "watermark.svg"
KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))
SUITES = {"common": ATTACKS, "harsh": HARSH}


def read_clips(options: argparse.Namespace, seconds: float, count: int) -> list[Samples]:
    """Cut clips of equal length from the files in a fixed shuffled order, one per file in turn."""
    files = sorted(options.audio.rglob("*.flac"), key=lambda path: zlib.crc32(path.name.encode()))
    if not files:
        sys.exit(f"no FLAC files in {options.audio}: pass a folder of recordings with --audio")
    out: list[Samples] = []
    for round_number in range(1000):
        before = len(out)
        for path in files:
            info = soundfile.info(path)
            start = int(round_number * seconds * info.samplerate)
            stop = start + int(seconds * info.samplerate)
            if stop <= info.frames:
                samples, rate = soundfile.read(path, start=start, stop=stop, dtype="float32")
                out.append(resample(samples, rate, options.rate))
            if len(out) == count:
                return out
        if len(out) == before:
            return out
    return out


def embed(
    options: argparse.Namespace,
    host: Samples,
    payload: int,
    key: bytes = KEY,
    *,
    strength: float = 0.0,
) -> Samples:
    """Mark a host as a file, or as a stream if that is asked for, which comes in unequal pieces."""
    strength = strength or options.strength
    if not options.stream:
        return watermark.embed(host, options.rate, payload, key, strength=strength)
    nonce = hashlib.sha256(host.tobytes()).digest()[: watermark.NONCE_BYTES]
    marker = watermark.StreamEmbedder(options.rate, payload, key, nonce, strength=strength)
    cuts = np.cumsum(np.random.default_rng(payload).integers(1, options.rate, len(host) // 4000))
    pieces = [marker.push(piece) for piece in np.split(host, cuts[cuts < len(host)])]
    return np.concatenate([*pieces, marker.finish()])


def robust(options: argparse.Namespace) -> dict[str, object]:
    """Count the payloads read under every attack."""
    read: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    suite = SUITES[options.suite]
    for number, host in enumerate(read_clips(options, options.seconds, options.clips)):
        payload = zlib.crc32(f"payload {number}".encode())
        marked = embed(options, host, payload)
        for name in options.only.split(",") if options.only else suite:
            attack = suite[name]
            found = watermark.detect(attack(marked, options.rate), options.rate, KEY).payload
            tally = read[name]
            tally[0] += 1
            tally[1] += found == payload
            tally[2] += found not in (None, payload)
    table = {name: {"clips": n, "read": r, "wrong": w} for name, (n, r, w) in read.items()}
    for name, row in table.items():
        print(f"| {name} | {100 * row['read'] / row['clips']:.0f} | {row['wrong']} |")
    mean = sum(row["read"] for row in table.values()) / sum(r["clips"] for r in table.values())
    print(f"| mean | {100 * mean:.1f} | {sum(row['wrong'] for row in table.values())} |")
    return {"seconds": options.seconds, "rate": options.rate, "attacks": table, "mean": mean}


def false(options: argparse.Namespace) -> dict[str, object]:
    """Score unmarked segments, clean and attacked, under several keys; measure the tail of z. With
    --stream, the segments are streams that were marked under another key."""
    names = [
        "none",
        "mp3 48k",
        "opus 16k",
        "white noise 20 dB",
        "telephone",
        "mu-law",
        "speed 1.03",
    ]
    scores, tails, total = [], np.zeros(3), 0
    hosts = read_clips(options, options.seconds, options.segments)
    for number in range(options.segments):
        round_number, at = divmod(number, len(hosts))
        attack = ATTACKS[names[(round_number + at) % len(names)]]
        host = embed(options, hosts[at], number, OTHER_KEY) if options.stream else hosts[at]
        sound = attack(host, options.rate)
        key = zlib.crc32(bytes([number % options.keys])).to_bytes(4, "big") * 8
        thorough = number % options.thorough_every == 0
        scores.append(watermark.detect(sound, options.rate, key, thorough=thorough).score)
        spectrogram = cells.compute_spectrogram(sound, options.rate)
        inner, energy = make_receiver(key).correlate(search.soft_value_grids(spectrogram, NO_WARP))
        z = inner / np.sqrt(energy)
        tails += [(z > limit).sum() for limit in (3, 3.5, 4)]
        total += z.size
    theory = [total * math.erfc(limit / math.sqrt(2)) / 2 for limit in (3, 3.5, 4)]
    above = {str(limit): int(sum(score >= limit for score in scores)) for limit in (1, 2, 3, 4, 6)}
    ratios = [float(count / expected) for count, expected in zip(tails, theory, strict=True)]
    print(f"{len(scores)} segments, {options.keys} keys; highest score {max(scores):.2f}")
    print("scores at or above", above)
    print(f"{total} values of z; tail beyond 3, 3.5, 4 against theory:", np.round(ratios, 2))
    return {
        "segments": len(scores),
        "cuts of speech": len(hosts),
        "keys": options.keys,
        "above": above,
        "highest": max(scores),
        "tails": ratios,
    }


def leak(options: argparse.Namespace) -> dict[str, object]:
    """Measure the share of chips that averaging marked clips reveals without the key."""
    count = int(options.minutes * 60 / options.seconds)
    key_layout = derive_layout(KEY)
    slots = int(options.seconds / 0.032) - 2
    mean, tile = np.zeros((BANDS, slots)), np.zeros((BANDS, TILE))
    stream = np.zeros((BANDS, PERIOD))
    for number, host in enumerate(read_clips(options, options.seconds, count)):
        payload = options.payload or zlib.crc32(f"payload {number}".encode())
        marked = watermark.embed(host, options.rate, payload, KEY)
        spectrogram = cells.compute_spectrogram(marked, options.rate)
        soft_values = search.soft_value_grids(spectrogram, NO_WARP, 1)[0][:, :slots]
        start = _true_start(marked, payload, options.rate)
        mean += soft_values
        stream[:, (start + np.arange(slots)) % PERIOD] += soft_values
        tile += soft_values[:, : slots // TILE * TILE].reshape(BANDS, -1, TILE).sum(axis=1)
    never_used = derive_layout(bytes(32)).sync
    truth = key_layout.sync != 0
    out = {
        "clips aligned at their beginnings": _best_agreement(mean, key_layout.sync),
        "the same against a key never used: chance": _best_agreement(mean, never_used),
        "folded at a tile": _best_agreement(np.tile(tile, (1, PERIOD // TILE)), key_layout.sync),
        "if the secret starts were known": np.mean((np.sign(stream) == key_layout.sync)[truth]),
    }
    out = {name: float(share) for name, share in out.items()}
    for name, share in out.items():
        print(f"| {name} | {100 * share:.1f} % |")
    return {"minutes": options.minutes, "clips": count, "agreement": out}


def _true_start(marked: Samples, payload: int, rate: int) -> int:
    soft_values = search.soft_value_grids(cells.compute_spectrogram(marked, rate), NO_WARP, 1)
    inner, energy = make_receiver(KEY).with_payload(payload).correlate(soft_values)
    return int(np.argmax(inner / np.sqrt(energy)))


def _cut_chips(chips: Samples, start: int, slots: int) -> Samples:
    return chips[:, (start + np.arange(slots)) % PERIOD]


def _best_agreement(average: NDArray[np.float64], sync: Samples) -> float:
    """Return the highest share of equal signs over sync cells at any start in the chip sequence."""
    slots = average.shape[1]
    guess = np.sign(average)
    shares = []
    for start in range(PERIOD):
        truth = _cut_chips(sync, start, slots)
        shares.append(np.mean((guess == truth)[truth != 0]))
    return float(max(shares))


def quality(options: argparse.Namespace) -> dict[str, object]:
    """Measure audio quality per strength, and that of common codecs for comparison."""
    from pesq import pesq
    from pystoi import stoi

    hosts = read_clips(options, 6, options.clips)
    treatments = {f"mark {db} dB": _marker(options, db) for db in (1.5, 1.8, 2.2, 2.6, 3.0)}
    codecs = () if options.stream else ("mp3 96k", "mp3 64k", "aac 64k", "opus 32k")
    treatments |= {name: ATTACKS[name] for name in codecs}
    out: dict[str, object] = {}
    for name, treat in treatments.items():
        rows = []
        for host in hosts:
            changed = _aligned(treat(host, options.rate), host)
            narrow = [resample(sound, options.rate, 16_000) for sound in (host, changed)]
            audible, high = noise_to_mask.measure(host, changed, options.rate)
            error = 10 * np.log10(np.sum(host**2) / np.sum((host - changed) ** 2))
            grade = pesq(16_000, *narrow, "wb")
            rows.append((grade, stoi(host, changed, options.rate), error, 100 * audible, high))
        grades = np.array(rows)
        row = [float(v) for v in (*np.median(grades, axis=0), np.quantile(grades[:, 0], 0.1))]
        out[name] = row
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    return out


def _marker(options: argparse.Namespace, strength: float) -> Attack:
    return lambda samples, rate: embed(options, samples, 1, strength=strength)


def _aligned(changed: Samples, host: Samples) -> Samples:
    """Remove the delay of a codec, and pad or cut to the length of the host."""
    size = 1 << (len(host) + len(changed)).bit_length()
    product = np.fft.rfft(changed, size) * np.conj(np.fft.rfft(host, size))
    lag = int(np.argmax(np.fft.irfft(product, size)))
    lag -= size if lag > size // 2 else 0
    changed = changed[lag:] if lag > 0 else np.pad(changed, (-lag, 0))
    return np.pad(changed, (0, max(len(host) - len(changed), 0)))[: len(host)].astype(np.float32)


def speed(options: argparse.Namespace) -> dict[str, object]:
    """Measure the median CPU seconds per second of audio on one core."""
    out: dict[str, object] = {}
    for rate in (16_000, 24_000, 48_000):
        options.rate = rate
        rows = []
        for host in read_clips(options, options.seconds, options.clips):
            marked, embed_s = _timed(embed, options, host, 1)
            marked_s = _timed(watermark.detect, marked, rate, KEY)[1]
            fast_s = _timed(partial(watermark.detect, thorough=False), host, rate, KEY)[1]
            thorough_s = _timed(watermark.detect, host, rate, KEY)[1]
            rows.append([embed_s, marked_s, fast_s, thorough_s])
        medians = np.median(np.array(rows), axis=0) / options.seconds
        out[str(rate)] = medians.tolist()
        cost = " | ".join(f"{value:.4f}" for value in medians)
        print(f"| {rate} | {cost} |  (embed, detect marked, unmarked fast, unmarked thorough)")
    return out


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    begin = time.process_time()
    result = work(*arguments)
    return result, time.process_time() - begin


def short(options: argparse.Namespace) -> dict[str, object]:
    """Count the undistorted short utterances read by `detect` and confirmed by `verify`."""
    out: dict[str, object] = {}
    for seconds in (0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0):
        tally = np.zeros(3, int)
        for clip in read_clips(options, 6, options.clips):
            host = _loudest(clip, int(seconds * options.rate))
            marked = embed(options, host, 9)
            read = watermark.detect(marked, options.rate, KEY, thorough=False).payload == 9
            known = watermark.verify(marked, options.rate, 9, KEY, thorough=False).marked
            tally += [1, read, known]
        out[str(seconds)] = tally.tolist()
        print(f"| {seconds} s | {tally[0]} clips | read {tally[1]} | verified {tally[2]} |")
    return out


def cuts(options: argparse.Namespace) -> dict[str, object]:
    """Count the payloads read from what was sent of streams that were cancelled, and from cuts out
    of streams, at random places; the same places in files for comparison."""
    out: dict[str, object] = {}
    size = int(options.seconds * options.rate)
    hosts = read_clips(options, 4 * options.seconds, options.clips)
    for options.stream in (False, True):
        random, tally = np.random.default_rng(22), np.zeros(4, int)
        for number, host in enumerate(hosts):
            payload = zlib.crc32(f"payload {number}".encode())
            marked = embed(options, host, payload)
            for start in (0, *random.integers(1, len(host) - size, options.cuts - 1).tolist()):
                piece = marked[start : start + size]
                found = watermark.detect(piece, options.rate, KEY).payload
                known = watermark.verify(piece, options.rate, payload, KEY, thorough=False)
                tally += [1, found == payload, known.marked, found not in (None, payload)]
        kind = "streams" if options.stream else "files"
        out[kind] = tally.tolist()
        print(
            f"| {kind} | {tally[0]} cuts of {options.seconds:g} s | read {tally[1]}"
            f" | verified {tally[2]} | wrong {tally[3]} |"
        )
    return out


def _loudest(samples: Samples, size: int) -> Samples:
    """Return the stretch with the most energy, like a word spoken without pauses."""
    total = np.cumsum(np.append(0, samples.astype(np.float64) ** 2))
    start = int(np.argmax(total[size:] - total[:-size]))
    return samples[start : start + size]


def plot(options: argparse.Namespace) -> dict[str, object]:
    """Draw docs/watermark.svg from the results of `robust`."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("robust-*[0-9].json"))]
    PLOT.write_text(draw(sorted(runs, key=lambda run: run["seconds"])))
    print(PLOT)
    return {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = (robust, false, leak, quality, speed, short, cuts, plot)
    parser.add_argument("command", choices=[command.__name__ for command in commands])
    parser.add_argument("--audio", type=Path, default=Path("../shared/speech"))
    parser.add_argument("--rate", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--cuts", type=int, default=20, help="cuts: of each clip")
    parser.add_argument("--stream", action="store_true", help="mark as a stream")
    parser.add_argument("--suite", choices=SUITES, default="common", help="robust: set of attacks")
    parser.add_argument("--only", default="", help="robust: names of attacks, comma separated")
    parser.add_argument("--strength", type=float, default=watermark.DEFAULT)
    parser.add_argument("--segments", type=int, default=2000)
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--thorough-every", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--at-least", type=float, default=0, metavar="SHARE",
        help="robust: exit code 1 if fewer payloads are read or any is wrong",
    )  # fmt: skip
    parser.add_argument("--payload", type=int, default=0, help="leak: one payload for all clips")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args()
    result = globals()[options.command](options)
    if result and not options.only:
        options.results.mkdir(parents=True, exist_ok=True)
        suffix = f"-{options.seconds:g}s-{options.rate}" if options.command == "robust" else ""
        suffix += "" if options.suite == "common" else f"-{options.suite}"
        suffix += "-stream" if options.stream and options.command != "cuts" else ""
        path = options.results / f"{options.command}{suffix}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    return int(options.command == "robust" and not _robust_enough(result, options.at_least))


def _robust_enough(result: dict[str, Any], mean: float) -> bool:
    wrong = sum(row["wrong"] for row in result["attacks"].values())
    return result["mean"] >= mean and not wrong


if __name__ == "__main__":
    sys.exit(main())
