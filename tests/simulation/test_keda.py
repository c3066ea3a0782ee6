"""What a ScaledObject says, and KEDA's part of scaling."""

from typing import Any

import pytest

from predictor.simulation.autoscaler import DEFAULT_UP, Policy, Select, Unit
from predictor.simulation.keda import Keda, ScaledObject, Trigger, scaled_object

LOAD = {
    "type": "prometheus",
    "name": "load",
    "metricType": "AverageValue",
    "metadata": {"query": "sum(load)", "threshold": "0.7", "ignoreNullValues": "false"},
}
JOBS = {"type": "redis", "name": "jobs", "metadata": {"listName": "queue", "listLength": "4"}}
DOWN = {
    "stabilizationWindowSeconds": 600,
    "selectPolicy": "Min",
    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
}


def manifest(**spec: Any) -> dict[str, Any]:
    return {"spec": {"triggers": [LOAD, JOBS], "minReplicaCount": 0, "maxReplicaCount": 8, **spec}}


def answering(given: ScaledObject, **values: float | None) -> Keda:
    return Keda(given, lambda trigger: values[trigger.name])


def test_a_manifest_is_read() -> None:
    behavior = {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": DOWN}}}
    fallback = {"failureThreshold": 3, "replicas": 2}
    read = scaled_object(manifest(advanced=behavior, fallback=fallback, pollingInterval=15))
    load, jobs = read.triggers
    assert load == Trigger("load", "sum(load)", 0.7, empty_is_zero=False)
    assert jobs == Trigger("jobs", "queue", 4.0, counts_redis=True)
    assert (read.least, read.most, read.polling_s, read.cooldown_s) == (0, 8, 15, 300.0)
    assert read.behavior.up == DEFAULT_UP
    assert read.behavior.down.stabilisation_s == 600
    assert read.behavior.down.policies == [Policy(Unit.PODS, 1, 60)]
    assert read.behavior.down.select is Select.MIN
    assert read.fallback is not None
    assert read.fallback.after_failures == 3


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"triggers": [LOAD | {"metricType": "Value"}]}, "load"),
        ({"triggers": [LOAD | {"type": "cron"}]}, "cron"),
        ({"advanced": {"scalingModifiers": {"formula": "load"}}}, "scalingModifiers"),
    ],
)
def test_what_is_not_simulated_is_said(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        scaled_object(manifest(**changed))


def test_any_trigger_wakes_it_and_the_autoscaler_takes_over() -> None:
    keda = answering(scaled_object(manifest()), load=0.0, jobs=9.0)
    assert keda.sync(0.0, 0) == 0
    assert keda.poll(0.0, 0) == 1
    assert keda.sync(15.0, 1) == 3


def test_it_wakes_with_as_many_as_it_must_have() -> None:
    keda = answering(scaled_object(manifest(minReplicaCount=2)), load=0.1, jobs=0.0)
    assert keda.poll(0.0, 0) == 2


def test_without_work_for_the_cooldown_it_goes_to_sleep() -> None:
    values = {"load": 0.2, "jobs": 0.0}
    keda = Keda(scaled_object(manifest(cooldownPeriod=300)), lambda each: values[each.name])
    assert keda.poll(0.0, 1) == 1
    values["load"] = 0.0
    assert keda.poll(300.0, 1) == 1
    assert keda.poll(301.0, 1) == 0
    assert keda.poll(302.0, 0) == 0


def test_a_floor_never_sleeps() -> None:
    keda = answering(scaled_object(manifest(minReplicaCount=1)), load=0.0, jobs=0.0)
    assert keda.poll(1e6, 1) == 1
    assert keda.sync(1e6, 1) == 1
    assert keda.poll(1e6, 0) == 1


def test_no_answer_is_an_error_and_takes_nothing_away() -> None:
    keda = answering(scaled_object(manifest()), load=None, jobs=0.0)
    for sync in range(20):
        assert keda.sync(15.0 * sync, 5) == 5
        assert keda.poll(15.0 * sync, 5) == 5


@pytest.mark.parametrize(
    ("behavior", "current", "stands_in"),
    [
        ("static", 5, 2),
        ("currentReplicas", 5, 5),
        ("currentReplicasIfHigher", 5, 5),
        ("currentReplicasIfHigher", 1, 2),
        ("currentReplicasIfLower", 5, 2),
        ("currentReplicasIfLower", 1, 1),
    ],
)
def test_after_some_failures_the_fallback_speaks(
    behavior: str, current: int, stands_in: int
) -> None:
    fallback = {"failureThreshold": 3, "replicas": 2, "behavior": behavior}
    at_once = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    given = scaled_object(
        manifest(
            minReplicaCount=1,
            fallback=fallback,
            advanced={"horizontalPodAutoscalerConfig": {"behavior": at_once}},
        )
    )
    keda = answering(given, load=None, jobs=0.0)
    seen = [keda.sync(15.0 * sync, current) for sync in range(4)]
    assert seen == [current, current, current, stands_in]


def test_an_empty_answer_may_count_as_nothing() -> None:
    lenient = LOAD | {"metadata": {"query": "sum(load)", "threshold": "0.7"}}
    keda = answering(
        scaled_object(manifest(minReplicaCount=1, triggers=[lenient])),
        load=None,
    )
    assert [keda.sync(15.0 * sync, 5) for sync in (0, 21)] == [5, 1]
