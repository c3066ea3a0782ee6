"""What is shipped passes every rule, and each rule refuses what breaks it."""

import pytest

from manifests.check.findings import findings
from manifests.check.rules import RULES, Rule
from tests.manifests.breaking import broken, drop
from tests.manifests.conftest import Worlds
from tests.manifests.example import Example
from tests.manifests.examples import EXAMPLES

EVERY = (
    *("base", "base/parameters", "overlays/dashboard", "overlays/loadtest"),
    *("overlays/loadtest/operator", "overlays/local", "overlays/monitoring", "overlays/on-demand"),
    *("overlays/redis", "overlays/serving-runtime", "overlays/spot", "overlays/spot-and-on-demand"),
)


def name_of(rule: Rule) -> str:
    return f"{rule.__module__.rpartition('.')[2]}.{rule.__name__}"


def test_every_kustomization_is_checked(built: Worlds) -> None:
    assert tuple(built) == EVERY


@pytest.mark.parametrize("folder", EVERY)
def test_what_is_shipped_is_right(built: Worlds, folder: str) -> None:
    assert list(findings(built[folder])) == []


def named(example: Example) -> str:
    return f"{name_of(example.rule)}: {example.said}"


@pytest.mark.parametrize("example", EXAMPLES, ids=named)
def test_a_broken_manifest_is_refused(built: Worlds, example: Example) -> None:
    said = list(example.rule(broken(built[example.overlay], example.which, example.change)))
    assert any(example.said in each for each in said), said
    assert all(each.endswith(".") and "\n" not in each for each in said)


def test_every_rule_has_a_broken_example() -> None:
    shown = {name_of(example.rule) for example in EXAMPLES}
    assert {name_of(rule) for rule in RULES} == shown


def test_rules_wait_until_schemas_are_content(built: Worlds) -> None:
    world = broken(
        built["overlays/on-demand"], "ScaledObject topics-predictor", drop("spec", "triggers")
    )
    (said,) = findings(world)
    assert said == "ScaledObject topics-predictor: spec: 'triggers' is a required property."
