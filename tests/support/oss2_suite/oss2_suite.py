"""A pytest plugin that lets oss2's own tests run against the test server."""

from __future__ import annotations

import logging
import random
import string
import sys
import unittest.mock

sys.modules["mock"] = unittest.mock  # test_upload imports the back-port

# oss2's package `tests`: its sources come first in the path
from tests import common  # type: ignore[attr-defined]  # noqa: E402

_set_up = common.OssTestCase.setUp


def _without_kms(case: common.OssTestCase) -> None:
    """Use the plain bucket: tests choose it or one with KMS encryption at random."""
    _set_up(case)
    case.kms_crypto_bucket = case.bucket


def _random_string(size: int) -> str:
    """The same as theirs, but faster: they create megabytes with it."""
    return "".join(random.choices(string.ascii_lowercase, k=size))


common.OssTestCase.setUp = _without_kms
common.random_string = _random_string
logging.disable(logging.WARNING)  # they log every request
common.wait_meta_sync = lambda: None  # the test server is consistent at once
