"""Sources that answer from memory: all is well, unless told to be empty, down or in conflict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from dashboard.changes import changed
from dashboard.parts import Parts, Reader
from dashboard.ports import (
    ALL,
    ArrivalStats,
    BatchShape,
    Conflict,
    DashboardError,
    Edit,
    Filter,
    Forecast,
    Heatmap,
    HistoryEntry,
    LoadPhase,
    LoadRun,
    LoadTier,
    NoData,
    NotAllowed,
    Pool,
    PoolUse,
    PreviewQuestion,
    Price,
    Refused,
    Replica,
    ResultsFound,
    Scrapes,
    Series,
    ServiceModelFit,
    Slo,
    SourceDown,
    Split,
    Stage,
    StageBreakdown,
    StageTime,
    Stored,
    Sweep,
    TierForecast,
    TierNow,
    Token,
    TokenTimes,
    Traffic,
    Utilisation,
    Window,
)
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import (
    DEFAULT_PARAMETERS,
    Parameters,
    parse_document,
    parse_plain,
)

NOW_S = 1_790_000_000.0
DOWN = "Prometheus at http://127.0.0.1:9090 does not answer; start it, or check its address."
EMPTY = "Nothing was measured in this time range; send some requests, or choose a longer one."
POINTS = 60


def wave(name: str, middle: float, swing: float, window: Window) -> Series:
    step_s = window.duration_s / POINTS
    times = tuple(window.start_s + index * step_s for index in range(POINTS))
    return Series(
        name, times, tuple(middle + swing * math.sin(index / 6) for index in range(POINTS))
    )


def bell(unit: str, edges: tuple[float, ...], middle: float, window: Window) -> Heatmap:
    times = wave("", 0, 0, window).times_s
    return Heatmap(
        unit,
        times,
        edges,
        tuple(
            tuple(40 * math.exp(-((row - middle - math.sin(at / 6)) ** 2)) for at in range(POINTS))
            for row in range(len(edges) - 1)
        ),
    )


@dataclass
class FakeMetrics:
    """`trouble` is raised by every read; `troubles` by those methods alone."""

    trouble: DashboardError | None = None
    troubles: dict[str, Exception] = field(default_factory=dict)
    fleet: tuple[Replica, ...] = (
        Replica("127.0.0.1:8080", Pool.ON_DEMAND, "", "", True, 1, None),
        Replica("127.0.0.1:8090", Pool.SPOT, "", "", True, 1, None),
    )
    generates: bool = False
    slos: dict[str, Slo] = field(
        default_factory=lambda: {"interactive": Slo(0.2), "bulk": Slo(math.inf)}
    )
    tier_changes: dict[str, Any] = field(default_factory=dict)  # of all tiers
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def _ask(self, name: str, about: Any = None) -> None:
        self.asked.append((name, about))
        if self.trouble is not None:
            raise self.trouble
        if name in self.troubles:
            raise self.troubles[name]

    def models(self) -> Sequence[str]:
        self._ask("models")
        return ["topics"]

    def tier_names(self, where: Filter = ALL) -> Sequence[str]:
        self._ask("tier_names", where)
        return ["interactive", "bulk"]

    def tiers(self, window: Window, where: Filter = ALL) -> Sequence[TierNow]:
        self._ask("tiers", window)
        tiers = [
            TierNow(
                *("topics", "interactive", 0.021, 0.088, 0.143, 480, 479, 478, 0.1, 0, 3, 0.02),
                *(0.62, None, self.slos.get("interactive")),
            ),
            TierNow(
                *("topics", "bulk", 1.9, 6.1, 9.4, 120, 120, 120, 0, 0, 840, 3.1, 0.25, None),
                self.slos.get("bulk"),
            ),
        ]
        if self.generates:
            times = TokenTimes(0.05, 0.16, 0.012, 0.031)
            tiers = [replace(each, p99_s=4.0, tokens=times) for each in tiers]
        return [replace(each, **self.tier_changes) for each in tiers]

    def traffic(self, window: Window, where: Filter = ALL) -> Traffic:
        self._ask("traffic", window)
        return Traffic(
            offered=(wave("topics/interactive", 480, 60, window),),
            good=(
                wave("topics/interactive", 478, 60, window),
                wave("topics/bulk", 120, 10, window),
            ),
            late=(wave("topics/interactive", 1, 0, window),),
            refused=(wave("topics/interactive", 2, 1, window),),
            failed=(wave("topics/interactive", 0, 0, window),),
            given_up=(),
            queue_depth=(
                wave("topics/interactive", 4, 3, window),
                wave("topics/bulk", 840, 200, window),
            ),
        )

    def latency(
        self, window: Window, quantile: float, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[Series]:
        self._ask("latency", (window, quantile, by))
        if by is Split.POOL:
            return [wave("spot", 0.15, 0.02, window), wave("on-demand", 0.13, 0.02, window)]
        return [wave("topics/interactive", 0.14, 0.03, window)]

    def token_times(
        self,
        window: Window,
        quantile: float,
        token: Token,
        where: Filter = ALL,
        by: Split = Split.TIER,
    ) -> Sequence[Series]:
        self._ask("token_times", (window, quantile, token, by))
        if not self.generates:
            return []
        middle = 0.15 if token is Token.FIRST else 0.03
        if by is Split.POOL:
            return [wave("spot", middle, middle / 5, window)]
        return [wave("interactive", middle, middle / 5, window)]

    def latency_heatmap(self, window: Window, where: Filter = ALL) -> Heatmap:
        self._ask("latency_heatmap", window)
        return bell("s", tuple(0.001 * 1.5**step for step in range(20)), 9, window)

    def stages(
        self, window: Window, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[StageBreakdown]:
        self._ask("stages", (window, by))
        means = (0.0004, 0.0011, 0.018, 0.012, 0.0003)
        stages = tuple(
            StageTime(stage, mean, mean * 0.8, mean * 4)
            for stage, mean in zip(Stage, means, strict=True)
        )
        groups = ("interactive", "bulk") if by is Split.TIER else ("spot", "on-demand")
        return [StageBreakdown(group, stages) for group in groups]

    def batches(self, window: Window, where: Filter = ALL) -> BatchShape:
        self._ask("batches", window)
        return BatchShape(
            rows=bell("rows", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64), 7, window),
            tokens=bell("tokens", (8, 16, 32, 64, 128, 256, 512, 1024, 2048), 5, window),
            mean_rows=(wave("topics", 14, 4, window),),
            mean_tokens=(wave("topics", 900, 200, window),),
            reasons=(wave("full", 8, 3, window), wave("deadline", 12, 4, window)),
            padding_share=(wave("topics", 0.14, 0.04, window),),
            mean_service_s=(wave("topics", 0.0148, 0.002, window),),
            model_error=(wave("topics padded", 0.03, 0.01, window),),
            fits=tuple(self.service_models(where)),
        )

    def utilisation(self, window: Window, where: Filter = ALL) -> Utilisation:
        self._ask("utilisation", window)
        return Utilisation(
            busy=0.71,
            useful=0.61,
            measured=0.68,
            measured_by="NVML",
            over_time=(
                wave("busy", 0.71, 0.1, window),
                wave("useful", 0.61, 0.1, window),
                wave("NVML", 0.68, 0.1, window),
            ),
        )

    def replicas(self) -> Sequence[Replica]:
        self._ask("replicas")
        return self.fleet

    def scrapes(self) -> Scrapes:
        self._ask("scrapes")
        return Scrapes(NOW_S, 600.0)

    def pools(self, window: Window, where: Filter = ALL) -> Sequence[PoolUse]:
        self._ask("pools", window)
        present_s = window.duration_s
        return [
            PoolUse(pool, 1.0, present_s, 1.0, 300 * present_s, 0.7 * present_s, 0.14,
                    {"interactive": 240 * present_s, "bulk": 60 * present_s},
                    {"interactive": 0.45 * present_s, "bulk": 0.25 * present_s}, (),
                    {"topics": 300 * present_s}, {"topics": 0.7 * present_s},
                    wave(pool.value, 1.0, 0.0, window))
            for pool in (Pool.SPOT, Pool.ON_DEMAND)
        ]  # fmt: skip

    def prices(self) -> Sequence[Price]:
        self._ask("prices")
        return []

    def arrivals(self, window: Window, where: Filter = ALL) -> Sequence[ArrivalStats]:
        self._ask("arrivals", window)
        return [ArrivalStats("topics", "interactive", 480.0, 1.0, 1.0, ((64, 0.7), (200, 0.3)))]

    def service_models(self, where: Filter = ALL) -> Sequence[ServiceModelFit]:
        self._ask("service_models", where)
        return [ServiceModelFit("topics", "padded", {"fixed": 5e-3, "area": 1e-5}, 0.03, 900)]

    def edits(self, window: Window) -> Sequence[Edit]:
        self._ask("edits", window)
        return [Edit(window.start_s + window.duration_s / 2, 1)]

    def move_to(self, generation: int, replicas: int) -> None:
        """So many replicas have it from now on."""
        self.fleet = tuple(
            replace(each, generation=generation) if index < replicas else each
            for index, each in enumerate(self.fleet)
        )


@dataclass
class FakeStore:
    """Keeps the history as a real store does. `trouble` is raised by reads, `refusal` by writes."""

    parameters: Parameters = DEFAULT_PARAMETERS
    editable: bool = True
    trouble: DashboardError | None = None
    refusal: DashboardError | None = None
    entries: list[HistoryEntry] = field(default_factory=list)
    place: str = "/etc/headway/parameters.yaml"

    def read(self) -> Stored:
        if self.trouble is not None:
            raise self.trouble
        document = document_of(self.parameters)
        return Stored(self.parameters, document, f"v{self.parameters.generation}")

    def check(self, proposal: Mapping[str, Any]) -> Parameters:
        plain = {**proposal, "generation": self.parameters.generation + 1}
        try:
            return parse_plain(plain)
        except ParametersRefused as refusal:
            raise Refused(refusal.message, refusal.field) from None

    def apply(
        self, proposal: Mapping[str, Any], *, expected: Stored, who: str, reason: str
    ) -> Stored:
        if not self.editable:
            raise NotAllowed("Editing is off here.")
        if self.refusal is not None:
            raise self.refusal
        if expected != self.read():
            raise Conflict("Someone else was faster; look at their edit first.")
        after = self.check(proposal)
        self.entries.insert(
            0,
            HistoryEntry(
                after.generation,
                NOW_S,
                who,
                reason,
                changed(self.parameters, after),
                document_of(self.parameters),
                document_of(after),
            ),
        )
        self.parameters = after
        return self.read()

    def roll_back(
        self, generation: int, *, expected: Stored | None, who: str, reason: str
    ) -> Stored:
        assert expected is not None, "this store never holds what is refused"
        for entry in self.entries:
            for document in (entry.before, entry.after):
                held = parse_document(document.encode())
                if held.generation == generation:
                    return self.apply(
                        msgspec.to_builtins(held), expected=expected, who=who, reason=reason
                    )
        raise NoData(f"The history does not have generation {generation} any more.")

    def history(self, limit: int = 50) -> Sequence[HistoryEntry]:
        if self.trouble is not None:
            raise self.trouble
        return self.entries[:limit]


@dataclass
class FakePreview:
    """Answers the same to every question, and remembers the questions."""

    trouble: DashboardError | None = None
    p99_s: float = 0.12
    questions: list[PreviewQuestion] = field(default_factory=list)

    def __call__(self, question: PreviewQuestion, /) -> Forecast:
        self.questions.append(question)
        if self.trouble is not None:
            raise self.trouble
        tier = TierForecast(
            *("topics", "interactive", 0.018, 0.07, self.p99_s), 480, 480, 480, 0.0, 0.0012
        )
        return Forecast((tier,), 0.66, 0.58, 11.0, 0.0013, 60.0, 28_800, "")


@dataclass
class FakeResults:
    trouble: DashboardError | None = None
    found: ResultsFound | None = None

    def find(self, limit: int = 100) -> ResultsFound:
        if self.trouble is not None:
            raise self.trouble
        return self.found if self.found is not None else results()


def results() -> ResultsFound:
    sweep = Sweep(
        "sweep-simulated",
        ("policy", "max_batch_size", "rate_per_s", "p99_ms"),
        tuple(
            (policy, 64, rate, base + rate * slope)
            for policy, base, slope in (("adaptive", 12.0, 0.1), ("constant", 22.0, 0.2))
            for rate in (100.0, 200.0, 300.0)
        ),
    )
    runs = (load_run("20261125T154817Z-steady", 80.0), load_run("20261124T101500Z-steady", 120.0))
    return ResultsFound(runs, (sweep,), ("results/broken: summary.json is cut off.",))


def load_run(name: str, p99_ms: float) -> LoadRun:
    seen = LoadTier(3000, 2990, 2980, 10, 0, 22.0, 18.0, 55.0, p99_ms, 9.0, 11.0, 7.5, {})
    return LoadRun(
        name, "steady", NOW_S, 30.0, {"RATE": "100", "SLO": f"{p99_ms}"}, 1, "abc1234", "2 cores",
        0, True, (), {"interactive": seen}, (LoadPhase("steady", 30.0, 100.0, seen),),
    )  # fmt: skip


def document_of(parameters: Parameters) -> str:
    return msgspec.json.encode(parameters).decode()


@dataclass
class FakeParts:
    """Everything that the pages are given, each part to be broken on its own."""

    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    store: FakeStore = field(default_factory=FakeStore)
    preview: FakePreview = field(default_factory=FakePreview)
    results: FakeResults = field(default_factory=FakeResults)
    price_table: tuple[Price, ...] = (
        Price(Pool.SPOT, 1.24, "price table of 2026-10-01"),
        Price(Pool.ON_DEMAND, 2.0, "price table of 2026-10-01"),
    )
    name: str | None = "ada"
    login_problem: str = ""
    title: str = "here"
    now_s: float = NOW_S

    def parts(self) -> Parts:
        return Parts(
            self.metrics,
            self.store,
            self.preview,
            self.results,
            self.price_table,
            now=lambda: self.now_s,
            who=self.who,
            login_problem=lambda: self.login_problem,
            name=self.title,
        )

    def who(self, reader: Reader) -> str | None:
        return self.name


def down() -> SourceDown:
    return SourceDown(DOWN)


def empty() -> NoData:
    return NoData(EMPTY)
