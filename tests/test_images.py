"""The images, as far as can be told without building them."""

import json
import re
import runpy
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from predictor.settings import Settings

ROOT = Path(__file__).parents[1]
Instruction = tuple[str, str]


def stages() -> dict[str, tuple[str, list[Instruction]]]:
    """Of each stage its base and its instructions."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    found: dict[str, tuple[str, list[Instruction]]] = {}
    for line in filter(None, text.splitlines()):
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, _, name = rest.split()
            found[name] = (base, [])
        else:
            found[name][1].append((word, rest.strip()))
    return found


STAGES = stages()
TARGETS = ("dashboard", "predictor")


def instructions(target: str, word: str = "") -> list[Instruction]:
    """All that make the image, those of its base first."""
    base, own = STAGES[target]
    all_of_it = [*(instructions(base) if base in STAGES else []), *own]
    return [each for each in all_of_it if word in ("", each[0])]


def extras(target: str) -> list[str]:
    (line,) = [rest for _, rest in instructions(target, "RUN") if "pip install" in rest]
    assert "--constraint constraints.txt --requirement requirements.txt" in line
    named = re.match(r"python requirements\.py ([\w ]+) > requirements\.txt", line)
    assert named
    return named[1].split()


def test_bases_are_pinned_by_version() -> None:
    bases = {base for base, _ in STAGES.values()} - STAGES.keys()
    assert bases
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_copied_is_there_and_not_ignored(target: str) -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for _, rest in instructions(target, "COPY"):
        *sources, _ = rest.split()
        assert all((ROOT / source).exists() for source in sources)
        assert set(sources) <= allowed


@pytest.mark.parametrize("target", TARGETS)
def test_dependencies_come_before_code(target: str) -> None:
    order = [f"{word} {rest}" for word, rest in instructions(target)]
    installs = [index for index, line in enumerate(order) if "pip install" in line]
    code = [index for index, line in enumerate(order) if line.startswith("COPY predictor")]
    assert max(installs) < min(code)


@pytest.mark.parametrize(
    ("target", "ports", "program"),
    [
        ("predictor", {Settings(models=()).http_port, Settings(models=()).grpc_port}, "predictor"),
        ("dashboard", {8501}, "streamlit"),
    ],
)
def test_nobody_special_runs_the_program_on_the_usual_ports(
    target: str, ports: set[int], program: str
) -> None:
    assert instructions(target, "USER")[-1][1] == "10001:10001"
    (exposed,) = instructions(target, "EXPOSE")
    assert {int(port) for port in exposed[1].split()} == ports
    command = json.loads(instructions(target, "ENTRYPOINT")[-1][1])
    assert command[:3] == ["python", "-m", program]
    assert all((ROOT / part).is_file() for part in command if part.endswith(".py"))


def needed(target: str) -> set[str]:
    """The distributions that the image has, by what is installed here and says what it needs."""
    script = runpy.run_path(str(ROOT / ".ci" / "requirements.py"))
    texts = script["requirements"](ROOT / "pyproject.toml", extras(target))
    waiting = [Requirement(text) for text in texts]
    found: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        known = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if known not in found:
            found.add(known)
            waiting += needed_by(requirement)
    return {name for name, _ in found}


def needed_by(requirement: Requirement) -> list[Requirement]:
    try:
        all_of_them = [Requirement(text) for text in requires(requirement.name) or ()]
    except PackageNotFoundError:
        return []  # for another Python or platform
    asked = {"", *requirement.extras}
    return [
        each
        for each in all_of_them
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in asked)
    ]


def test_the_dashboard_has_no_model_library_and_needs_none() -> None:
    present = needed("dashboard")
    assert {"kubernetes", "streamlit", "plotly"} <= present
    assert not present & {"torch", "transformers", "kserve", "grpcio", "tokenizers"}
    absent = [
        module
        for module, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & {*present, "headway"}
    ]
    assert {"torch", "kserve", "grpc"} <= set(absent)
    script = (
        "import sys, pkgutil, importlib\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import dashboard\n"
        "for found in pkgutil.walk_packages(dashboard.__path__, 'dashboard.'):\n"
        "    if 'app' not in found.name.split('.')[1]: importlib.import_module(found.name)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)


def test_the_compiler_of_the_image_is_given_files_for_libraries(tmp_path: Path) -> None:
    """As Triton starts it, with folders behind the libraries."""
    compiler = tmp_path / "tcc"
    compiler.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    compiler.chmod(0o755)
    folder = tmp_path / "drivers and more"
    folder.mkdir()
    (folder / "libcuda.so.1").touch()
    arguments = ["main.c", "-O3", "-l:libcuda.so.1", "-l:libnone.so.9", f"-L{folder}", "-Iinclude"]
    done = subprocess.run(
        [str(ROOT / ".ci" / "headway-cc"), *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        *("main.c", "-O3", str(folder / "libcuda.so.1")),
        *("-l:libnone.so.9", f"-L{folder}", "-Iinclude"),
    ]


def test_the_image_that_generates_has_its_compiler() -> None:
    told = dict(line.split("=", 1) for _, line in instructions("predictor", "ENV") if "=" in line)
    assert told["CC"] == "/usr/local/bin/headway-cc"
    assert ("COPY", ".ci/headway-cc /usr/local/bin/headway-cc") in instructions("predictor")
    assert any(
        "install --yes" in line and " tcc " in line for _, line in instructions("predictor", "RUN")
    )
