"""Builds the images of the Dockerfile with buildah, which needs neither a daemon nor a registry.

Its isolation `chroot` works for root wherever `chroot` does. A base image that cannot be pulled is
replaced by a small Debian (`mmdebstrap`), so its size and what else it contains are not measured.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
USER = "10001:10001"
_TRUST = ("/etc/ssl/certs", "/usr/local/share/ca-certificates")
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")


class ImageBuilder:
    """`folder` keeps images and containers, and is removed by `delete`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self, verb: str, *words: str | Path) -> list[str]:
        where = ["--root", self.folder / "store", "--runroot", self.folder / "run"]
        return [*map(str, ["buildah", *where, verb, *words])]

    def run(self, verb: str, *words: str | Path) -> str:
        """Return what buildah prints. Raises CalledProcessError."""
        command = self.command(verb, *words)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def provide(self, base: str) -> bool:
        """Return whether a base image was pulled; otherwise put a Debian in its place."""
        if base in self.run("images", "--format", "{{.Name}}:{{.Tag}}"):
            return False
        pulled = subprocess.run(self.command("pull", "--quiet", base), capture_output=True)
        if pulled.returncode == 0:
            return True
        archive = self.folder / "debian.tar"
        if not archive.exists():
            options = ["--quiet", "--variant=minbase", "--include=ca-certificates"]
            command = ["mmdebstrap", *options, "bookworm", str(archive), str(_SOURCES)]
            subprocess.run(command, check=True)
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, archive, "/")
        self.run("commit", "--quiet", container, base)
        self.run("rm", container)
        return False

    def build(self, image: str, arguments: Mapping[str, str]) -> None:
        """Build the Dockerfile. This machine's certificates, and what its pip and apt need in order
        to reach their packages, are mounted meanwhile and do not become part of the image."""
        mounts = {Path(path): path for path in (*_TRUST, "/etc/apt/apt.conf.d")}
        pip = self.folder / "pip.conf"
        pip.write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n", encoding="utf-8")
        mounts[pip] = "/etc/pip.conf"
        words = [f"--volume={source}:{target}:ro" for source, target in mounts.items()]
        words += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        words += ["--layers", "--isolation=chroot", "--pull-never", "--quiet", f"--tag={image}"]
        subprocess.run(self.command("build", *words, str(ROOT)), check=True)

    def start(
        self,
        container: str,
        environ: Mapping[str, str],
        *words: str,
        options: Sequence[str] = (),
    ) -> list[str]:
        """Return the command that runs `words` in a container as the user of the image."""
        given = [*options, *(f"--env={name}={value}" for name, value in environ.items())]
        return self.command("run", "--isolation=chroot", *given, container, "--", *words)

    def inside(self, container: str, *words: str) -> str:
        command = self.start(container, {}, *words)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def size(self, container: str, paths: Sequence[str]) -> dict[str, int]:
        """Return the megabytes of everything, and of each path, in a container."""
        root = Path(self.run("mount", container))
        return {path: _megabytes(root / path.lstrip("/")) for path in ("/", *paths)}

    def compressed(self, image: str) -> int:
        """Return the megabytes of an image as a registry keeps it (gzip)."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            self.run("push", "--quiet", image, f"dir:{folder}")
            return _megabytes(Path(folder))

    def delete(self) -> None:
        self.run("rm", "--all")
        self.run("rmi", "--all", "--force")
        shutil.rmtree(self.folder)


def _megabytes(folder: Path) -> int:
    return round(sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6)
