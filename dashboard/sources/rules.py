"""The recording rules that make long windows of many replicas readable.

`python -m dashboard.sources.rules` prints them as a rule file for Prometheus.
"""

from collections.abc import Iterator

import yaml

from dashboard.ports import ALL
from dashboard.sources import promql
from dashboard.sources.promql import POOL, RECORDED_EVERY_S

_RATE_OVER_S = 60.0


def rule_file() -> str:
    """YAML. Every series keeps its pool, in one spelling, as the label `pool`."""
    group = {
        "name": "headway",
        "interval": promql.duration(RECORDED_EVERY_S),
        "rules": [{"record": name, "expr": expression} for name, expression in _rules()],
    }
    return yaml.safe_dump({"groups": [group]}, sort_keys=False, width=100)


def _rules() -> Iterator[tuple[str, str]]:
    for counter in promql.recorded_counters():
        rate = promql.rate(counter, (POOL, *counter.labels), ALL, _RATE_OVER_S)
        yield counter.recorded_as, _as_pool(rate)
    depth = promql.gauge(promql.QUEUE_DEPTH, "sum", (POOL, "model", "tier"), ALL)
    yield promql.DEPTH_RECORDED, _as_pool(depth)
    yield promql.DEVICES_RECORDED, _as_pool(promql.gauge(promql.ENGINES, "count", (POOL,), ALL))
    known = f"group by (job) (last_over_time({promql.ENGINES}[1h]))"
    targets = promql.pooled(f"(up and on (job) {known})")
    yield promql.TARGETS_RECORDED, _as_pool(f"count by ({POOL}) ({targets})")
    yield promql.GENERATION_RECORDED, f"max({promql.GENERATION})"


def _as_pool(vector: str) -> str:
    """A rule's labels are its own: the helper label is not kept."""
    renamed = f'label_replace({vector}, "pool", "$1", "{POOL}", "(.*)")'
    return f'label_replace({renamed}, "{POOL}", "", "", "")'


if __name__ == "__main__":
    print(rule_file())  # noqa: T201 - it is asked to
