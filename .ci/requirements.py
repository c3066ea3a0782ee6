"""Prints what the named extras of pyproject.toml need, a requirement a line.

An image installs that before its code is there, so that a change of the code installs nothing.
"""

import sys
import tomllib
from pathlib import Path


def requirements(project: Path, extras: list[str]) -> list[str]:
    """Of `project`, a pyproject.toml. Raises KeyError where there is no such extra."""
    told = tomllib.loads(project.read_text())["project"]
    optional = told["optional-dependencies"]
    return [*told["dependencies"], *(each for extra in extras for each in optional[extra])]


if __name__ == "__main__":
    print(*requirements(Path("pyproject.toml"), sys.argv[1:]), sep="\n")
