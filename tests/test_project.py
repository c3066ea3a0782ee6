"""What the documents promise exists: commands, flags, knobs, metrics, pins."""

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from predictor.core.parameters import ModelParameters, TierParameters, parse_document
from predictor.metrics import names as metric_names
from predictor.settings import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_make_commands_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README, re.MULTILINE))
    assert {first or second for first, second in named} <= targets
    assert {"up", "test"} <= {first for first, _ in named}


def test_every_flag_of_ours_is_in_the_readme() -> None:
    ours = {
        flag
        for group in build_parser()._action_groups
        if group.title in ("the model", "serving", "connections", "jobs")
        for action in group._group_actions
        for flag in action.option_strings[:1]  # Triton's spelling, with dashes, is the second
    }
    assert len(ours) == 44
    assert {flag for flag in ours if f"`{flag}`" not in README} == set()


@pytest.mark.parametrize("kind", [ModelParameters, TierParameters])
def test_every_knob_is_in_the_readme(kind: type[ModelParameters | TierParameters]) -> None:
    assert {field for field in kind.__struct_fields__ if f"| `{field}` |" not in README} == set()


def test_the_parameter_document_in_the_readme_is_valid() -> None:
    document = next(block for block in blocks("yaml") if "generation" in block)
    assert parse_document(document.encode()).for_model("topics") == ModelParameters()


def test_every_metric_in_the_readme_exists() -> None:
    exported = {metric.name for metric in vars(metric_names).values() if hasattr(metric, "buckets")}
    named = set(re.findall(r"`(headway_\w+[a-z])`", README))
    assert named <= exported
    assert len(named) > 20


def test_the_examples_in_the_readme_are_well_formed() -> None:
    for snippet in blocks("python"):
        ast.parse(snippet)
    infer, chat, own = (
        json.loads(block[block.index("'{") + 1 : block.rindex("'")])
        for block in blocks("sh")
        if block.startswith("curl")
    )
    assert infer["inputs"][0]["name"] == own["inputs"][0]["name"] == "text"
    assert chat["messages"][0]["role"] == "user"


def test_links_to_files_in_the_readme_lead_somewhere() -> None:
    files = set(re.findall(r"\]\(([A-Za-z./]+)\)", README))
    assert {name for name in files if not (ROOT / name).exists()} == set()


def test_the_changelog_has_a_section_for_what_comes() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_pinned_within_its_range() -> None:
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    direct = [
        *PROJECT["dependencies"],
        *(name for extra in PROJECT["optional-dependencies"].values() for name in extra),
    ]
    wanted = {re.split(r"[\[<>=]", name)[0].lower().replace("_", "-") for name in direct}
    assert wanted - pins.keys() == set()


def test_the_dashboard_installs_no_model_library() -> None:
    dashboard = " ".join(PROJECT["optional-dependencies"]["dashboard"])
    assert not re.search("torch|transformers|kserve", dashboard)
