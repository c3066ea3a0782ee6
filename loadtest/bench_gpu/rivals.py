"""The capacity beside that of a server people would pick instead, on the same machine."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec

from loadtest.bench.capacity import Capacity
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import generate_load
from loadtest.bench.plan import ClosedLoop, EncoderWork, Plan, RunReport
from loadtest.bench_gpu.context import GpuContext, Target
from loadtest.bench_gpu.findings import (
    Findings,
    Measure,
    at_least,
    errors_of,
    known_of,
    rate_of,
    ratio,
)
from loadtest.bench_gpu.rival_servers import (
    RIVALS,
    Place,
    Rival,
    RivalSettings,
    installed_version,
    place_of,
    running_rival,
)
from loadtest.bench_gpu.serving import MODEL

REQUIRED_RATIO = 5.0
SLO_MS = 50.0
# The client's clock starts before the server's and stops after it.
SERVER_SLO_MS = 45.0
TEXT = EncoderWork(as_text=True)
IN_FLIGHT = 128
START_SHARE = 0.7  # of what a closed loop reaches: where to start looking for a capacity


class Trial(msgspec.Struct, frozen=True):
    """A closed loop against one of the rival's settings."""

    settings: RivalSettings
    report: RunReport


def scenario_of(name: str) -> Callable[[GpuContext], Findings]:
    def run(context: GpuContext) -> Findings:
        return _compare(context, name, RIVALS[name])

    return run


def _compare(context: GpuContext, name: str, rival: Rival) -> Findings:
    ours, our_measures = _ours(context)
    context.stop_server()  # it would share the device
    place = place_of(name, context.rival_sites)
    label = rival.label
    try:
        label = f"{rival.label} ({rival.package} {installed_version(rival, place)})"
        trials, found = _tuned(context, rival, place)
        theirs = [
            *(Measure(f"{label}, {each.settings}", _closed(each.report)) for each in trials),
            _capacity_measure(f"{label}, the best of these", found),
            compared(ours, found),
        ]
        notes = [
            f"{who}: the search ended early; {known_of(each)}"
            for who, each in (("Headway", ours), (label, found))
            if not each.settled
        ]
    except BenchError as error:
        theirs = [Measure(label, "could not be measured")]
        notes = [str(error)]
    return Findings(
        title=f"{'CPU' if context.device == 'cpu' else 'GPU'}: Headway and {rival.label}",
        intro=(
            f"{context.model_name} in {context.dtype} behind both, one text of one token a word "
            "a request, lengths as everywhere here. The capacity is the highest rate of Poisson "
            f"arrivals at which 99% are answered rightly within {SLO_MS:.0f} ms. The rival is "
            f"tried in each of its settings with {IN_FLIGHT} requests in flight; its capacity is "
            "searched in the quickest of them."
        ),
        measures=[*our_measures, *theirs],
        notes=notes,
    )


NOTHING: Capacity[RunReport] = Capacity(
    rate_per_s=0.0, report=None, failing_rate_per_s=None, settled=True
)


def _ours(context: GpuContext) -> tuple[Capacity[RunReport], list[Measure]]:
    """Measured once a run. A rival's own figures are worth having where ours failed."""
    try:
        found = context.capacity(SLO_MS, SERVER_SLO_MS, TEXT)
    except BenchError as error:
        return NOTHING, [Measure("Headway", f"could not be measured: {error}")]
    return found, [_capacity_measure("Headway", found)]


def _capacity_measure(label: str, found: Capacity[RunReport]) -> Measure:
    latency = found.report.latency if found.report else None
    times = f" (p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms)" if latency else ""
    return Measure(f"{label}: requests/s at p99 ≤ {SLO_MS:.0f} ms", f"{rate_of(found)}{times}")


def compared(ours: Capacity[RunReport], theirs: Capacity[RunReport]) -> Measure:
    """Ours over the rival's; where no rate of its passed, over the lowest that it failed."""
    name, asked = "Headway ÷ it", f"≥ {REQUIRED_RATIO:.1f}"
    if not ours.rate_per_s:
        return Measure(name, "could not be compared: no rate of ours passed", asked)
    if theirs.rate_per_s:
        return at_least(name, ratio(ours.rate_per_s, theirs.rate_per_s), REQUIRED_RATIO, ".1f")
    if theirs.failing_rate_per_s is None:
        return Measure(name, "could not be compared: no rate of the rival was measured", asked)
    least = ours.rate_per_s / theirs.failing_rate_per_s
    # Below the bound, a ratio that is only known to be larger tells nothing.
    return Measure(name, f"> {least:.1f}", asked, True if least >= REQUIRED_RATIO else None)


def _closed(report: RunReport) -> str:
    p99 = f", p99 {report.latency.p99_ms:.0f} ms" if report.latency else ""
    return f"{report.answered_per_s:.0f} requests/s{p99}; {errors_of(report)}"


def _tuned(
    context: GpuContext, rival: Rival, place: Place
) -> tuple[list[Trial], Capacity[RunReport]]:
    """A trial of each of its settings, and the capacity in the best.

    Raises BenchError if it could be started in none.
    """
    trials: list[Trial] = []
    refusals: list[BenchError] = []
    for settings in rival.settings[: 1 if context.rehearses else context.rival_settings]:
        context.say(f"{rival.label}: {settings}")
        try:
            with _running(context, rival, settings, place) as port:
                plan = Plan(
                    port=port,
                    model=MODEL,
                    dialect=rival.dialect,
                    load=ClosedLoop(in_flight=IN_FLIGHT),
                    work=TEXT,
                    seconds=context.pace.probe_s,
                    warmup_s=1.0,
                    drain_s=3.0,
                    processes=context.generators,
                )
                trials.append(Trial(settings, generate_load(plan)))
        except BenchError as error:
            refusals.append(error)
    if not trials:
        raise refusals[0]
    best = max(trials, key=lambda trial: trial.report.answered_per_s)
    with _running(context, rival, best.settings, place) as port:
        found = context.search(
            Target(port, MODEL, rival.dialect),
            rival.label,
            SLO_MS,
            TEXT,
            max(1.0, START_SHARE * best.report.answered_per_s),
        )
    return trials, found


def _running(
    context: GpuContext, rival: Rival, settings: RivalSettings, place: Place
) -> AbstractContextManager[int]:
    return running_rival(
        rival,
        settings,
        model_dir=context.checkpoint(),
        device=context.device,
        place=place,
    )
