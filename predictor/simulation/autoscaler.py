"""Kubernetes' HorizontalPodAutoscaler, as its documentation and its controller define it.

Every sync (15 s) each metric proposes a number of replicas, and the largest counts:

    proposed = ceil(sum / target)   unless |sum / (target * replicas) - 1| <= tolerance,

for a metric of type AverageValue, which is what KEDA makes of a trigger. An external metric knows
no pods, so those that are not ready yet count as replicas: the sum alone says how many are needed.

The proposal is held within what was proposed lately (stabilisation: the least of the up window,
the most of the down window), then within what the policies let it change in their periods, then
within the limits of the object. Where a metric has no value, the others may add replicas, and none
is taken away. Values and targets are whole thousandths, as in the API: 2.1 / 0.7 is 3 there.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SYNC_S = 15.0
TOLERANCE = 0.1
DOWN_STABILISATION_S = 300.0


class Unit(StrEnum):
    PODS = "Pods"
    PERCENT = "Percent"


class Select(StrEnum):
    """Which of several policies counts: the one that changes most, or least, or none."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class Policy:
    """At most so many replicas, or so many percent of them, more or less in a period."""

    unit: Unit
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one direction."""

    stabilisation_s: float
    policies: Sequence[Policy]
    select: Select = Select.MAX
    tolerance: float = TOLERANCE


# What the API server fills in where an object says nothing.
DEFAULT_UP = Rules(0.0, (Policy(Unit.PERCENT, 100, 15.0), Policy(Unit.PODS, 4, 15.0)))
DEFAULT_DOWN = Rules(DOWN_STABILISATION_S, (Policy(Unit.PERCENT, 100, 15.0),))


@dataclass(frozen=True, slots=True)
class Behavior:
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's sum over all replicas, in thousandths, and its target for each."""

    value: int | None  # None: it could not be had
    target: int


@dataclass(slots=True)
class _History:
    """What the controller remembers between syncs, oldest first: times and numbers."""

    proposals: deque[tuple[float, int]] = field(default_factory=deque)
    changes: deque[tuple[float, int]] = field(default_factory=deque)


def thousandths(value: float) -> int:
    return math.floor(value * 1000 + 1e-6)


def proposed(metric: Measured, replicas: int, behavior: Behavior) -> int:
    """What one metric with a value asks for."""
    assert metric.value is not None
    ratio = metric.value / (metric.target * replicas)
    if 1.0 - behavior.down.tolerance <= ratio <= 1.0 + behavior.up.tolerance:
        return replicas
    return -(-metric.value // metric.target)


class HorizontalAutoscaler:
    """One object's controller. Time is an argument; its memory is all that it holds."""

    def __init__(self, minimum: int, maximum: int, behavior: Behavior) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.behavior = behavior
        self._history = _History()
        policies = (*behavior.up.policies, *behavior.down.policies)
        self._longest_s = max((policy.period_s for policy in policies), default=0.0)

    def sync(self, now_s: float, replicas: int, metrics: Sequence[Measured]) -> int:
        """How many replicas there shall be, given how many were wanted until now."""
        history = self._history
        if not history.proposals:
            history.proposals.append((now_s, replicas))
        if replicas == 0:
            return 0  # scaling is disabled: whoever made it 0 makes it 1 again
        if not self.minimum <= replicas <= self.maximum:
            return self._settle(now_s, replicas, min(max(replicas, self.minimum), self.maximum))
        wanted = self._proposed(replicas, metrics)
        if wanted is None:
            return replicas
        steady = self._stabilised(now_s, replicas, wanted)
        return self._settle(now_s, replicas, self._limited(now_s, replicas, steady))

    def _proposed(self, replicas: int, metrics: Sequence[Measured]) -> int | None:
        known = [metric for metric in metrics if metric.value is not None]
        most = max((proposed(metric, replicas, self.behavior) for metric in known), default=None)
        if most is None or (len(known) < len(metrics) and most < replicas):
            return None
        return most

    def _stabilised(self, now_s: float, replicas: int, wanted: int) -> int:
        up_s = now_s - self.behavior.up.stabilisation_s
        down_s = now_s - self.behavior.down.stabilisation_s
        proposals = self._history.proposals
        while proposals and proposals[0][0] <= min(up_s, down_s):
            proposals.popleft()
        least = min((n for time_s, n in proposals if time_s > up_s), default=wanted)
        most = max((n for time_s, n in proposals if time_s > down_s), default=wanted)
        proposals.append((now_s, wanted))
        return min(max(replicas, min(least, wanted)), max(most, wanted))

    def _limited(self, now_s: float, replicas: int, wanted: int) -> int:
        """Within what the policies and the object allow."""
        if wanted > replicas:
            allowed = self._reach(now_s, replicas, self.behavior.up, sign=1)
            return min(wanted, max(allowed, replicas), self.maximum)
        if wanted < replicas:
            allowed = self._reach(now_s, replicas, self.behavior.down, sign=-1)
            return max(wanted, min(allowed, replicas), self.minimum)
        return wanted

    def _reach(self, now_s: float, replicas: int, rules: Rules, sign: int) -> int:
        """How far the policies of a direction let it go."""
        if rules.select is Select.DISABLED:
            return replicas
        ends = []
        for policy in rules.policies:
            since_s = now_s - policy.period_s
            began = replicas - self._change_since(since_s)
            if policy.unit is Unit.PODS:
                ends.append(began + sign * policy.value)
            else:  # rounded so that it always changes by one at least
                part = began * (1.0 + sign * policy.value / 100.0)
                ends.append(math.ceil(part) if sign > 0 else int(part))
        furthest = rules.select is Select.MAX
        return max(ends) if (sign > 0) is furthest else min(ends)

    def _change_since(self, since_s: float) -> int:
        return sum(change for time_s, change in self._history.changes if time_s > since_s)

    def _settle(self, now_s: float, before: int, after: int) -> int:
        if after != before:
            changes = self._history.changes
            while changes and changes[0][0] <= now_s - self._longest_s:
                changes.popleft()
            changes.append((now_s, after - before))
        return after
