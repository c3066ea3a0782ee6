"""What pages and sources know of each other: frozen facts, and the protocols that give them.

Times are Unix times in seconds, durations seconds, shares ratios from 0 to 1, money USD. A
value that nobody measured is NaN in a series and None where it stands alone: a page shows it
as missing, never as 0. Everything here pickles and compares, so answers can be cached.

Whatever fails raises a `DashboardError`, whose message is one sentence that a page shows as it
is: what is wrong and what to do.
"""

from dashboard.ports.asked import ALL, Filter, Pool, Window
from dashboard.ports.errors import (
    Conflict,
    DashboardError,
    Missing,
    NoData,
    NotAllowed,
    Refused,
    SourceDown,
)
from dashboard.ports.load_tests import LoadPhase, LoadRun, LoadTier, ResultsFound, RunResults, Sweep
from dashboard.ports.measured import (
    UNREAD_TIER,
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
    Slo,
    Split,
    Stage,
    StageBreakdown,
    StageTime,
    TierNow,
    Token,
    TokenTimes,
    Traffic,
    Utilisation,
)
from dashboard.ports.metrics import Metrics
from dashboard.ports.parameters import Change, HistoryEntry, ParameterStore, Stored
from dashboard.ports.preview import Forecast, Preview, PreviewQuestion, TierForecast

__all__ = [
    "ALL",
    "UNREAD_TIER",
    "ArrivalStats",
    "BatchShape",
    "Change",
    "Conflict",
    "DashboardError",
    "Edit",
    "Filter",
    "Forecast",
    "Heatmap",
    "HistoryEntry",
    "LoadPhase",
    "LoadRun",
    "LoadTier",
    "Metrics",
    "Missing",
    "NoData",
    "NotAllowed",
    "ParameterStore",
    "Pool",
    "PoolUse",
    "Preview",
    "PreviewQuestion",
    "Price",
    "Refused",
    "Replica",
    "ResultsFound",
    "RunResults",
    "Scrapes",
    "Series",
    "ServiceModelFit",
    "Slo",
    "SourceDown",
    "Split",
    "Stage",
    "StageBreakdown",
    "StageTime",
    "Stored",
    "Sweep",
    "TierForecast",
    "TierNow",
    "Token",
    "TokenTimes",
    "Traffic",
    "Utilisation",
    "Window",
]
