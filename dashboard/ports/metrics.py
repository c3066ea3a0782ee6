"""The port to Prometheus."""

from collections.abc import Sequence
from typing import Protocol

from dashboard.ports.asked import ALL, Filter, Window
from dashboard.ports.measured import (
    ArrivalStats,
    BatchShape,
    Edit,
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
)


class Metrics(Protocol):
    """Reads of Prometheus. All may raise SourceDown; NoData where nothing was measured."""

    def models(self) -> Sequence[str]: ...

    def tier_names(self, where: Filter = ALL) -> Sequence[str]: ...

    def tiers(self, window: Window, where: Filter = ALL) -> Sequence[TierNow]:
        """Each tier of each model, most offered first."""
        ...

    def traffic(self, window: Window, where: Filter = ALL) -> Traffic: ...

    def latency(
        self, window: Window, quantile: float, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[Series]:
        """Seconds at `quantile` (0 to 1) over time; a series for each tier or pool."""
        ...

    def token_times(
        self,
        window: Window,
        quantile: float,
        token: Token,
        where: Filter = ALL,
        by: Split = Split.TIER,
    ) -> Sequence[Series]:
        """The same of tokens; empty, not NoData, where nothing was generated."""
        ...

    def latency_heatmap(self, window: Window, where: Filter = ALL) -> Heatmap: ...

    def stages(
        self, window: Window, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[StageBreakdown]: ...

    def batches(self, window: Window, where: Filter = ALL) -> BatchShape: ...

    def utilisation(self, window: Window, where: Filter = ALL) -> Utilisation: ...

    def replicas(self) -> Sequence[Replica]:
        """By instance. Those that went away in the last five minutes are there as not up."""
        ...

    def scrapes(self) -> Scrapes: ...

    def pools(self, window: Window, where: Filter = ALL) -> Sequence[PoolUse]: ...

    def prices(self) -> Sequence[Price]:
        """What Prometheus knows of prices, by OpenCost or Karpenter; empty where nothing."""
        ...

    def arrivals(self, window: Window, where: Filter = ALL) -> Sequence[ArrivalStats]: ...

    def service_models(self, where: Filter = ALL) -> Sequence[ServiceModelFit]: ...

    def edits(self, window: Window) -> Sequence[Edit]: ...
