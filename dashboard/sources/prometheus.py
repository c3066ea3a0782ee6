"""The port `Metrics`, answered by a Prometheus."""

import time
from collections.abc import Callable, Sequence

from dashboard.ports import (
    ALL,
    ArrivalStats,
    BatchShape,
    Edit,
    Filter,
    Heatmap,
    PoolUse,
    Price,
    Replica,
    Scrapes,
    Series,
    ServiceModelFit,
    Split,
    StageBreakdown,
    TierNow,
    Token,
    Traffic,
    Utilisation,
    Window,
)
from dashboard.sources import arrivals, batching, fleet, latency, promql, traffic
from dashboard.sources.connection import Connection, need
from dashboard.sources.reading import Reading

_NAMES_FROM_S = 3600.0


class PrometheusMetrics:
    """Every method is a handful of queries, made when it is called; nothing is kept."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """`url`: http://host:port of Prometheus. `clock` gives Unix time in seconds."""
        self._connection = Connection(url, clock)

    def models(self) -> Sequence[str]:
        return self._names("model", ALL)

    def tier_names(self, where: Filter = ALL) -> Sequence[str]:
        return self._names("tier", where)

    def tiers(self, window: Window, where: Filter = ALL) -> Sequence[TierNow]:
        return traffic.tiers(self._reading(window, where))

    def traffic(self, window: Window, where: Filter = ALL) -> Traffic:
        return traffic.traffic(self._reading(window, where))

    def latency(
        self, window: Window, quantile: float, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[Series]:
        return latency.quantiles(self._reading(window, where), quantile, by)

    def token_times(
        self,
        window: Window,
        quantile: float,
        token: Token,
        where: Filter = ALL,
        by: Split = Split.TIER,
    ) -> Sequence[Series]:
        return latency.token_quantiles(self._reading(window, where), quantile, token, by)

    def latency_heatmap(self, window: Window, where: Filter = ALL) -> Heatmap:
        return latency.heatmap(self._reading(window, where), promql.LATENCY, "s")

    def stages(
        self, window: Window, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[StageBreakdown]:
        return latency.stages(self._reading(window, where), by)

    def batches(self, window: Window, where: Filter = ALL) -> BatchShape:
        return batching.batches(self._reading(window, where))

    def utilisation(self, window: Window, where: Filter = ALL) -> Utilisation:
        return batching.utilisation(self._reading(window, where))

    def replicas(self) -> Sequence[Replica]:
        return fleet.replicas(self._connection)

    def scrapes(self) -> Scrapes:
        return fleet.scrapes(self._connection)

    def pools(self, window: Window, where: Filter = ALL) -> Sequence[PoolUse]:
        return fleet.pools(self._reading(window, where))

    def prices(self) -> Sequence[Price]:
        return fleet.prices(self._connection)

    def arrivals(self, window: Window, where: Filter = ALL) -> Sequence[ArrivalStats]:
        return arrivals.arrivals(self._reading(window, where))

    def service_models(self, where: Filter = ALL) -> Sequence[ServiceModelFit]:
        now_s = self._connection.now_s()
        found = batching.service_models(self._reading(Window(now_s, now_s), where))
        need(found, traffic.NO_REPLICA)
        return found

    def edits(self, window: Window) -> Sequence[Edit]:
        return fleet.edits(self._connection, window)

    def _reading(self, window: Window, where: Filter) -> Reading:
        return Reading(self._connection, window, where)

    def _names(self, label: str, where: Filter) -> Sequence[str]:
        (selector,) = promql.selectors(
            promql.QUEUE_DEPTH, Filter(where.models, where.tiers), ("model", "tier")
        )
        recent = f"last_over_time({selector}[{promql.duration(_NAMES_FROM_S)}])"
        query = f"group by ({label}) ({recent})"
        found = self._connection.instant(query, self._connection.now_s())
        need(found, traffic.NO_REPLICA)
        return sorted(each.labels.get(label, "") for each in found)
