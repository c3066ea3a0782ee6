"""Run reports made up for tests."""

import msgspec

from loadtest.bench.plan import RunReport, Spread

CALM = RunReport(
    seconds=10.0,
    scheduled=1000,
    answered=1000,
    mismatched=0,
    rejected={},
    failed=0,
    unanswered=0,
    within_slo=1000,
    latency=Spread(1000, 20.0, 18.0, 40.0, 80.0, 95.0),
    overhead=Spread(1000, 2.0, 1.5, 3.0, 5.0, 9.0),
    refusal=None,
    service=Spread(1000, 12.0, 10.0, 20.0, 30.0, 40.0),
    lag=Spread(1000, 0.3, 0.3, 0.6, 0.9, 1.5),
    waited_for_connection=0,
    connections=16,
    mean_tokens=88.0,
    answered_rows=1000,
    answered_tokens=88_000,
    finished_tokens=88_000,
    generator_cpu_s=1.0,
    generator_wall_s=10.0,
)
LATE = msgspec.structs.replace(
    CALM, within_slo=500, latency=Spread(1000, 90.0, 99.0, 150.0, 200.0, 300.0)
)
# A few were refused; nearly all were answered in time.
SOME_REFUSED = msgspec.structs.replace(
    CALM,
    answered=995,
    within_slo=995,
    rejected={429: 5},
    refusal=Spread(5, 1.0, 1.0, 2.0, 2.0, 2.0),
)
NOTHING_ANSWERED = msgspec.structs.replace(
    CALM, answered=0, within_slo=0, failed=1000, latency=None, overhead=None, lag=None, service=None
)
