"""Are all results there, unchanged, marked, labelled, logged and consented to?

An audit reads a results bucket and answers eleven questions about every job in it (`model.CHECKS`),
each `pass`, `fail` or `skip` with a code. It writes to no bucket, needs no secret (without the
decryption key checks 3 to 7 are skipped), and goes on where an earlier one was cut off.

    bucket.walk    every job, and what belongs to none
    jobs           one job's folder: signature, what lies beside it, what it names
    outputs        one output, from the sealed object to the mark in its sound
    logbook        the log and the place of each result in it
    consents       consent to each voice
    report, page   counted and drawn
"""

from core.audit.bucket import Bucket, walk
from core.audit.model import CHECKS, CODES, JobChecked
from core.audit.report import Report, build, index, items_csv
from core.audit.sources import Sources

__all__ = [
    "CHECKS",
    "CODES",
    "Bucket",
    "JobChecked",
    "Report",
    "Sources",
    "build",
    "index",
    "items_csv",
    "walk",
]
