"""Builds kustomizations as `kubectl apply -k` would, and says which there are."""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from manifests.check.objects import Object, World
from predictor.core.yaml_documents import RENDERED, YamlRefusedError, load_all_yaml

MANIFESTS = Path(__file__).resolve().parents[1]
BUILD_LIMIT_S = 60
# Applied beside whatever else there is.
PARAMETERS = MANIFESTS / "base" / "parameters"
BESIDE = (
    PARAMETERS,
    *(MANIFESTS / "overlays" / name for name in ("redis", "on-demand", "spot-and-on-demand")),
)


class BuildError(Exception):
    """One sentence."""


def tool(name: str) -> str:
    """The program in this Python's environment, whose version is pinned, or on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise BuildError(f"{name} is missing; `make env` installs it.")
    return found


def build(folder: Path) -> Sequence[Object]:
    """All objects of a kustomization. Raises BuildError."""
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    if done.returncode:
        reason = " ".join(done.stderr.split()).removeprefix("error: ")
        raise BuildError(f"{folder} cannot be built: {reason}.")
    try:
        documents = load_all_yaml(done.stdout, RENDERED)
    except YamlRefusedError as error:
        raise BuildError(f"{folder} is not YAML: {error}.") from None
    return [Object(each) for each in documents if each is not None]


def folders() -> Sequence[Path]:
    """Every kustomization that a person may apply."""
    found = {file.parent for file in MANIFESTS.glob("overlays/**/kustomization.yaml")}
    parts = {inner for inner in found for outer in found if outer in inner.parents}
    stand_alone = {MANIFESTS / "overlays" / "loadtest" / "operator"}
    return sorted({MANIFESTS / "base", PARAMETERS, *(found - parts), *(stand_alone & found)})


def worlds(wanted: Iterable[Path]) -> dict[Path, World]:
    """Each kustomization with what is applied beside it. Raises BuildError."""
    wanted = [folder.resolve() for folder in wanted]
    every = list(dict.fromkeys((*wanted, *BESIDE)))
    with ThreadPoolExecutor() as pool:
        built = dict(zip(every, pool.map(build, every), strict=True))
    return {folder: World(built[folder], _beside(built, folder)) for folder in wanted}


def _beside(built: dict[Path, Sequence[Object]], folder: Path) -> Sequence[Object]:
    """Less what the kustomization has itself: two overlays have the same ServiceAccount."""
    own = {_key(each) for each in built[folder]}
    beside = {_key(each): each for other in BESIDE for each in built[other]}
    return [each for key, each in beside.items() if key not in own]


def _key(given: Object) -> tuple[str, str, str]:
    return given.kind, given.name, given.namespace
