"""Interactive and bulk requests on one GPU: what each gets, with slices by the SLO and short."""

from collections.abc import Sequence

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.bench.generator import generate_loads
from loadtest.bench.plan import ClosedLoop, EncoderWork, OpenLoop, Plan, RunReport, Spread
from loadtest.bench.servers import RunningServer
from loadtest.bench.sharing import REQUIRED_BULK_RATIO, Sharing, p99_ms
from loadtest.bench_gpu.context import CONNECTIONS, DRAIN_S, GpuContext
from loadtest.bench_gpu.findings import Findings, Measure, at_least, at_most, errors_of, ratio
from loadtest.bench_gpu.single import ONE_ROW, SLO_MS

# Bulk fills whatever an urgent row has left, so that many end just in time by the server's
# clock. The client's runs for longer, and here other processes share the cores.
SERVER_SLO_MS = 16.0
LOADS = (0.1, 0.3)
BULK_WORK = EncoderWork(rows=16, binary=True)
BULK_IN_FLIGHT = 64  # 5 full batches wait
SHORT_SLICE_MS = 1.5
SHORT_SLICE_LOAD = 0.1
MOST_TIMES_ALONE = 2.0
WARMUP_S = 1.0
RATE_OF_ONE_PROCESS = 1000.0


def run(context: GpuContext) -> Findings:
    """Raises BenchError if bulk alone gets nothing done."""
    server = context.server(SERVER_SLO_MS)
    (bulk,) = _measure(context, "bulk alone", [_bulk(context, server)])
    best_tokens_per_s = bulk.finished_tokens_per_s
    if not best_tokens_per_s:
        raise BenchError("bulk alone had no answer, so there is nothing to compare with")
    measures = [
        Measure(
            "bulk alone, the best",
            f"{best_tokens_per_s / 1e6:.3f} M tokens/s, {_times(bulk.service)} ms a batch; "
            f"{errors_of(bulk)}",
        )
    ]
    for load in LOADS:
        rate_per_s = load * best_tokens_per_s / (bulk.mean_tokens / BULK_WORK.rows)
        interactive = _interactive(context, server, rate_per_s)
        (alone,) = _measure(context, f"load {load:g}, alone", [interactive])
        measures += _alone(load, alone)
        both = [interactive, _bulk(context, server)]
        sharing = _sharing(alone, _measure(context, f"load {load:g} and bulk", both), bulk)
        measures += _promises(f"load {load:g} and bulk", sharing)
        if load == SHORT_SLICE_LOAD:
            context.server(SERVER_SLO_MS, max_slice_ms=SHORT_SLICE_MS)
            what = f"load {load:g}, `max_slice_ms` {SHORT_SLICE_MS:g}"
            sharing = _sharing(alone, _measure(context, what, both), bulk)
            measures += _short_slices(what, sharing)
            context.server(SERVER_SLO_MS)
    return Findings(
        title="GPU: tiers",
        intro=(
            f"{context.model_name}, {context.workers} edge processes. Interactive requests of one "
            "row, Poisson, at a share of the best (load), and bulk always waiting "
            f"({BULK_IN_FLIGHT} requests of {BULK_WORK.rows} rows in flight). SLO {SLO_MS:.0f} ms "
            f"at the client, {SERVER_SLO_MS:.0f} ms in the tier. p99 may be min(SLO, alone + "
            "longest batch with bulk rows + what top-up added to interactive batches, at p99)."
        ),
        measures=measures,
    )


def _measure(context: GpuContext, what: str, plans: Sequence[Plan]) -> Sequence[RunReport]:
    context.say(f"tiers: {what}")
    return generate_loads(plans)


def _interactive(context: GpuContext, server: RunningServer, rate_per_s: float) -> Plan:
    load = OpenLoop(rate_per_s=rate_per_s, max_connections=CONNECTIONS)
    processes = context.generators if rate_per_s > RATE_OF_ONE_PROCESS else 1
    return _plan(context, server, load, ONE_ROW, "interactive", processes)


def _bulk(context: GpuContext, server: RunningServer) -> Plan:
    load = ClosedLoop(in_flight=BULK_IN_FLIGHT)
    processes = max(1, context.generators // 2)
    return _plan(context, server, load, BULK_WORK, "bulk", processes)


def _plan(
    context: GpuContext,
    server: RunningServer,
    load: OpenLoop | ClosedLoop,
    work: EncoderWork,
    tier: str,
    processes: int,
) -> Plan:
    return Plan(
        port=server.http_port,
        model=server.model,
        load=load,
        work=work,
        tier=tier,
        seconds=context.pace.run_s,
        warmup_s=WARMUP_S,
        drain_s=DRAIN_S,
        slo_ms=SLO_MS,
        processes=processes,
    )


def _sharing(alone: RunReport, both: Sequence[RunReport], bulk_alone: RunReport) -> Sharing:
    interactive, bulk = both
    return Sharing(
        alone=alone,
        interactive=interactive,
        bulk=bulk,
        best_tokens_per_s=bulk_alone.finished_tokens_per_s,
        slo_ms=SLO_MS,
    )


def _alone(load: float, alone: RunReport) -> Sequence[Measure]:
    return [
        Measure(
            f"load {load:g}, alone: p50, p99 ms",
            f"{_times(alone.latency)} at {alone.scheduled / alone.seconds:.0f} requests/s, "
            f"{_times(alone.service)} on the device; {errors_of(alone)}; generator lag p99 "
            f"{p99_ms(alone.lag):.1f} ms",
        )
    ]


def _promises(what: str, sharing: Sharing) -> Sequence[Measure]:
    return [
        _both(what, sharing),
        Measure(
            f"{what}: longest batch with bulk rows, and top-up, ms",
            f"{sharing.slice_ms:.1f}, {sharing.growth_ms:.1f}",
        ),
        Measure(
            f"{what}: p99 ms",
            f"{p99_ms(sharing.interactive.latency):.1f}",
            f"≤ {sharing.allowed_ms:.1f}",
            sharing.is_prompt,
        ),
        at_least(f"{what}: bulk ÷ ((1 - load) best)", sharing.bulk_ratio, REQUIRED_BULK_RATIO),
    ]


def _short_slices(what: str, sharing: Sharing) -> Sequence[Measure]:
    grown = ratio(p99_ms(sharing.interactive.latency), p99_ms(sharing.alone.latency))
    held = at_most(f"{what}: p99 ÷ alone", grown, MOST_TIMES_ALONE)
    if not grown:  # nothing was answered
        held = msgspec.structs.replace(held, held=False)
    return [
        _both(what, sharing),
        held,
        Measure(f"{what}: bulk ÷ ((1 - load) best)", f"{sharing.bulk_ratio:.2f}"),
    ]


def _both(what: str, sharing: Sharing) -> Measure:
    interactive, bulk = sharing.interactive, sharing.bulk
    return Measure(
        f"{what}: p50, p99 ms; bulk",
        f"{_times(interactive.latency)}, {sharing.in_time:.1%} in time, {errors_of(interactive)}; "
        f"bulk {bulk.finished_tokens_per_s / 1e6:.3f} M tokens/s, {errors_of(bulk)}",
    )


def _times(spread: Spread | None) -> str:
    return f"{spread.p50_ms:.1f}, {spread.p99_ms:.1f}" if spread else "-"
