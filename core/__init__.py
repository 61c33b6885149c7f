"""Turn a manifest and a reference recording into watermarked, sealed speech."""

import os

# Set before NumPy is imported. Matrices are small here: a second thread of OpenBLAS only waits for
# the next product in a loop, and so takes more than twice the processor time (docs/watermark.md).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
