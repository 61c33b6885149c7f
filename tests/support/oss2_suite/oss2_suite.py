"""A pytest plugin for the run of oss2's own tests: what they need beside a server."""

from __future__ import annotations

import logging
import random
import string
import sys
import unittest.mock

sys.modules["mock"] = unittest.mock  # test_upload imports the back-port of the same thing

# oss2's: the run's path begins with its sources
from tests import common  # type: ignore[attr-defined]  # noqa: E402

_set_up = common.OssTestCase.setUp


def _without_kms(case: common.OssTestCase) -> None:
    """Tests choose a plain or an encrypting bucket by chance; KMS is another service."""
    _set_up(case)
    case.kms_crypto_bucket = case.bucket


def _random_string(size: int) -> str:
    """As theirs, but drawn at once: they fill megabytes with it."""
    return "".join(random.choices(string.ascii_lowercase, k=size))


common.OssTestCase.setUp = _without_kms
common.random_string = _random_string
logging.disable(logging.WARNING)  # they log every request
common.wait_meta_sync = lambda: None  # the server needs no second to agree with itself
