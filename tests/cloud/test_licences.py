"""No run-time package is under the GPL, and the check detects such packages."""

from __future__ import annotations

import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest

from cloud import licences

ROOT = Path(__file__).parents[2]


def make_metadata(**headers: str) -> Message:
    made = Message()
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    return made


def test_the_run_time_packages_have_accepted_licences() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cloud.licences"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()[-1]) == (0, "OK"), done.stdout + done.stderr
    assert int(done.stdout.split()[2]) > 50


@pytest.mark.parametrize(
    "headers",
    [
        {"License_Expression": "GPL-3.0-or-later"},
        {"License_Expression": "MIT AND AGPL-3.0-only"},
        {"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
        {"Classifier": "License :: OSI Approved :: GNU Affero General Public License v3"},
        {"License": "GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007"},
        {"License": "GPLv2"},
        {"License": "UNKNOWN", "Classifier": "License :: OSI Approved"},
        {},
    ],
)
def test_refused_licences_are_named(headers: dict[str, str]) -> None:
    (fault,) = licences.find_faults([("there", make_metadata(**headers))], {})
    assert fault.startswith("there: ")
    assert (
        list(licences.find_faults([("there", make_metadata(**headers))], {"there": "a reason"}))
        == []
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"License_Expression": "LGPL-2.1-or-later"},
        {"License_Expression": "Apache-2.0 OR BSD-3-Clause", "License": "GPL, they said once"},
        {"Classifier": "License :: OSI Approved :: GNU Lesser General Public License v2 (LGPLv2)"},
        {"Classifier": "License :: OSI Approved :: GNU Library General Public License (LGPL)"},
        {"License": "BSD"},
    ],
)
def test_other_licences_pass(headers: dict[str, str]) -> None:
    assert list(licences.find_faults([("there", make_metadata(**headers))], {})) == []


def test_an_unneeded_exception_is_a_fault() -> None:
    found = licences.find_faults([("there", make_metadata(License="MIT"))], {"there": "a reason"})
    assert list(found) == ["there: has an exception that it does not need"]
