"""Tracing: from a leaked recording to the jobs that produced it.

`scan` searches a recording of any length for watermarks, `registry` resolves a payload to a job and
an item, `trace` writes the report, and `mark_keys` tells which keys are missing.
"""
