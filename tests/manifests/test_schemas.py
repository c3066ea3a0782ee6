"""What an API server would refuse, or drop without a word."""

import pytest

from manifests.check import schemas
from manifests.check.objects import Object
from tests.manifests.breaking import Change, broken, drop, put
from tests.manifests.conftest import Worlds

BOX = ("spec", "predictor", "containers", 0)
POD = ("spec", "template", "spec")


@pytest.mark.parametrize(
    ("overlay", "which", "change", "said"),
    [
        (
            *("overlays/on-demand", "InferenceService topics"),
            put(*BOX, "startupProbe", "failuresThreshold", 3),
            "spec.predictor.containers[0].startupProbe: 'failuresThreshold' is no field of it.",
        ),
        (
            *("overlays/on-demand", "InferenceService topics"),
            put(*BOX, "lifecycle", "preStop", "sleep", "seconds", "10"),
            "spec.predictor.containers.0.lifecycle.preStop.sleep.seconds: '10' is not of type",
        ),
        (
            *("overlays/on-demand", "ScaledObject topics-predictor"),
            put("spec", "fallback", "behaviour", "static"),
            "spec.fallback: 'behaviour' is no field of it.",
        ),
        (
            *("overlays/on-demand", "ScaledObject topics-predictor"),
            put("spec", "triggers", 0, "metadata", "threshold", 64),
            "spec.triggers.0.metadata.threshold: 64 is not of type 'string'",
        ),
        (
            *("overlays/on-demand", "PodMonitor headway-predictor"),
            put("spec", "podMetricsEndpoints", 0, "interval", "5 s"),
            "spec.podMetricsEndpoints.0.interval: '5 s' does not match",
        ),
        (
            *("overlays/monitoring", "PrometheusRule headway-alerts"),
            put("spec", "groups", 0, "rules", 0, "exprs", "up"),
            "spec.groups[0].rules[0]: 'exprs' is no field of it.",
        ),
        (
            *("overlays/dashboard", "Deployment headway-dashboard"),
            put(*POD, "containers", 0, "imagePullpolicy", "Always"),
            "'imagePullpolicy' was unexpected",
        ),
        (
            *("overlays/dashboard", "Service headway-dashboard"),
            drop("spec", "ports", 0, "port"),
            "spec.ports.0: 'port' is a required property",
        ),
        (
            *("overlays/redis", "StatefulSet headway-redis"),
            put("spec", "replicas", "one"),
            "spec.replicas: 'one' is not of type",
        ),
    ],
)
def test_a_wrong_field_is_named(
    built: Worlds, overlay: str, which: str, change: Change, said: str
) -> None:
    world = broken(built[overlay], which, change)
    found = [problem for each in world.own for problem in schemas.findings(each)]
    assert len(found) == 1
    assert said in found[0]
    assert found[0].startswith(f"{which}: ")


def test_an_unknown_kind_is_refused() -> None:
    (said,) = schemas.findings(Object({"apiVersion": "v1", "kind": "Pood", "metadata": {}}))
    assert "nothing is known of v1/Pood" in said


def test_every_crd_that_comes_with_the_check_is_read() -> None:
    kinds = {kind for _, kind in schemas._custom()}
    assert kinds == {
        *("InferenceService", "ServingRuntime", "ScaledObject", "TriggerAuthentication"),
        *("PodMonitor", "PrometheusRule"),
    }
