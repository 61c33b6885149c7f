"""A page for the ear: can you tell marked from unmarked?

    python -m bench.abx ../shared/speech/test-other -o abx.html [--trials 16] [--strength 2.2]

Writes one HTML file that works from disk: in each trial X is A or B at random, A and B are the
marked and the unmarked clip in random order. Twelve right answers of sixteen are chance in four of
a hundred listeners. Headphones, please.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import sys
from pathlib import Path

import soundfile

import watermark

KEY = bytes(range(32))
SECONDS = 5

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ABX</title>
<style>body{font:16px sans-serif;max-width:40em;margin:3em auto}button{font:inherit;margin:.3em;
padding:.5em 1.2em}</style><h1>Which one is X?</h1><p id="state"></p>
<p><button data-play="a">play A</button><button data-play="b">play B</button>
<button data-play="x">play X</button></p>
<p><button data-say="a">X is A</button><button data-say="b">X is B</button></p>
<script>const trials=TRIALS;let at=0,right=0,sound=new Audio();
const state=document.getElementById("state");
function chance(n,k){let p=0,c=1;for(let i=0;i<=n;i++){if(i>=k)p+=c;c=c*(n-i)/(i+1)}return p/2**n}
function show(){state.textContent=at<trials.length?`Trial ${at+1} of ${trials.length}`:
`${right} of ${trials.length} right; by chance: ${(100*chance(trials.length,right)).toFixed(1)} %`}
document.querySelectorAll("[data-play]").forEach(b=>b.onclick=()=>{if(at>=trials.length)return;
const t=trials[at],w=b.dataset.play;sound.pause();sound=new Audio(t[w==="x"?t.x:w]);sound.play()});
document.querySelectorAll("[data-say]").forEach(b=>b.onclick=()=>{if(at>=trials.length)return;
right+=b.dataset.say===trials[at].x;at++;sound.pause();show()});show()</script></html>
"""


def page(clips: list[tuple[bytes, bytes]], chance: random.Random) -> str:
    """One trial a pair of WAV files (unmarked, marked), in random order."""
    trials = []
    for pair in clips:
        first, second = chance.sample(pair, 2)
        trials.append({"a": _address(first), "b": _address(second), "x": chance.choice("ab")})
    return PAGE.replace("TRIALS", json.dumps(trials))


def _address(wav: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(wav).decode()


def _pair(path: Path, strength: float) -> tuple[bytes, bytes]:
    samples, rate = soundfile.read(path, dtype="float32", frames=SECONDS * 48_000)
    samples = samples[: SECONDS * rate]
    changed = watermark.embed(samples, rate, 1, KEY, strength=strength)
    out = []
    for sound in (samples, changed):
        wav = io.BytesIO()
        soundfile.write(wav, sound, rate, format="WAV", subtype="PCM_16")
        out.append(wav.getvalue())
    return out[0], out[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("abx.html"))
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--strength", type=float, default=watermark.DEFAULT)
    options = parser.parse_args()
    chance = random.SystemRandom()
    files = sorted(options.folder.rglob("*.flac")) + sorted(options.folder.rglob("*.wav"))
    if not files:
        sys.exit(f"no FLAC or WAV files under {options.folder}")
    chosen = chance.sample(files, min(options.trials, len(files)))
    options.out.write_text(page([_pair(path, options.strength) for path in chosen], chance))
    print(options.out)


if __name__ == "__main__":
    main()
