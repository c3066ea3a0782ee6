"""A Prometheus and a Redis of the simulated fleet, asked with the queries of the manifests."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from loadtest.scaling.promql import NAME, Series, answer
from predictor.metrics import names
from predictor.simulation.keda import Trigger
from predictor.simulation.replica import Reading

NAMESPACE, MODEL = "headway", "topics"


class SimulatedMonitoring:
    """Series under the names and labels with which a cluster has them."""

    def __init__(self, rows_in_one: float = 1.0) -> None:
        """`rows_in_one`: how many rows of a real replica one simulated row stands for."""
        self._rows_in_one = rows_in_one
        self._series: dict[tuple[tuple[str, str], ...], Series] = {}
        self._lines_waiting = 0.0

    def scrape(self, now_s: float, readings: Sequence[Reading]) -> None:
        gone = dict(self._series)
        for reading in readings:
            self._lines_waiting = reading.lines_waiting * self._rows_in_one
            for labels, value in self._exported(reading):
                key = tuple(sorted(labels.items()))
                series = self._series.setdefault(key, Series(labels))
                series.add(now_s, value)
                gone.pop(key, None)
        for key, series in gone.items():
            series.add(now_s, math.nan)
            if all(map(math.isnan, series.values)):
                del self._series[key]

    def ask(self, trigger: Trigger, now_s: float) -> float | None:
        """What KEDA makes of an answer: one element's value, None of none."""
        if trigger.counts_redis:  # jobs: one is there while lines wait
            return float(self._lines_waiting > 0)
        elements = answer(trigger.query, list(self._series.values()), now_s)
        if len(elements) > 1:
            raise ValueError(f"trigger {trigger.name} has {len(elements)} elements; KEDA takes one")
        return next(iter(elements.values()), None)

    def _exported(self, reading: Reading) -> Iterator[tuple[Mapping[str, str], float]]:
        target = {
            "namespace": NAMESPACE,
            "inferenceservice": reading.pool,
            "pod": reading.replica,
        }
        model = target | {"model": MODEL}
        depth = {tier: rows * self._rows_in_one for tier, rows in reading.depth.items()}
        yield from _by_tier(names.QUEUE_DEPTH, model, depth)
        yield from _by_tier(names.OFFERED_LOAD, model, reading.offered_load)
        work_s = dict.fromkeys(reading.depth, 0.0) | dict(reading.offered_work_s)
        yield from _by_tier(names.OFFERED_WORK, model, work_s)
        yield target | {NAME: names.OVERLOADED.name}, float(reading.overloaded)
        waiting = {NAME: names.JOB_LINES.name, "state": "waiting"}
        yield model | waiting, reading.lines_waiting * self._rows_in_one


def _by_tier(
    metric: names.Metric, labels: Mapping[str, str], values: Mapping[str, float]
) -> Iterable[tuple[Mapping[str, str], float]]:
    for tier, value in values.items():
        yield {**labels, NAME: metric.name, "tier": tier}, value
