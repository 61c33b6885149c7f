"""Every command as a process: its output, files and exit code."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import pytest

from core.consent import records
from core.consent.records import parse_consent
from core.settings import SETTINGS
from core.version import VERSION
from handlers.cli.schema import SCHEMAS
from tests.support.command_line import EXAMPLE_INBOX, ROOT, Workspace
from tests.support.present import present

pytestmark = pytest.mark.slow

MANIFEST = EXAMPLE_INBOX / "jobs" / "hello.manifest.json"
REFERENCE = EXAMPLE_INBOX / "refs" / "reader.flac"
RECORD = EXAMPLE_INBOX / "consent" / "reader.json"


def test_init_makes_folders_and_private_keys_and_never_replaces_one(workspace: Workspace) -> None:
    keys = {p.name: p.read_bytes() for p in (workspace.root / "keys").iterdir()}
    assert len(keys) == 4
    assert all(
        (workspace.root / "keys" / n).stat().st_mode & 0o077 == 0 for n in keys if "pub" not in n
    )
    again = workspace.run("init")
    assert "already" in again.stdout
    assert {p.name: p.read_bytes() for p in (workspace.root / "keys").iterdir()} == keys


def test_help_describes_every_command_and_the_exit_codes(workspace: Workspace) -> None:
    report = workspace.run("--help")
    for word in ("init", "watch", "submit", "open", "trace", "doctor", "schema", "consent", "Exit"):
        assert word in report.stdout
    indented = [line for line in report.stdout.splitlines() if line.startswith(" ")]
    assert len(indented) > 14
    assert not any("..." in line for line in indented), "a first line is too long to be shown whole"
    for command in ("watch", "submit", "open", "trace", "consent"):
        assert workspace.run(command, "--help").returncode == 0
    assert workspace.run("--version").stdout == f"{VERSION}\n"


def test_a_job_that_waits_for_a_file_says_so(workspace: Workspace) -> None:
    shutil.copytree(EXAMPLE_INBOX, workspace.root / "bucket/inbox", dirs_exist_ok=True)
    (workspace.root / "bucket/inbox/refs/reader.flac").unlink()
    ran = workspace.run("watch", "--once")
    assert (ran.returncode, "waits for refs/reader.flac" in ran.stdout) == (3, True)


def test_a_manifest_that_is_refused_is_explained_without_loading_a_voice(
    workspace: Workspace,
) -> None:
    (workspace.root / "bucket/inbox/jobs").mkdir()
    wrong = MANIFEST.read_text().replace('"text"', '"txet"')
    (workspace.root / "bucket/inbox/jobs/x.manifest.json").write_text("{")
    (workspace.root / "bucket/inbox/jobs/y.manifest.json").write_text(wrong)
    (workspace.root / "bucket/inbox/refs").mkdir()
    shutil.copy(REFERENCE, workspace.root / "bucket/inbox/refs/")
    ran = workspace.run("watch", "--once", VOICEDROP_KOKORO="/nowhere")
    assert ran.returncode == 1
    assert "JSON_SYNTAX" in ran.stdout
    assert "UNKNOWN_FIELD" in ran.stdout
    assert "Did you mean `text`?" in ran.stdout


def test_a_clip_dropped_under_audit_is_traced_by_watch(workspace: Workspace) -> None:
    (workspace.root / "bucket/inbox/audit").mkdir()
    shutil.copy(REFERENCE, workspace.root / "bucket/inbox/audit/clip.flac")
    ran = workspace.run("watch", "--once")
    assert (ran.returncode, "was not found" in ran.stdout) == (0, True)


def test_submit_stores_files_under_the_keys_of_the_manifest_and_the_manifest_last(
    workspace: Workspace,
) -> None:
    report = workspace.json("submit", str(MANIFEST), str(REFERENCE), str(RECORD))
    assert report["manifest"] == "jobs/hello.manifest.json"
    assert report["absent"] == []
    inbox = workspace.root / "bucket/inbox"
    assert (inbox / "refs/reader.flac").read_bytes() == REFERENCE.read_bytes()
    manifest = inbox / "jobs/hello.manifest.json"
    millisecond = 1_000_000  # a local bucket randomises smaller units
    record = inbox / "consent/reader.json"
    assert manifest.stat().st_mtime_ns > record.stat().st_mtime_ns - millisecond


def test_submit_names_what_is_still_absent(workspace: Workspace) -> None:
    report = workspace.json("submit", str(MANIFEST), str(RECORD))
    assert report["absent"] == ["refs/reader.flac"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param([str(RECORD)], "SCHEMA_UNSUPPORTED", id="not-a-manifest"),
        pytest.param([str(REFERENCE)], "a recording: name the manifest first", id="a-recording"),
        pytest.param([str(MANIFEST), str(MANIFEST)], "REF_NOT_FOUND", id="file-nobody-names"),
        pytest.param(["/nowhere.json"], "OBJECT_MISSING", id="no-such-file"),
    ],
)
def test_submit_refuses_before_anything_is_stored(
    workspace: Workspace, arguments: list[str], word: str
) -> None:
    ran = workspace.run("submit", *arguments, "--json")
    assert (ran.returncode, word in ran.stderr) == (1, True)
    error = json.loads(ran.stdout)["error"]
    assert f"{error['code']}: {error['message']}" in ran.stderr
    assert not (workspace.root / "bucket/inbox/jobs").exists()


def test_doctor_reports_what_works(workspace: Workspace) -> None:
    report = workspace.json("doctor")
    assert report["ready"] is True
    found = {f["what"]: f for f in report["findings"]}
    assert "CPUExecutionProvider" in found["ONNX Runtime"]["detail"]
    assert found["voice kokoro"]["ok"]
    assert re.fullmatch(r"signing key \S+ \(keys\); .*", found["keys"]["detail"])
    assert "filtered (seccomp)" in found["sandbox"]["detail"]
    chosen = {row["variable"]: row for row in report["settings"]}
    assert chosen["VOICEDROP_CONSENT"]["value"] == "required"


def test_doctor_reports_what_is_missing_and_how_to_get_it(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / "keys")
    shutil.rmtree(workspace.root / "bucket/results")
    ran = workspace.run("doctor", VOICEDROP_KOKORO="/nowhere")
    assert ran.returncode == 4
    assert "Run `voicedrop init`" in ran.stdout
    assert "BUCKET_MISSING" in ran.stdout
    assert "MODEL_MISSING" in ran.stdout
    assert "Not ready: correct what is marked BAD." in ran.stdout


def test_doctor_names_a_wrong_setting(workspace: Workspace) -> None:
    ran = workspace.run("doctor", VOICEDROP_THREADS="many")
    assert (ran.returncode, "VOICEDROP_THREADS" in ran.stdout) == (4, True)
    assert "VOICEDROP_MARK=balanced (default)" in ran.stdout


@pytest.mark.parametrize(("command", "name"), [("watch", "bucket"), ("abx", "mark")])
def test_an_option_for_a_setting_has_the_help_of_the_setting(
    workspace: Workspace, command: str, name: str
) -> None:
    shown = " ".join(workspace.run(command, "--help").stdout.split())
    assert f"{SETTINGS[name].help} Default: ${SETTINGS[name].variable} or" in shown


@pytest.mark.parametrize("name", ["job", "audit"])
def test_schemas_are_those_of_the_docs(workspace: Workspace, name: str) -> None:
    shown = json.loads(workspace.run("schema", name).stdout)
    assert shown == json.loads((ROOT / f"docs/schemas/{name}-1.json").read_text())


def test_an_unknown_schema_is_refused(workspace: Workspace) -> None:
    ran = workspace.run("schema", "voice")
    assert (ran.returncode, ", ".join(SCHEMAS) in ran.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        pytest.param(["--method", "own-voice"], "statement_text", id="own-voice"),
        pytest.param(["--method", "public-domain", "--proof", "LibriVox"], "source", id="public"),
        pytest.param(
            ["--method", "signed-document", "--proof", str(ROOT / "LICENSE"), "--controller", "Us"],
            "evidence_sha256",
            id="signed",
        ),
        pytest.param(
            ["--method", "recorded-statement", "--proof", str(REFERENCE), "--controller", "Us"],
            "statement_audio",
            id="recorded",
        ),
    ],
)
def test_a_consent_record_covers_the_recordings_and_names_its_proof(
    workspace: Workspace, options: list[str], field: str
) -> None:
    second = ROOT / "tests/data/speech/ref_1688.flac"
    recordings = (REFERENCE, second)
    ran = workspace.run(
        *("consent", "new", *map(str, recordings), "--subject", "Ann", "-o", "c/ann.json"), *options
    )
    assert ran.returncode == 0, ran.stderr
    record = parse_consent((workspace.root / "c/ann.json").read_bytes())
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in recordings]
    assert record.ref_audio_sha256 == digests
    assert getattr(record, field)
    assert (present(record.valid_until) - record.valid_from).days == 365


def test_a_consent_record_without_its_proof_is_not_written(workspace: Workspace) -> None:
    ran = workspace.run(
        "consent", "new", str(REFERENCE), "--subject", "Ann", "--method", "public-domain"
    )
    assert (ran.returncode, "CONSENT_INVALID" in ran.stderr) == (1, True)


def test_a_consent_record_is_never_overwritten_and_prints_without_a_file(
    workspace: Workspace,
) -> None:
    (workspace.root / "ann.json").write_text("mine")
    arguments = ("consent", "new", str(REFERENCE), "--subject", "Ann", "--method", "own-voice")
    ran = workspace.run(*arguments, "-o", "ann.json")
    assert (ran.returncode, "FILE_EXISTS" in ran.stderr, "Traceback" in ran.stderr) == (1, True, 0)
    assert (workspace.root / "ann.json").read_text() == "mine"
    assert records.parse_consent(workspace.run(*arguments).stdout.encode()).subject.name == "Ann"


def test_a_consent_record_assumes_neither_method_nor_controller(workspace: Workspace) -> None:
    arguments = ("consent", "new", str(REFERENCE), "--subject", "Alice Müller")
    ran = workspace.run(*arguments)
    assert (ran.returncode, "--method" in ran.stderr, ran.stdout) == (2, True, "")
    ran = workspace.run(*arguments, "--method", "signed-document", "--proof", str(ROOT / "LICENSE"))
    assert (ran.returncode, "--controller" in ran.stderr, ran.stdout) == (1, True, "")
    ran = workspace.run(*arguments, "--method", "own-voice", "--language", "zh")
    record = records.parse_consent(ran.stdout.encode())
    assert (record.controller, record.subject.name) == ("Alice Müller", "Alice Müller")
    assert record.statement_text.startswith("本人Alice Müller确认录音中是本人的声音")


def test_consent_is_withdrawn_by_file_or_by_key(workspace: Workspace) -> None:
    inbox = workspace.root / "bucket/inbox"
    shutil.copytree(EXAMPLE_INBOX, inbox, dirs_exist_ok=True)
    ran = workspace.run("consent", "withdraw", "consent/reader.json", "--json")
    assert ran.returncode == 0, ran.stderr
    record = parse_consent(RECORD.read_bytes())
    assert json.loads(ran.stdout)["recordings"] == record.ref_audio_sha256
    ran = workspace.run("consent", "withdraw", str(RECORD), "--erase-outputs")
    assert (ran.returncode, "withdrawn before" in ran.stdout) == (0, True)
    assert "erased before" in ran.stdout
    assert len(list((workspace.root / "bucket/results/withdrawn").rglob("*.json"))) == 2
    ran = workspace.run("consent", "withdraw", "consent/nobody.json")
    assert (ran.returncode, "OBJECT_MISSING" in ran.stderr) == (1, True)


def test_without_keys_a_job_is_refused_with_advice(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / "keys")
    ran = workspace.run("watch", "--once")
    assert (ran.returncode, "voicedrop init" in ran.stderr) == (4, True)
    assert f"in {(workspace.root / 'keys').resolve()}." in ran.stderr
    assert "another folder? Change to it with `cd`, or set VOICEDROP_BUCKET and" in ran.stderr
    assert ("Traceback" in ran.stderr, "???" in ran.stderr) == (False, False)


def test_results_inside_the_inbox_are_refused(workspace: Workspace) -> None:
    ran = workspace.run("watch", "--once", VOICEDROP_RESULTS="bucket/inbox/out")
    assert (ran.returncode, "CONFIG_LOOP" in ran.stderr) == (4, True)


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        pytest.param({"VOICEDROP_INBOX": "oss://a-bucket"}, "VOICEDROP_OSS_REGION", id="no-region"),
        pytest.param(
            {"VOICEDROP_INBOX": "oss://a-bucket", "VOICEDROP_OSS_REGION": "cn-hangzhou"},
            "OSS_ACCESS_KEY_ID",
            id="no-credentials",
        ),
        pytest.param({"VOICEDROP_KEK": "AAAA"}, "VOICEDROP_KEK is set, so", id="half-the-keys"),
    ],
)
def test_missing_settings_for_a_bucket_are_named(
    workspace: Workspace, environ: dict[str, str], word: str
) -> None:
    ran = workspace.run("watch", "--once", **environ)
    assert (ran.returncode, word in ran.stderr) == (4, True), ran.stderr


def test_an_unreadable_clip_is_reported_and_fails(workspace: Workspace) -> None:
    (workspace.root / "x.wav").write_bytes(b"<html>")
    ran = workspace.run("trace", "x.wav")
    assert (ran.returncode, "AUDIO_NOT_AUDIO" in ran.stdout) == (1, True)
