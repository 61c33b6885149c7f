"""Check that every result is complete, unchanged, marked, logged and made with consent.

An audit reads a results bucket and runs eleven checks on every job in it (`model.CHECKS`). Each
check ends in `pass`, `fail` or `skip`; the last two carry a code. The audit writes to no bucket. It
needs no secret (without the decryption key, checks 3 to 7 are skipped) and can be resumed.

    bucket         every job, and the objects that belong to no job
    jobs           one job's folder: its result, and the objects beside it
    outputs        one output, from the sealed object to the watermark in its audio
    log_snapshot   the log, and the entry of each result in it
    consents       consent to each voice
    erasures, withdrawals   what was erased, and to which recordings consent was withdrawn
    report, page   the report as data, and as an HTML page
"""

from core.audit.bucket import AuditedBucket, audit_bucket
from core.audit.model import CHECKS, CODES, CheckedJob
from core.audit.report import Report, build_index, build_report, format_items_csv
from core.audit.sources import Sources

__all__ = [
    "CHECKS",
    "CODES",
    "AuditedBucket",
    "CheckedJob",
    "Report",
    "Sources",
    "audit_bucket",
    "build_index",
    "build_report",
    "format_items_csv",
]
