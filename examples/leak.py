"""Imitate a leak: encode a clip as an MP3 at 64 kbit/s.

Usage: leak.py CLIP.wav LEAKED.mp3
"""

from __future__ import annotations

import sys

import soundfile

samples, rate = soundfile.read(sys.argv[1], dtype="float32")
with soundfile.SoundFile(
    sys.argv[2], "w", rate, 1, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6
) as file:
    file.write(samples)
sys.stdout.write(f"  {sys.argv[2]}: {len(samples) / rate:.1f} s\n")
