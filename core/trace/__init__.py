"""Tracing: from a leaked recording to the jobs that produced it.

`scan` searches a recording of any length for watermarks, `registry` resolves a payload to a job and
an item, and `trace` writes the report.
"""
