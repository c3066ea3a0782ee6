"""What triggers ask: one element, the demand of our replicas alone, for each state of the pools."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboard.prometheus_process import WHY
from tests.manifests.conftest import Worlds
from tests.manifests.test_alerts import promtool

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason=WHY)

EVAL = "2m"


def replica(pod: str, pool: str, engines: Sequence[tuple[int, float]], bulk: int) -> list[str]:
    """Series of a pod. `engines`: rows that wait and offered load of each, urgent ones."""
    found = []
    where = f'namespace="headway", inferenceservice="{pool}", pod="{pod}"'
    for number, (rows, load) in enumerate(engines):
        of = f'{where}, engine="{number}"' if len(engines) > 1 else where
        found += [
            f'headway_queue_depth{{{of}, model="topics", tier="interactive"}} {rows}',
            f'headway_offered_load_ratio{{{of}, model="topics", tier="interactive"}} {load}',
            f'headway_offered_load_ratio{{{of}, model="topics", tier="bulk"}} 9',
            f"headway_overloaded{{{of}}} 0",
            f'headway_job_lines{{{of}, model="topics", state="waiting"}} 7000',
            f'headway_job_lines{{{of}, model="topics", state="parked"}} 11',
        ]
    return [*found, f'headway_queue_depth{{{where}, model="topics", tier="bulk"}} {bulk}']


def two_replicas(first: str, second: str) -> list[str]:
    return [
        *replica("a", first, [(30, 0.6), (10, 1.0)], bulk=1000),
        *replica("b", second, [(24, 0.5)], bulk=500),
        *replica("c", "another-model", [(999, 99.0)], bulk=999),
        'headway_queue_depth{namespace="other", inferenceservice="topics", tier="interactive"} 99',
    ]


def case(name: str, series: Sequence[str], scaled: Any, values: dict[str, float]) -> Any:
    """A promtool test: each trigger's query answers its value, and where it has none, nothing."""
    asked = [each for each in scaled.get("spec", "triggers") if each["type"] == "prometheus"]
    return {
        "name": name,
        "interval": "5s",
        "input_series": [
            {"series": each.rpartition(" ")[0], "values": f"{each.rpartition(' ')[2]}x24"}
            for each in series
        ],
        "promql_expr_test": [
            {
                "expr": f"round({each['metadata']['query']}, 0.001)",
                "eval_time": EVAL,
                "exp_samples": [{"labels": "{}", "value": values[each["name"]]}]
                if each["name"] in values
                else [],
            }
            for each in asked
        ],
    }


def test_every_query_answers_one_element(built: Worlds, tmp_path: Path) -> None:
    one = built["overlays/spot"].of("ScaledObject")[0]
    floor, spot = built["overlays/spot-and-on-demand"].of("ScaledObject")
    pools = two_replicas("topics-on-demand", "topics-spot")
    floor_alone = replica("a", "topics-on-demand", [(30, 0.6), (200, 1.6)], bulk=1000)
    spot_alone = replica("b", "topics-spot", [(24, 0.5)], bulk=500)
    grown = [*replica("d", "topics-on-demand", [(100, 0.9)], bulk=0), *pools]
    cases = [
        case(
            *("one pool: the engines of a pod count as one replica", two_replicas(*2 * ["topics"])),
            *(one, {"queue-depth": 64.0, "offered-load": 1.3, "bulk-backlog": 8500.0}),
        ),
        case("no replica: no answer, which KEDA takes for an error", [], one, {}),
        case(
            *("the floor asks for itself", pools),
            *(floor, {"queue-depth": 40.0, "offered-load": 0.8}),
        ),
        case(
            *("spot: what is beyond the floor", pools),
            *(spot, {"queue-depth": 0.0, "offered-load": 0.6, "bulk-backlog": 8500.0}),
        ),
        case(
            *("spot at 0: it is asked for all the same", floor_alone),
            *(spot, {"queue-depth": 166.0, "offered-load": 0.4, "bulk-backlog": 8000.0}),
        ),
        case(
            *("the floor is away: all is spot's", spot_alone),
            *(spot, {"queue-depth": 24.0, "offered-load": 0.5, "bulk-backlog": 7500.0}),
        ),
        case(
            *("on-demand has grown: spot still asks for all but the floor's minimum", grown),
            *(spot, {"queue-depth": 100.0, "offered-load": 1.5, "bulk-backlog": 8500.0}),
        ),
        case("nobody is there", [], spot, {}),
    ]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"tests": cases}, sort_keys=False))
    promtool("test", "rules", "queries.yml", folder=tmp_path)
