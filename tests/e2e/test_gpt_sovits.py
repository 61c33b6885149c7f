"""The example job with a converted GPT-SoVITS network, on the command line and on the server.

The network is tiny and has random weights: the audio is noise, but it passes through every stage.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile

from core.result.document import parse_result
from tests.e2e.test_server import notification
from tests.support import tiny_network
from tests.support.command_line import EXAMPLE_INBOX, Workspace
from tests.support.function_server import FunctionServer
from tests.support.present import present

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_network.unpack(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def converted(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a bundle made by `voicedrop models convert`."""
    workspace = Workspace(tmp_path_factory.mktemp("converted"))
    assert workspace.run("init").returncode == 0
    ran = workspace.run(
        *("models", "convert", "--out", "cache/bundles/tiny", "--precision", "fp32"),
        *("--t2s", str(golden / "s1_v2ProPlus_tiny.ckpt")),
        *("--sovits", str(golden / "s2_v2ProPlus_tiny.pth")),
        *("--hubert", str(golden / "chinese-hubert-base")),
        *("--speaker-encoder", str(golden / "pretrained_eres2netv2_tiny.ckpt")),
        *("--bert", str(golden / "roberta-tiny"), "--licence", "random weights"),
    )
    assert ran.returncode == 0, ran.stderr
    return workspace


def test_a_bundle_is_verified_stage_by_stage(converted: Workspace, golden: Path) -> None:
    report = converted.json("models", "verify", "cache/bundles/tiny", str(golden))
    assert report["passed"] is True
    assert len(report["checks"]) > 20


def test_a_bundle_with_other_results_fails_verification(
    converted: Workspace, golden: Path, tmp_path: Path
) -> None:
    for name in ("golden_common.npz", "golden_v2ProPlus.npz", "ref.wav", "aux_ref.wav"):
        shutil.copy(golden / name, tmp_path / name)
    samples, rate = soundfile.read(golden / "ref.wav")
    soundfile.write(tmp_path / "ref.wav", samples[::-1], rate)
    ran = converted.run("models", "verify", "cache/bundles/tiny", str(tmp_path))
    assert (ran.returncode, "FAILED" in ran.stdout) == (1, True)


def test_bundles_are_listed(converted: Workspace) -> None:
    ran = converted.run("models", "list", "--json", VOICEDROP_CACHE="cache")
    (bundle_row,) = json.loads(ran.stdout)["bundles"]
    assert (bundle_row["version"], bundle_row["precision"]) == ("v2ProPlus", "fp32")
    folder = converted.root / "cache/bundles/tiny"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert bundle_row["bytes"] == sum(sizes.values()) - sizes["bundle.json"]
    shown = converted.run("models", "list", VOICEDROP_CACHE="cache").stdout
    assert f"{bundle_row['bytes'] / 1e6:.0f} MB" in " ".join(shown.split())
    assert "models get" in converted.run("models", "list", VOICEDROP_CACHE="none").stdout


def test_an_unknown_model_is_not_downloaded(converted: Workspace) -> None:
    ran = converted.run("models", "get", "gpt-sovits-v9", VOICEDROP_CACHE="cache")
    assert (ran.returncode, "gpt-sovits-v2proplus" in ran.stderr) == (4, True)


def test_a_file_other_than_a_checkpoint_is_refused_and_leaves_no_bundle(
    converted: Workspace, golden: Path
) -> None:
    ran = converted.run(
        *("models", "convert", "--out", "cache/bundles/bad", "--t2s", str(golden / "ref.wav")),
        *("--sovits", str(golden / "ref.wav"), "--hubert", str(golden / "chinese-hubert-base")),
    )
    assert (ran.returncode, "CHECKPOINT_INVALID" in ran.stderr) == (1, True)
    assert not (converted.root / "cache/bundles/bad").exists()


ENGINE = {"VOICEDROP_ENGINE": "gpt_sovits"}


def test_the_example_is_spoken_by_the_bundle(converted: Workspace) -> None:
    shutil.copytree(EXAMPLE_INBOX, converted.root / "bucket/inbox", dirs_exist_ok=True)
    bundle = {"VOICEDROP_BUNDLE": "cache/bundles/tiny"}
    ran = converted.run("watch", "--once", **ENGINE, **bundle)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (path,) = (converted.root / "bucket/results/out").glob("*/result.json")
    done = parse_result(path.read_bytes())
    assert present(done.engine).name == "gpt-sovits v2ProPlus"
    assert [item.status for item in done.items] == ["succeeded"] * 3
    opened = converted.run("open", str(path), "--out", "heard")
    assert opened.returncode == 0, opened.stderr


def test_the_example_is_spoken_by_the_bundle_in_the_container(
    converted: Workspace, tmp_path: Path
) -> None:
    bucket = tmp_path / "bucket"
    for part in ("results", "control"):
        (bucket / part).mkdir(parents=True)
    shutil.copytree(EXAMPLE_INBOX, bucket / "inbox")
    function = FunctionServer(
        ENGINE
        | {
            "VOICEDROP_BUCKET": str(bucket),
            "VOICEDROP_BUNDLE": str(converted.root / "cache/bundles/tiny"),
            "VOICEDROP_KEYS": str(converted.root / "keys"),
            "HOME": str(tmp_path),
        },
        tmp_path / "log",
    )
    try:
        function.wait()
        assert function.call("POST", "/initialize")[0] == 200
        body = notification("jobs/hello.manifest.json").replace(b"voicedrop-inbox", b"inbox")
        status, fc, answer = function.call("POST", "/invoke", body)
    finally:
        function.stop()
    assert (status, fc) == (200, "200"), answer
    assert json.loads(answer)["done"][0]["status"] == "succeeded"
