"""Run while the image is built, with nothing but the standard library.

python image.py requirements PYPROJECT    print the run-time dependencies, one a line
python image.py one-onnxruntime           fail unless exactly onnxruntime-gpu is installed
"""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path


def requirements(pyproject: Path) -> list[str]:
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


def onnxruntimes(path: list[str]) -> list[str]:
    """Distributions that bring the module `onnxruntime`: the last one installed wins silently."""
    found = metadata.distributions(path=path)
    names = {d.metadata["Name"].lower().replace("_", "-") for d in found}
    return sorted(name for name in names if name.split("-")[0] == "onnxruntime")


def main(arguments: list[str], path: list[str]) -> int:
    match arguments:
        case ["requirements", pyproject]:
            sys.stdout.write("\n".join(requirements(Path(pyproject))) + "\n")
        case ["one-onnxruntime"]:
            found = onnxruntimes(path)
            if found != ["onnxruntime-gpu"]:
                sys.stderr.write(f"need exactly onnxruntime-gpu, found {found}\n")
                return 1
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.path))
