"""Whose mark is it: from a recording that leaked to the job that made it.

`scan` cuts a recording of any length into stretches and searches each for watermarks, `registry`
turns a payload into a job and item, and `trace` writes the report.
"""
