"""oss2's own integration tests, which were written for the real OSS, pass against the test server.

They are in oss2's source distribution, which pip downloads from the package registry. Their
requests go to the host names of OSS; the test server gets them because `http_proxy` names it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from scripts import lock
from tests.support.oss_server import OssServer

_MODULES = (
    "test_object",
    "test_multipart",
    "test_iterator",
    "test_list_objects_v2",
    "test_chinese",
    "test_exception_ec",
    "test_sign",
    "test_bucket.py::TestBucket::test_bucket",
    "test_bucket.py::TestBucket::test_acl",
    "test_bucket.py::TestBucket::test_bucket_info",
    "test_bucket_versioning.py::TestBucketVersioning::test_bucket_versioning",
    "test_bucket_versioning.py::TestBucketVersioning::test_bucket_versioning_wrong",
)
_DESELECTED = {
    "test_object.py::TestObject::test_process_object": "scales an image",
    "test_object.py::TestObject::test_async_process_object": "scales an image",
    "test_object.py::TestObject::test_restore_object_with_config": "tiers of cold archives",
    "test_object.py::TestObject::test_restore_object_with_wrong_request": "tiers of cold archives",
    "test_object.py::TestObject::test_restore_archive_object_with_job_parameters": "the same",
    "test_object.py::TestObject::test_timeout": "expects a timeout of 1 ms to expire",
    "test_object.py::TestObject::test_default_timeout": "expects a timeout of 1 ms to expire",
    "test_iterator.py::TestIterator::test_live_channel_iterator": "video streams",
    "test_sign.py::TestSign::test_sign_v2_x_oss_date": "signature V2, which is not used",
    "test_sign.py::TestSign::test_sign_v2_additional_headers": "signature V2",
    "test_sign.py::TestSign::test_sign_v2_x_oss_date_url": "signature V2",
}
_MIN_PASSED = 95


@pytest.mark.slow
def test_oss2s_own_tests_for_objects_parts_lists_and_appends_pass(tmp_path: Path) -> None:
    sources = _fetch(tmp_path)
    with OssServer() as server:
        server.add_key("suite-id", "suite-secret")
        done = _run(sources, server, tmp_path)
    report = done.stdout[-6000:]
    assert done.returncode == 0, report
    passed = re.search(r"(\d+) passed", report)
    assert passed, report
    assert int(passed[1]) >= _MIN_PASSED, report


def _fetch(folder: Path) -> Path:
    pin = lock.read_pins("oss")["oss2"]
    requirements = folder / "oss2.txt"
    requirements.write_text(str(pin), encoding="utf-8")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "oss2"]
    options += ["--no-build-isolation", "--require-hashes", "--requirement", str(requirements)]
    command = [sys.executable, "-m", "pip", "download", *options]
    fetched = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    found = list(folder.glob("oss2-*.tar.gz"))
    if not found:
        pytest.fail(
            f"The sources of oss2 {pin.version} were not downloaded:\n{fetched.stderr[-2000:]}"
        )
    with tarfile.open(found[0]) as archive:
        tests = [member for member in archive if "/tests/" in member.name]
        archive.extractall(folder, members=tests, filter="data")
    sources = next(folder.glob("oss2-*/tests")).parent
    (sources / "tests" / "example.jpg").write_bytes(b"not in the distribution; any bytes do")
    return sources


def _run(sources: Path, server: OssServer, home: Path) -> subprocess.CompletedProcess[str]:
    plugin = Path(__file__).parents[1] / "support/oss2_suite"
    environment = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and "COVERAGE" not in name
    }
    environment |= {
        "HOME": str(home),  # resumable uploads keep their state there
        "PYTHONPATH": f"{sources}{os.pathsep}{plugin}",
        "http_proxy": server.endpoint,
        "OSS_TEST_ACCESS_KEY_ID": "suite-id",
        "OSS_TEST_ACCESS_KEY_SECRET": "suite-secret",
        "OSS_TEST_ENDPOINT": f"http://oss-{server.region}.aliyuncs.com",
        "OSS_TEST_REGION": server.region,
        "OSS_TEST_AUTH_VERSION": "v4",
    }
    chosen = [f"tests/{name if '::' in name else name + '.py'}" for name in _MODULES]
    deselected = [f"--deselect=tests/{name}" for name in _DESELECTED]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "oss2_suite", "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, "--rootdir", str(sources), "--tb=short", "--show-capture=no"]
    return subprocess.run(
        [*command, *deselected, *chosen],
        cwd=sources,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
