"""What the dashboard's preview foretells, beside what was measured: same traffic, real server.

The preview is asked as the Tuning page asks it: with the parameters, and with what a Prometheus
that scrapes the server saw of arrivals, lengths and service times. What is measured is the
clients' own.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from dashboard.ports import ALL, Forecast, Metrics, PreviewQuestion, Utilisation, Window
from dashboard.preview import preview
from dashboard.views.preview import question_of
from loadtest.bench.chance import p99_spreads
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import generate_loads
from loadtest.bench.plan import ClosedLoop, OpenLoop, Plan, RunReport, SimulatedWork
from loadtest.bench.prometheus import running_prometheus
from loadtest.bench.scenarios.context import Context
from loadtest.bench.scenarios.preview_result import Asked, PreviewResult, PreviewRow
from loadtest.bench.scenarios.simulated import (
    ADAPTIVE,
    FIXED_MS,
    MODEL,
    TOKEN_US,
    TYPICAL_TOKENS,
    simulated_server,
)
from loadtest.bench.servers import HOST, RunningServer, one_model_parameters, running_server
from loadtest.bench.tuning import put_in_force
from predictor.core.parameters import ModelParameters, Parameters, Policy
from predictor.local.prometheus import Target

SLO_MS = 200.0
# The client's clock starts before the server's and stops after it: later counts as late there.
CLIENT_SLO_MS = SLO_MS + 20.0
NO_SLO_MS = 1e6  # bulk work has none: whatever is answered is good
SETTINGS = {
    "adaptive": ADAPTIVE,
    "adaptive, `max_batch_size: 8`": msgspec.structs.replace(ADAPTIVE, max_batch_size=8),
    "constant, 16 rows or 10 ms": ModelParameters(
        policy=Policy.CONSTANT, max_batch_size=16, max_wait_ms=10
    ),
}
# A p99 near capacity needs more of them: what is rare there comes in spells.
LOADS = {0.3: 0.6, 0.5: 0.9, 0.7: 1.5, 0.8: 2.0}  # by load: run lengths of the pace
OVERLOAD = 1.5
OVERLOAD_RUNS = 0.8
TIERS_RUNS = 1.6
INTERACTIVE_LOAD, BULK_LOAD = 0.4, 0.3
BULK_ROWS = 4
BULK_IN_FLIGHT = 64
WARMUP_S = 1.5
AGAIN = 1000  # added to the seed of a second run
# The generator has ended when its last answer came and its processes are gone.
TAIL_S = 0.6


def capacity_per_s(batching: ModelParameters) -> float:
    """Rows a second in full batches."""
    rows = batching.max_batch_size
    return rows / (FIXED_MS / 1e3 + rows * TYPICAL_TOKENS * TOKEN_US / 1e6)


def run(context: Context) -> PreviewResult:
    """Raises BenchError where Prometheus is missing, or saw nothing."""
    server_command = simulated_server(True, ADAPTIVE, slo_ms=SLO_MS)
    with (
        running_server(server_command) as server,
        running_prometheus([Target(f"{HOST}:{server.http_port}")]) as url,
    ):
        trial = _Trial(context, server, _metrics(url))
        rows = [
            row
            for label, batching in SETTINGS.items()
            for load, runs in LOADS.items()
            for row in trial.steady(label, batching, load, runs)
        ]
        adaptive = [
            (label, each) for label, each in SETTINGS.items() if each.policy is Policy.ADAPTIVE
        ]
        rows += [row for label, batching in adaptive for row in trial.overload(label, batching)]
        rows += trial.two_tiers()
        rows += trial.bulk_always_waiting()
    context.say("preview: how far chance alone takes a p99")
    return PreviewResult(_with_chance(rows, trial))


def _metrics(url: str) -> Metrics:
    try:
        from dashboard.sources.prometheus import PrometheusMetrics
    except ImportError as error:
        raise BenchError(f"{error.name} is missing; install the extra `dashboard`") from None
    return PrometheusMetrics(url)


@dataclass(frozen=True, slots=True)
class _Case:
    """What is run: a row for each plan."""

    label: str
    load: str
    batching: ModelParameters
    plans: Sequence[Plan]
    asked: Asked = Asked.LATENCY

    def again(self) -> "_Case":
        plans = [msgspec.structs.replace(plan, seed=plan.seed + AGAIN) for plan in self.plans]
        return replace(self, plans=plans)


class _Trial:
    """One server, edited as it goes; each run is foretold and measured."""

    def __init__(self, context: Context, server: RunningServer, metrics: Metrics) -> None:
        self._context = context
        self._server = server
        self._metrics = metrics
        self._generation = 1
        self._seed = 0
        self.questions: dict[tuple[str, str], PreviewQuestion] = {}  # for chance, by row

    def steady(
        self, label: str, batching: ModelParameters, load: float, runs: float
    ) -> Sequence[PreviewRow]:
        interactive = self._open(load * capacity_per_s(batching), runs)
        return self._foretold(_Case(label, f"{load:g}", batching, [interactive]))

    def overload(self, label: str, batching: ModelParameters) -> Sequence[PreviewRow]:
        interactive = self._open(OVERLOAD * capacity_per_s(batching), OVERLOAD_RUNS)
        case = _Case(label, f"{OVERLOAD:g}", batching, [interactive], Asked.GOODPUT)
        return self._foretold(case)

    def two_tiers(self) -> Sequence[PreviewRow]:
        per_s = capacity_per_s(ADAPTIVE)
        plans = [
            self._open(INTERACTIVE_LOAD * per_s, TIERS_RUNS),
            self._open(BULK_LOAD * per_s / BULK_ROWS, TIERS_RUNS, tier="bulk", rows=BULK_ROWS),
        ]
        load = f"{INTERACTIVE_LOAD:g} and {BULK_LOAD:g} of bulk"
        return self._foretold(_Case("adaptive", load, ADAPTIVE, plans))

    def bulk_always_waiting(self) -> Sequence[PreviewRow]:
        interactive = self._open(INTERACTIVE_LOAD * capacity_per_s(ADAPTIVE), TIERS_RUNS)
        bulk = msgspec.structs.replace(
            interactive,
            load=ClosedLoop(in_flight=BULK_IN_FLIGHT),
            work=SimulatedWork(rows=BULK_ROWS),
            tier="bulk",
            slo_ms=NO_SLO_MS,
        )
        load = f"{INTERACTIVE_LOAD:g}, bulk always waits"
        return self._foretold(_Case("adaptive", load, ADAPTIVE, [interactive, bulk]))

    def _open(self, rate_per_s: float, runs: float, *, tier: str = "", rows: int = 1) -> Plan:
        self._seed += 1
        return Plan(
            port=self._server.http_port,
            model=self._server.model,
            load=OpenLoop(rate_per_s=rate_per_s),
            work=SimulatedWork(rows=rows),
            tier=tier,
            seconds=runs * self._context.pace.run_s,
            warmup_s=WARMUP_S,
            slo_ms=NO_SLO_MS if tier else CLIENT_SLO_MS,
            seed=self._seed,
        )

    def _foretold(self, case: _Case) -> Sequence[PreviewRow]:
        """Fails only if two runs fail: this machine stops now and then."""
        rows = self._once(case)
        return rows if all(row.held is not False for row in rows) else self._once(case.again())

    def _once(self, case: _Case) -> Sequence[PreviewRow]:
        self._generation += 1
        parameters = one_model_parameters(MODEL, case.batching, SLO_MS, generation=self._generation)
        put_in_force(self._server, parameters)
        self._context.say(f"preview: {case.label}, load {case.load}")
        reports = generate_loads(case.plans)
        ended_s = time.time() - TAIL_S
        lasted_s = case.plans[0].seconds
        window = Window(ended_s - lasted_s, ended_s)
        question = self._question(parameters, window)
        forecast = preview(question)
        used = self._metrics.utilisation(window, ALL)
        self.questions[case.label, case.load] = replace(question, duration_s=lasted_s)
        return [
            self._row(case, window, plan, report, forecast, used)
            for plan, report in zip(case.plans, reports, strict=True)
        ]

    def _question(self, parameters: Parameters, window: Window) -> PreviewQuestion:
        """As dashboard/tuning/preview.py asks."""
        metrics = self._metrics
        return question_of(
            parameters,
            metrics.arrivals(window, ALL),
            metrics.service_models(ALL),
            metrics.replicas(),
            prices={},
        )

    def _row(
        self,
        case: _Case,
        window: Window,
        plan: Plan,
        report: RunReport,
        forecast: Forecast,
        used: Utilisation,
    ) -> PreviewRow:
        name = plan.tier or "interactive"
        then = next(each for each in forecast.tiers if each.tier == name)
        seen = next(each for each in self._metrics.tiers(window, ALL) if each.tier == name)
        if report.latency is None or then.p99_s is None or used.busy is None:
            raise BenchError(
                f"{case.label} at {case.load}: nothing was answered, so nothing can be compared"
            )
        return PreviewRow(
            setting=case.label,
            load=case.load,
            tier=name,
            asked=case.asked,
            rate_per_s=report.scheduled / report.seconds,
            predicted_p50_ms=(then.p50_s or 0.0) * 1e3,
            predicted_p99_ms=then.p99_s * 1e3,
            p50_ms=report.latency.p50_ms,
            p99_ms=report.latency.p99_ms,
            seen_p99_ms=(seen.p99_s or 0.0) * 1e3,
            predicted_busy=forecast.busy,
            busy=used.busy,
            predicted_goodput_per_s=then.good_per_s,
            goodput_per_s=report.goodput_per_s,
        )


def _with_chance(rows: Sequence[PreviewRow], trial: _Trial) -> Sequence[PreviewRow]:
    spreads = dict(zip(trial.questions, p99_spreads(list(trial.questions.values())), strict=True))
    return [
        msgspec.structs.replace(row, chance=spreads[row.setting, row.load].get(row.tier, 0.0))
        for row in rows
    ]
