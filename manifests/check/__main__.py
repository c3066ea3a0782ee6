"""`python -m manifests.check [FOLDER …]`: what is wrong with these kustomizations, or all of ours.

Nothing is applied and no cluster is asked. Exit code 0: nothing is wrong; 1: each line says what
is; 2: it could not be tried.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from manifests.check.build import MANIFESTS, BuildError, folders, tool, worlds

DOCKERFILE = MANIFESTS.parent / "Dockerfile"
LINT_LIMIT_S = 60


def main(arguments: Sequence[str]) -> int:
    try:
        wanted = [Path(each).resolve() for each in arguments] or folders()
        found = problems(wanted)
        if not arguments:
            found += lint(DOCKERFILE)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    for line in found:
        print(line)
    if found:
        print(f"Wrong: {len(found)}.", file=sys.stderr)
        return 1
    print(f"Right: {len(wanted)} kustomizations.")
    return 0


def problems(wanted: Sequence[Path]) -> list[str]:
    """A line for each thing that is wrong. Raises BuildError."""
    # Not before the command line was read: the SDK, whose flags are asked, reads it, too.
    from manifests.check.findings import findings

    found = []
    for folder, world in worlds(wanted).items():
        name = folder.relative_to(MANIFESTS.parent) if MANIFESTS in folder.parents else folder
        found += [f"{name}: {each}" for each in findings(world)]
    return found


def lint(dockerfile: Path) -> list[str]:
    """What hadolint says of it; nothing where there is none."""
    if not dockerfile.is_file():
        return []
    done = subprocess.run(
        [tool("hadolint"), "--no-color", str(dockerfile)],
        capture_output=True,
        text=True,
        timeout=LINT_LIMIT_S,
        check=False,
    )
    if not done.returncode:
        return []
    said = (done.stdout or done.stderr).splitlines()
    return [line.removeprefix(f"{dockerfile.parent}/") for line in said]


if __name__ == "__main__":
    wanted, sys.argv[1:] = sys.argv[1:], []
    sys.exit(main(wanted))
