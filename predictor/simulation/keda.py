"""KEDA's part of scaling: what a ScaledObject says, and what KEDA does with it.

KEDA makes a HorizontalPodAutoscaler of a ScaledObject and answers its questions: at each sync the
triggers are asked anew. KEDA itself only wakes from 0 and goes back to 0 (`poll`): awake while any
trigger is above its activation threshold, asleep when none was for the cooldown. A trigger that
failed more often in a row than the fallback allows asks for the fallback's replicas.

https://keda.sh/docs/latest/reference/scaledobject-spec/
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.simulation.autoscaler import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    Behavior,
    HorizontalAutoscaler,
    Measured,
    Policy,
    Rules,
    Select,
    Unit,
    thousandths,
)

HPA_LEAST = 1  # an autoscaler's own minimum where the ScaledObject's is 0
DEFAULT_MOST = 100
POLLING_S, COOLDOWN_S = 30.0, 300.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """`query` is PromQL, or the list whose elements Redis counts."""

    name: str
    query: str
    threshold: float  # for each replica
    activation: float = 0.0
    empty_is_zero: bool = True  # KEDA's ignoreNullValues
    counts_redis: bool = False


@dataclass(frozen=True, slots=True)
class Fallback:
    replicas: int
    after_failures: int
    behavior: str = "static"

    def standing_in(self, current: int) -> int:
        """How many replicas a failed trigger asks for."""
        match self.behavior:
            case "currentReplicas":
                return current
            case "currentReplicasIfHigher":
                return max(current, self.replicas)
            case "currentReplicasIfLower":
                return min(current, self.replicas)
            case _:
                return self.replicas


@dataclass(frozen=True, slots=True)
class ScaledObject:
    triggers: Sequence[Trigger]
    least: int = 0
    most: int = DEFAULT_MOST
    polling_s: float = POLLING_S
    cooldown_s: float = COOLDOWN_S
    fallback: Fallback | None = None
    behavior: Behavior = field(default_factory=Behavior)


Ask = Callable[[Trigger], float | None]  # the trigger's value; None where the answer is empty


def scaled_object(document: Mapping[str, Any]) -> ScaledObject:
    """What a manifest, parsed from YAML, says. Raises ValueError for what is not simulated."""
    spec = document["spec"]
    advanced = spec.get("advanced", {})
    if advanced.get("scalingModifiers"):
        raise ValueError("spec.advanced.scalingModifiers is not simulated; use plain triggers")
    given = advanced.get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
    fallback = spec.get("fallback")
    return ScaledObject(
        triggers=[_trigger(each) for each in spec["triggers"]],
        least=spec.get("minReplicaCount", 0),
        most=spec.get("maxReplicaCount", DEFAULT_MOST),
        polling_s=spec.get("pollingInterval", POLLING_S),
        cooldown_s=spec.get("cooldownPeriod", COOLDOWN_S),
        fallback=fallback
        and Fallback(
            fallback["replicas"], fallback["failureThreshold"], fallback.get("behavior", "static")
        ),
        behavior=Behavior(
            _rules(given.get("scaleUp", {}), DEFAULT_UP),
            _rules(given.get("scaleDown", {}), DEFAULT_DOWN),
        ),
    )


def _trigger(given: Mapping[str, Any]) -> Trigger:
    name, metadata = given.get("name", given["type"]), given["metadata"]
    if given.get("metricType", "AverageValue") != "AverageValue":
        raise ValueError(f"trigger {name}: only metricType AverageValue is simulated")
    match given["type"]:
        case "prometheus":
            return Trigger(
                name,
                metadata["query"],
                float(metadata["threshold"]),
                float(metadata.get("activationThreshold", 0)),
                metadata.get("ignoreNullValues", "true") == "true",
            )
        case "redis":
            return Trigger(
                name,
                metadata["listName"],
                float(metadata["listLength"]),
                float(metadata.get("activationListLength", 0)),
                counts_redis=True,
            )
        case kind:
            raise ValueError(f"trigger {name}: type {kind} is not simulated")


def _rules(given: Mapping[str, Any], default: Rules) -> Rules:
    policies = [
        Policy(Unit(each["type"]), each["value"], each["periodSeconds"])
        for each in given.get("policies", ())
    ]
    return Rules(
        given.get("stabilizationWindowSeconds", default.stabilisation_s),
        policies or default.policies,
        Select(given.get("selectPolicy", default.select)),
        float(given.get("tolerance", default.tolerance)),
    )


class Keda:
    """Scales one workload. Time and what the triggers say are arguments."""

    def __init__(self, given: ScaledObject, ask: Ask) -> None:
        self.given = given
        self._ask = ask
        self._autoscaler = HorizontalAutoscaler(
            max(given.least, HPA_LEAST), given.most, given.behavior
        )
        self._failures = dict.fromkeys((trigger.name for trigger in given.triggers), 0)
        self._active_s = float("-inf")

    def sync(self, now_s: float, replicas: int) -> int:
        """The autoscaler's turn: how many replicas there shall be."""
        metrics = [self._measured(trigger, replicas) for trigger in self.given.triggers]
        return self._autoscaler.sync(now_s, replicas, metrics)

    def poll(self, now_s: float, replicas: int) -> int:
        """KEDA's own turn, each polling interval: only from 0 and to 0."""
        given = self.given
        values = [(each, self._value(each, replicas)) for each in given.triggers]
        if any(value is not None and value > each.activation for each, value in values):
            self._active_s = now_s
            return replicas or max(given.least, 1)
        if any(value is None for _, value in values):
            return replicas  # nobody knows: leave it, until the fallback speaks
        if replicas < given.least:
            return given.least
        asleep = not given.least and now_s > self._active_s + given.cooldown_s
        return 0 if asleep else replicas

    def _measured(self, trigger: Trigger, replicas: int) -> Measured:
        value = self._value(trigger, replicas)
        return Measured(
            None if value is None else thousandths(value), thousandths(trigger.threshold)
        )

    def _value(self, trigger: Trigger, replicas: int) -> float | None:
        value = self._ask(trigger)
        if value is None and trigger.empty_is_zero:
            value = 0.0
        if value is not None:
            self._failures[trigger.name] = 0
            return value
        self._failures[trigger.name] += 1
        fallback = self.given.fallback
        if fallback is None or self._failures[trigger.name] <= fallback.after_failures:
            return None
        return fallback.standing_in(replicas) * trigger.threshold
