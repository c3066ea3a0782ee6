"""Interactive and bulk requests on one device: what each gets, under three ways to choose."""

from collections.abc import Sequence

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.bench.generator import generate_loads
from loadtest.bench.plan import ClosedLoop, OpenLoop, Plan, RunReport, SimulatedWork
from loadtest.bench.scenarios.context import Context
from loadtest.bench.scenarios.simulated import (
    MODEL,
    SERVER_SLO_MS,
    SLO_MS,
    TOKEN_US,
    TYPICAL_TOKENS,
    simulated_server,
)
from loadtest.bench.scenarios.tiers_result import TIERS, Overload, TierRow, TiersResult
from loadtest.bench.servers import RunningServer, one_model_parameters, running_server
from loadtest.bench.sharing import Sharing
from loadtest.bench.tuning import put_in_force
from predictor.core.parameters import (
    DEFAULT_PARAMETERS,
    ModelParameters,
    Order,
    Parameters,
    Policy,
    TierParameters,
)

FIXED_MS = 2.0
LOADS = (0.1, 0.3, 0.5, 0.7)
CURVE_LOAD = 0.3
CURVE_SLICES_MS = (40.0, 20.0, 10.0, 5.0)
OVERLOAD = 1.5
OVERLOAD_MIN_SHARE = 0.1
OVERLOAD_BULK_ROWS = 4
BULK_ROWS = 16
BULK_IN_FLIGHT = 64  # 11 full batches wait
WARMUP_S = 1.0
RUN_SHARE = 0.5  # of the pace's: there are many runs

BULK = DEFAULT_PARAMETERS.tiers["bulk"]
ADAPTIVE = ModelParameters(max_batch_size=512, max_batch_tokens=8192)
# No window: a batch leaves as soon as the device is free.
CONSTANT = ModelParameters(
    policy=Policy.CONSTANT,
    max_batch_size=512,
    max_batch_tokens=8192,
    max_wait_ms=0,
    order=Order.ARRIVAL,
)
# Without an SLO nothing is dropped, so that lateness shows as what it is.
PATIENT = TierParameters(priority=1, max_queue_size=100_000)
STRICT = Parameters(
    generation=1,
    models={MODEL: CONSTANT},
    tiers={"interactive": PATIENT, "bulk": msgspec.structs.replace(PATIENT, priority=2)},
)
FIFO = Parameters(generation=1, models={MODEL: CONSTANT}, tiers={"all": PATIENT})


def with_tiers(max_slice_ms: float | None = None, min_share: float = BULK.min_share) -> Parameters:
    bulk = msgspec.structs.replace(BULK, max_slice_ms=max_slice_ms, min_share=min_share)
    return one_model_parameters(MODEL, ADAPTIVE, SERVER_SLO_MS, bulk=bulk)


def run(context: Context) -> TiersResult:
    """Raises BenchError if bulk alone gets nothing done."""
    with running_server(simulated_server(True, ADAPTIVE, fixed_ms=FIXED_MS)) as server:
        shared = _SharedDevice(context, server)
        shared.measure_best()
        tiers = [shared.promised(load) for load in LOADS]
        curve = [
            shared.row(TIERS, CURVE_LOAD, with_tiers(slice_ms), slice_ms)
            for slice_ms in CURVE_SLICES_MS
        ]
        strict = [shared.row("strict priority", load, STRICT) for load in LOADS]
        fifo = [shared.row("FIFO", load, FIFO) for load in LOADS]
        overload = shared.overload()
        if not overload.held:  # as for the promises
            overload = shared.overload()
    return TiersResult(
        rows=[*tiers, *strict, *fifo],
        curve=curve,
        overload=overload,
        best_tokens_per_s=shared.best_tokens_per_s,
        longest_batch_ms=FIXED_MS + TOKEN_US * ADAPTIVE.max_batch_tokens / 1e3,
    )


class _SharedDevice:
    """One server, tuned as it goes, and the two loads that it is given."""

    def __init__(self, context: Context, server: RunningServer) -> None:
        self._context = context
        self._server = server
        self._generation = 1
        self._alone: dict[float, RunReport] = {}
        self.best_tokens_per_s = 0.0

    def measure_best(self) -> None:
        self._put_in_force(with_tiers())
        (bulk,) = self._measure("bulk alone", [self._bulk("bulk", self._context.pace.run_s)])
        self.best_tokens_per_s = bulk.finished_tokens_per_s
        if not self.best_tokens_per_s:
            raise BenchError("bulk alone had no answer, so there is nothing to compare with")

    def promised(self, load: float) -> TierRow:
        """Fails only if two runs fail: this machine stops for tens of ms now and then."""
        row = self.row(TIERS, load, with_tiers())
        if row.sharing.held:
            return row
        del self._alone[load]
        return self.row(TIERS, load, with_tiers())

    def row(
        self, scheduler: str, load: float, parameters: Parameters, max_slice_ms: float | None = None
    ) -> TierRow:
        if load not in self._alone:
            self._put_in_force(parameters)
            (self._alone[load],) = self._measure(f"{load:g} alone", [self._interactive(load)])
        interactive, bulk = self._both(scheduler, load, parameters)
        sharing = Sharing(
            alone=self._alone[load],
            interactive=interactive,
            bulk=bulk,
            best_tokens_per_s=self.best_tokens_per_s,
            slo_ms=SLO_MS,
        )
        return TierRow(scheduler=scheduler, load=load, max_slice_ms=max_slice_ms, sharing=sharing)

    def overload(self) -> Overload:
        parameters = with_tiers(min_share=OVERLOAD_MIN_SHARE)
        # Few slices run in a share so small; a request of many rows would fill half a one.
        self._put_in_force(parameters)
        seconds = self._context.pace.run_s
        interactive, bulk = self._measure(
            f"{OVERLOAD:g} and bulk",
            [self._interactive(OVERLOAD, seconds), self._bulk("bulk", seconds, OVERLOAD_BULK_ROWS)],
        )
        mean_ms = bulk.service.mean_ms if bulk.service else FIXED_MS
        # A token's part of its batch, the fixed time included.
        token_s = TOKEN_US / 1e6 * (mean_ms / (mean_ms - FIXED_MS) if mean_ms > FIXED_MS else 0.0)
        capacity_per_s = self.best_tokens_per_s / interactive.mean_tokens
        return Overload(
            load=OVERLOAD,
            min_share=OVERLOAD_MIN_SHARE,
            share=bulk.finished_tokens_per_s * token_s,
            slice_share=mean_ms / 1e3 / seconds,
            goodput_ratio=interactive.goodput_per_s / capacity_per_s,
        )

    def _both(
        self, scheduler: str, load: float, parameters: Parameters
    ) -> tuple[RunReport, RunReport]:
        self._put_in_force(parameters)
        tier = "bulk" if "bulk" in parameters.tiers else ""
        interactive, bulk = self._measure(
            f"{scheduler}, {load:g} and bulk", [self._interactive(load), self._bulk(tier)]
        )
        return interactive, bulk

    def _measure(self, what: str, plans: Sequence[Plan]) -> Sequence[RunReport]:
        self._context.say(f"tiers: {what}")
        return generate_loads(plans)

    def _put_in_force(self, parameters: Parameters) -> None:
        self._generation += 1
        put_in_force(self._server, msgspec.structs.replace(parameters, generation=self._generation))

    def _interactive(self, load: float, seconds: float = 0.0) -> Plan:
        rate_per_s = load * self.best_tokens_per_s / TYPICAL_TOKENS
        return self._plan(OpenLoop(rate_per_s=rate_per_s), SimulatedWork(), "", seconds)

    def _bulk(self, tier: str, seconds: float = 0.0, rows: int = BULK_ROWS) -> Plan:
        work = SimulatedWork(rows=rows)
        return self._plan(ClosedLoop(in_flight=BULK_IN_FLIGHT), work, tier, seconds)

    def _plan(
        self, load: OpenLoop | ClosedLoop, work: SimulatedWork, tier: str, seconds: float
    ) -> Plan:
        return Plan(
            port=self._server.http_port,
            model=self._server.model,
            load=load,
            work=work,
            tier=tier,
            seconds=seconds or RUN_SHARE * self._context.pace.run_s,
            warmup_s=WARMUP_S,
            slo_ms=SLO_MS,
        )
