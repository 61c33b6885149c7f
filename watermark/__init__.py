"""A keyed, blind audio watermark: 32 bits that survive what happens to leaked speech.

embed.py puts the mark in, detect.py reads it back; layout.py says where it stands, payload.py what
it says, cells.py how both see sound, search.py how a warped or cut clip is found. Numpy only.
"""

from watermark.detect import CLAIM, Detection, detect, verify
from watermark.embed import DEFAULT, Embedder, embed, embed_blocks

__all__ = ["CLAIM", "DEFAULT", "Detection", "Embedder", "detect", "embed", "embed_blocks", "verify"]
