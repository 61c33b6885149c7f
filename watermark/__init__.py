"""A keyed, blind spread-spectrum audio watermark: 32 bits that survive codecs, cuts and noise.

`embed` writes the mark, `StreamEmbedder` writes it while audio is being made, and `detect` reads
it. `layout` assigns coded bits and chips to
time-frequency cells, `coding` is the channel code, `cells` turns audio into soft values, `receiver`
correlates and decodes them, and `search` and `warps` find the alignment of a cut, sped-up or
pitched clip. It needs NumPy and SciPy only; docs/watermark.md describes the scheme.
"""

from watermark.cells import preload
from watermark.detect import DETECTOR, Detection, detect, detect_any, detect_joint, scan, verify
from watermark.embed import DEFAULT, QUIET, ROBUST, STRENGTHS, Embedder, embed
from watermark.receiver import DETECTION_THRESHOLD
from watermark.stream import DELAY_S, NONCE_BYTES, StreamEmbedder

__all__ = [
    "DEFAULT",
    "DELAY_S",
    "DETECTION_THRESHOLD",
    "DETECTOR",
    "NONCE_BYTES",
    "QUIET",
    "ROBUST",
    "STRENGTHS",
    "Detection",
    "Embedder",
    "StreamEmbedder",
    "detect",
    "detect_any",
    "detect_joint",
    "embed",
    "preload",
    "scan",
    "verify",
]
