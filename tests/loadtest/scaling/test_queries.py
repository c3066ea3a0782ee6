"""The queries of every ScaledObject, asked of a real Prometheus that scrapes two real predictors.

Each must answer one element, idle too, with the value that the samples make. The samples are read
back from Prometheus and evaluated by the simulation's own reader of PromQL, which is thereby
tested as well.
"""

import math
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import pytest
import requests

from loadtest.scaling.promql import NOTHING, Series, answer
from manifests.check.build import MANIFESTS, build
from predictor.metrics import names
from predictor.simulation.keda import Trigger, scaled_object
from tests.dashboard.prometheus_process import WHY, PrometheusProcess, missing, until
from tests.edge.server_process import Server
from tests.server.process import document, ids, serving, simulated

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(missing, reason=WHY),
    pytest.mark.timeout(300),
]

SCALED = ("base", "overlays/on-demand", "overlays/spot", "overlays/spot-and-on-demand")
MODEL = "topics"
OURS = '{__name__=~"headway_.*"}'
WAITING = 6
TOKENS, TOKEN_US = 2000, 20_000  # of a request: 40 s, longer than the test looks; not of warm-up
SLO_MS = 3_600_000
# What the manifests do not use, and somebody may want to try in a simulated day.
ALSO_SIMULATED = (
    "sum(rate(headway_offered_work_seconds_total[5s]))",
    "sum by (pod) (rate(headway_offered_requests_total[1m]))",
    "avg_over_time(sum(headway_queue_depth)[10s:1s])",
    'max_over_time(headway_queue_depth{tier=~"inter.*", pod!~".*spot.*"}[10s])',
    "min by (inferenceservice) (min_over_time(headway_overloaded[1m])) + 1",
    "count(headway_overloaded) / 2 or vector(7)",
    "count(nothing) * 3 or vector(7)",
    "clamp(sum(headway_queue_depth), 1, 3)",
    "avg without (tier, pod) (headway_queue_depth)",
)
LATER_S = 400.0  # when no sample counts any more


@dataclass(frozen=True)
class Asked:
    workload: str
    trigger: Trigger


@cache
def asked() -> Sequence[Asked]:
    """Every trigger that asks Prometheus, of every kustomization that scales."""
    found = []
    for folder in SCALED:
        for each in build(MANIFESTS / folder):
            if each.kind == "ScaledObject":
                triggers = scaled_object(each.data).triggers
                found += [Asked(each.name, t) for t in triggers if not t.counts_redis]
    return list(dict.fromkeys(found))


class Cluster:
    """Two replicas, each a target of every pool that the manifests know; and one that is down."""

    def __init__(self, servers: Sequence[Server], prometheus: PrometheusProcess) -> None:
        self.servers = servers
        self._url = prometheus.url

    def query(self, text: str, at_s: float) -> list[dict[str, Any]]:
        """As KEDA asks."""
        return self._get("query", {"query": text, "time": f"{at_s:.3f}"})

    def _get(self, what: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        reply = requests.get(f"{self._url}/api/v1/{what}", parameters, timeout=30)
        reply.raise_for_status()
        elements: list[dict[str, Any]] = reply.json()["data"]["result"]
        return elements

    def value(self, trigger: Trigger, at_s: float) -> float:
        elements = self.query(trigger.query, at_s)
        assert len(elements) == 1, f"{trigger.name}: {elements}"
        return float(elements[0]["value"][1])

    def samples(self, at_s: float) -> list[Series]:
        """What Prometheus has of a few minutes; of targets that are gone, when they went."""
        found = []
        there = {_key(each) for each in self.query(OURS, at_s)}
        for each in self.query(f"{OURS}[5m]", at_s):
            series = Series(each["metric"])
            for when, value in each["values"]:
                series.add(float(when), float(value))
            if _key(each) not in there:
                series.add(self._left_s(each["metric"]["pod"], at_s), math.nan)
            found.append(series)
        return found

    @lru_cache  # noqa: B019 - one cluster
    def _left_s(self, pod: str, at_s: float) -> float:
        """Just after the last instant at which this pod had anything."""
        query = f'{names.OVERLOADED.name}{{pod="{pod}"}}'
        span = {"start": f"{at_s - 60:.3f}", "end": f"{at_s:.3f}", "step": "100ms"}
        (element,) = self._get("query_range", {"query": query, **span})
        return float(element["values"][-1][0]) + 0.1

    def answers(self, name: str, least: float) -> bool:
        """Whether every trigger of this name answers so much; none does in its first seconds."""
        now_s = _now_s()
        return all(
            any(float(element["value"][1]) >= least for element in self.query(query, now_s))
            for query in {each.trigger.query for each in asked() if each.trigger.name == name}
        )

    def check(self, at_s: float, others: Sequence[str] = ALSO_SIMULATED) -> dict[str, list[float]]:
        """Ask all; the answers by the trigger's name. Each is what its samples make."""
        series = self.samples(at_s)
        found: dict[str, list[float]] = {}
        for each in asked():
            value = self.value(each.trigger, at_s)
            assert value == pytest.approx(answer(each.trigger.query, series, at_s)[NOTHING])
            found.setdefault(each.trigger.name, []).append(value)
        for query in others:
            elements = self.query(query, at_s)
            assert {_key(e): pytest.approx(float(e["value"][1])) for e in elements} == answer(
                query, series, at_s
            )
        return found


def _now_s() -> float:
    """To the millisecond, as Prometheus knows times."""
    return round(time.time(), 3)


def _key(element: dict[str, Any]) -> frozenset[tuple[str, str]]:
    return frozenset(element["metric"].items())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("queries")
    parameters = folder / "parameters.yaml"
    tier = {"priority": 1, "slo_ms": SLO_MS, "max_queue_size": 1000}
    parameters.write_text(document(models={MODEL: {"max_batch_size": 1}}, interactive=tier))
    flags = (*simulated(MODEL, fixed_ms=1.0), "--simulated_token_us", str(TOKEN_US))
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as closed:
        with ThreadPoolExecutor() as pool:
            servers = list(
                pool.map(lambda _: stack.enter_context(serving(parameters, *flags)), range(2))
            )
        addresses = [f"127.0.0.1:{server.http_port}" for server in servers]
        addresses.append(f"127.0.0.1:{closed.getsockname()[1]}")
        closed.close()
        prometheus = PrometheusProcess(folder, list(_targets(addresses)))
        stack.callback(prometheus.stop)
        yield Cluster(servers, prometheus.start())


def _targets(addresses: Sequence[str]) -> Iterator[dict[str, str]]:
    """Both replicas are pods of the single pool, and one of each of the two."""
    first, second, down = addresses
    for address, pool in (
        (first, "topics"),
        (second, "topics"),
        (down, "topics"),
        (first, "topics-on-demand"),
        (second, "topics-spot"),
    ):
        pod = f"{pool}-{address.rpartition(':')[2]}"
        labels = {"namespace": "headway", "inferenceservice": pool, "pod": pod}
        yield {"address": address, **labels}


def test_every_query_has_one_answer_idle_and_loaded_and_with_one_replica(cluster: Cluster) -> None:
    assert {each.trigger.name for each in asked()} >= {"queue-depth", "offered-load"}
    for name in {each.trigger.name for each in asked()}:
        until(partial(cluster.answers, name, 0.0))
    idle = cluster.check(_now_s())
    assert {value for values in idle.values() for value in values} == {0.0}

    with ThreadPoolExecutor(2 * WAITING + 4) as clients, _killed(cluster.servers):
        for server in cluster.servers:
            for _ in range(WAITING + 2):  # one runs, one is prepared at the last moment
                clients.submit(_send, server)
        for server in cluster.servers:
            until(partial(_waits_for, server, WAITING + 1))
        until(partial(cluster.answers, "offered-load", 1.0))
        at_s = _now_s()
        loaded = cluster.check(at_s)
        assert max(loaded["queue-depth"]) > 0.0
        rows = cluster.query(f"sum({names.QUEUE_DEPTH.name})", at_s)
        assert float(rows[0]["value"][1]) == 4 * (WAITING + 1)  # each is a target twice

        gone = cluster.servers[1]
        gone.process.kill()
        pods = f'{names.OVERLOADED.name}{{pod=~".*-{gone.http_port}"}}'
        until(lambda: not cluster.query(pods, time.time()))
        # When exactly a target left is not told, and a subquery would have to know.
        alone = cluster.check(_now_s(), others=())
        assert max(alone["queue-depth"]) > 0.0

    for each in asked():  # an error to KEDA, not 0: the fallback counts on it
        assert cluster.query(each.trigger.query, at_s + LATER_S) == []


@contextmanager
def _killed(servers: Sequence[Server]) -> Iterator[None]:
    """At the end, so that no client waits any longer."""
    try:
        yield
    finally:
        for server in servers:
            server.process.kill()


def _send(server: Server) -> None:
    with suppress(OSError):  # it is killed before it answers
        server.post(f"/v2/models/{MODEL}/infer", ids(*[1] * TOKENS))


def _waits_for(server: Server, rows: int) -> bool:
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as response:
        text = response.read().decode()
    prefix = f'{names.QUEUE_DEPTH.name}{{model="{MODEL}",tier="interactive"}} '
    (line,) = [line for line in text.splitlines() if line.startswith(prefix)]
    return float(line.removeprefix(prefix)) == rows
