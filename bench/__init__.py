"""Measurements. `core` is imported before NumPy, as in a worker, so that NumPy uses one thread."""

import core as core
