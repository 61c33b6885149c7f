"""A keyed, blind audio watermark: 32 bits that survive what happens to leaked speech.

embed.py puts the mark in, detect.py reads it back; layout.py says where it stands, payload.py what
it says, cells.py how both see sound, search.py how a warped or cut clip is found. NumPy and SciPy.
"""

from watermark.cells import warm
from watermark.detect import Detection, detect, detect_any, detect_joint, scan, verify
from watermark.embed import DEFAULT, QUIET, ROBUST, STRENGTHS, Embedder, embed, embed_blocks
from watermark.reader import CLAIM

__all__ = [
    "CLAIM",
    "DEFAULT",
    "QUIET",
    "ROBUST",
    "STRENGTHS",
    "Detection",
    "Embedder",
    "detect",
    "detect_any",
    "detect_joint",
    "embed",
    "embed_blocks",
    "scan",
    "verify",
    "warm",
]
