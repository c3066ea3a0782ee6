"""`python -m loadtest replay`: a trace of arrivals, sent again, faster or slower."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.bench.report import Table
from loadtest.driving import START_AND_DRAIN_S, RunK6
from loadtest.k6.result import K6Result
from loadtest.serving import LENGTHS
from loadtest.target import Target
from loadtest.trace import TracedRequest, read_trace

TRACE_FILE = "trace.json"
MAX_REPLAY_S = 86_400


def replayed(
    file: Path,
    speed: float,
    *,
    target: Target,
    task: str,
    tier: str,
    slo_ms: float,
    folder: Path,
    run_k6: RunK6,
    prometheus_url: str | None,
) -> K6Result:
    """`tier`: of requests that name none. Raises BenchError as read_trace and k6 do."""
    requests = read_trace(file)
    seconds = requests[-1].time_s / speed
    if seconds > MAX_REPLAY_S:
        raise BenchError(
            f"{file} would take {seconds / 3600:.1f} h; a --speed of more ends it in 24"
        )
    trace = folder.absolute() / TRACE_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trace.write_bytes(trace_document(requests))
    except OSError as error:
        raise BenchError(f"{trace} cannot be written: {error.strerror}") from None
    settings = {
        "URL": target.url,
        "MODEL": target.model,
        "TASK": task,
        "LENGTHS": LENGTHS[task],
        "TRACE": str(trace),
        "SPEED": f"{speed:g}",
        "TIERS": tier,
        "SLO_MS": f"{slo_ms:g}",
    }
    return run_k6(
        "replay",
        settings,
        results=folder,
        limit_s=seconds + START_AND_DRAIN_S,
        prometheus_url=prometheus_url,
    )


def trace_document(requests: Sequence[TracedRequest]) -> bytes:
    """What loadtest/replay.js reads."""
    return msgspec.json.encode([_entry(request) for request in requests])


def _entry(request: TracedRequest) -> Mapping[str, float | int | str]:
    given = {"tokens": request.tokens, "tier": request.tier}
    known = {name: value for name, value in given.items() if value is not None}
    return {"at_s": round(request.time_s, 6), **known}


def replay_table(result: K6Result, speed: float) -> Table:
    return Table(
        title="Replay",
        intro=f"The trace at {speed:g} times its speed, {result.seconds:.0f} s; k6 was late by "
        f"{result.lag_p99_ms:.1f} ms at p99 and dropped {result.dropped}.",
        columns=(
            *("tier", "requests", "answered", "in time", "refused", "failed"),
            *("p50 ms", "p95 ms", "p99 ms"),
        ),
        rows=[
            (
                *(name, str(tier.requests), str(tier.ok), str(tier.within_slo)),
                *(str(tier.refused), str(tier.failed)),
                *(f"{value:.1f}" for value in (tier.p50_ms, tier.p95_ms, tier.p99_ms)),
            )
            for name, tier in result.tiers.items()
        ],
    )
