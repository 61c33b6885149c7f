"""The recipes of docs/producers.md: `python -m tests.acceptance.recipes ENVIRONMENTS`.

ENVIRONMENTS is a folder with the virtual environments `airflow`, `kubernetes` and `compose`, which
`scripts/acceptance recipes` makes. A worker with the embedded voice (`voicedrop watch`) serves the
buckets of an OSS test server; the script and the DAG, with the real Airflow and its OSS provider,
have batches spoken there: with an item that fails, then corrected with `retry_of`. The manifests
for Kubernetes are validated against every supported version that the package knows, the file of
docs/edge.md against the Compose specification.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.command_line import EXAMPLE_INBOX, ROOT, Workspace
from tests.support.oss_server import OssServer

EXAMPLES = ROOT / "examples"
KEY = {"OSS_ACCESS_KEY_ID": "recipes", "OSS_ACCESS_KEY_SECRET": "secret"}
OLDEST_MINOR = 33
"""Of Kubernetes 1: since this version `backoffLimitPerIndex` is stable."""
BUCKETS = {name: f"voicedrop-{name}" for name in ("inbox", "results", "control")}
FAILING = "id,text,page\np1,The first page.,1\np2,,2\n"
CORRECTED = FAILING.replace("p2,,", "p2,The second page.,")


def main(environments: Path) -> None:
    check_kubernetes(environments / "kubernetes")
    check_compose(environments / "compose")
    with tempfile.TemporaryDirectory() as folder, OssServer() as server:
        workspace = Workspace(Path(folder))
        place_files(workspace, server)
        environ = worker_environ(server)
        with watching(workspace, environ):
            check_script(workspace, environ)
            check_airflow(workspace, environ, environments / "airflow")


def place_files(workspace: Workspace, server: OssServer) -> None:
    """Create keys and buckets, and put the files of a producer into the workspace."""
    assert workspace.run("init").returncode == 0
    server.add_key(*KEY.values())
    for bucket in BUCKETS.values():
        server.create_bucket(bucket)
    shutil.copy(EXAMPLE_INBOX / "refs/reader.flac", workspace.root)
    shutil.copy(EXAMPLE_INBOX / "consent/reader.json", workspace.root)


def worker_environ(server: OssServer) -> dict[str, str]:
    places = {f"VOICEDROP_{name.upper()}": f"oss://{bucket}" for name, bucket in BUCKETS.items()}
    connection = {"VOICEDROP_OSS_ENDPOINT": server.endpoint, "VOICEDROP_OSS_REGION": server.region}
    return places | connection | KEY


@contextmanager
def watching(workspace: Workspace, environ: dict[str, str]) -> Iterator[None]:
    """Run `voicedrop watch` with the embedded voice until the block ends."""
    worker = workspace.start("watch", **environ)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGINT)
        worker.communicate(timeout=120)


def check_script(workspace: Workspace, environ: dict[str, str]) -> None:
    words = ["texts.csv", "--name", "script/pages", "--language", "en"]
    words += ["--recording", "reader.flac", "--consent", "reader.json"]
    words += ["--inbox", environ["VOICEDROP_INBOX"], "--results", environ["VOICEDROP_RESULTS"]]
    words += ["--public-key", "keys/sign-001.pub.pem"]

    def run(texts: str, *more: str) -> subprocess.CompletedProcess[str]:
        (workspace.root / "texts.csv").write_text(texts)
        program = [sys.executable, "-I", str(EXAMPLES / "voicedrop_producer.py")]
        where = workspace.root
        return subprocess.run(
            [*program, *words, *more], cwd=where, env=environ, text=True, capture_output=True
        )

    first = run(FAILING)
    assert (first.returncode, "TEXT_EMPTY at line 3/text" in first.stdout) == (1, True), first
    job = first.stderr.removeprefix("job ")[:32]
    second = run(CORRECTED, "--retry-of", job)
    assert second.returncode == 0, second
    assert f"p1,succeeded,{first.stdout.splitlines()[1].split(',')[2]}," in second.stdout
    print(f"script: 1 of 2 items, then 2 of 2 with --retry-of {job}\n{second.stdout}")


def check_airflow(workspace: Workspace, environ: dict[str, str], environment: Path) -> None:
    dags = workspace.root / "dags"
    dags.mkdir()
    for program in ("airflow/voicedrop_batch.py", "voicedrop_producer.py"):
        shutil.copy(EXAMPLES / program, dags)
    extra = {
        "auth_type": "AK",
        "access_key_id": KEY["OSS_ACCESS_KEY_ID"],
        "access_key_secret": KEY["OSS_ACCESS_KEY_SECRET"],
        "endpoint": environ["VOICEDROP_OSS_ENDPOINT"],
    }
    airflow_environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(workspace.root),
        "AIRFLOW_HOME": str(workspace.root / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_OSS_DEFAULT": json.dumps({"conn_type": "oss", "extra": extra}),
        "VOICEDROP_INBOX_BUCKET": BUCKETS["inbox"],
        "VOICEDROP_RESULTS_BUCKET": BUCKETS["results"],
        "VOICEDROP_OSS_REGION": environ["VOICEDROP_OSS_REGION"],
    }
    python = str(environment / "bin/python")
    migrate = [python, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=airflow_environ, check=True, stdout=subprocess.DEVNULL)

    def run(texts: str, retry_of: str) -> dict[str, Any]:
        (workspace.root / "texts.csv").write_text(texts)
        parameters = {
            "name": "airflow/pages",
            "texts": str(workspace.root / "texts.csv"),
            "recording": str(workspace.root / "reader.flac"),
            "consent": str(workspace.root / "reader.json"),
            "public_key": str(workspace.root / "keys/sign-001.pub.pem"),
            "retry_of": retry_of,
        }
        program = [python, "-P", str(ROOT / "tests/acceptance/airflow_dag.py"), str(dags)]
        done = subprocess.run(
            [*program, json.dumps(parameters)], env=airflow_environ, check=True, capture_output=True
        )
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return report

    first = run(FAILING, "")
    assert first["errors"] == {}, first
    assert first["follows"] == {"submit": ["collect", "wait"], "wait": ["collect"], "collect": []}
    assert first["states"] == {"submit": "success", "wait": "success", "collect": "failed"}, first
    second = run(CORRECTED, first["submitted"]["job"])
    assert set(second["states"].values()) == {"success"}, second
    totals = {name: second["collected"][name] for name in ("succeeded", "kept", "failed")}
    assert totals == {"succeeded": 2, "kept": 1, "failed": 0}, second
    print(f"airflow: {first['states']}, then {second['states']}\n{second['collected']}")


def check_kubernetes(environment: Path) -> None:
    schemas = next(environment.glob("lib/python*/site-packages/kubernetes_validate"))
    folders = schemas.glob("kubernetes-json-schema/v*-local-strict")
    minors = sorted(int(path.name.split(".")[1]) for path in folders)
    versions = [f"1.{minor}" for minor in minors if minor >= OLDEST_MINOR]
    assert versions
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        assert workspace.run("init").returncode == 0
        secret = workspace.root / "secret.yaml"
        with secret.open("wb") as file:
            program = [EXAMPLES / "kubernetes/secret.sh", workspace.root / "keys"]
            subprocess.run(program, env=KEY | os.environ, stdout=file, check=True)
        files = [*EXAMPLES.glob("kubernetes/*.yaml"), secret]
        assert len(files) == 3
        for version in versions:
            words = ["--strict", "--quiet", "--kubernetes-version", version, *map(str, files)]
            subprocess.run([str(environment / "bin/kubernetes-validate"), *words], check=True)
    print(f"kubernetes: {len(files)} files are valid for {', '.join(versions)}")


def check_compose(environment: Path) -> None:
    program = (
        "import sys; from compose_spec import PyCompose; "
        "PyCompose.from_yaml(open(sys.argv[1]).read()).validate()"
    )
    command = [str(environment / "bin/python"), "-c", program]
    subprocess.run([*command, str(EXAMPLES / "edge/compose.yaml")], check=True)
    print("compose: edge/compose.yaml is valid")


if __name__ == "__main__":
    started = time.monotonic()
    main(Path(sys.argv[1]).resolve())
    print(f"{time.monotonic() - started:.0f} s")
