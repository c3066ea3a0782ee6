"""Reads of replicas: which there are, on what nodes, for how long, at what price."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from dashboard.ports import ALL, Edit, Pool, PoolUse, Price, Replica, Scrapes, Series, Window
from dashboard.sources import promql
from dashboard.sources.connection import Connection, Labels, Sample, need
from dashboard.sources.promql import POOL, Grid
from dashboard.sources.reading import Key, Reading, pool_of
from dashboard.sources.traffic import NO_REPLICA
from predictor.core.rows import Outcome

_GONE_AFTER = "5m"
_KNOWN_FOR = "1h"  # a job is one of ours if it had our metrics in this time
_LEAST_TIMEOUT_S = 1.0  # of a scrape: nobody waits for less
_WHOSE = ("job", "instance")
_OK = promql.one_of("outcome", [Outcome.OK.value])


def replicas(connection: Connection) -> Sequence[Replica]:
    now_s = connection.now_s()
    targets = f"up{{{_our_jobs(connection)}}}"
    recent = connection.instant(promql.pooled(f"last_over_time({targets}[{_GONE_AFTER}])"), now_s)
    need(recent, NO_REPLICA)
    present = connection.instant(promql.pooled(targets), now_s)
    up = {_whose(each) for each in present if each.value == 1.0}
    # A pod that came back under the same address may have other labels: the newest count.
    known = {_whose(each): each for each in (*recent, *present)}
    generations = _least(connection, promql.GENERATION, now_s)
    refusals = _least(connection, promql.LAST_REFUSAL, now_s)
    down = known.keys() - up
    silent = _silent(connection, now_s) if down else set()
    answered = _answered_s(connection, targets, now_s) if down else {}
    return [
        replace(
            _replica(each.labels, whose in up, generations, refusals),
            silent=whose in down and whose in silent,
            answered_at_s=answered.get(whose) if whose in down else None,
        )
        for whose, each in sorted(known.items())
    ]


def _silent(connection: Connection, now_s: float) -> set[Key]:
    """Those whose last scrape took as long as one may. A port that nobody listens on refuses at
    once."""
    least_s = min(_LEAST_TIMEOUT_S, connection.scrape_s() / 2)
    lasting = f"scrape_duration_seconds{{{_our_jobs(connection)}}} >= {least_s:g}"
    return {_whose(each) for each in connection.instant(lasting, now_s)}


def _answered_s(connection: Connection, targets: str, now_s: float) -> dict[Key, float]:
    """When each target was scraped with success last."""
    every_s = max(1, math.ceil(connection.scrape_s()))
    times = f"(timestamp({targets}) * {targets})"  # 0 where it did not answer
    query = f"max_over_time({times}[{_KNOWN_FOR}:{every_s}s]) > 0"
    return {_whose(each): each.value for each in connection.instant(query, now_s)}


def scrapes(connection: Connection) -> Scrapes:
    now_s, every_s = connection.now_s(), connection.scrape_s()
    step_s = max(1, math.ceil(every_s))
    targets = f"up{{{_our_jobs(connection)}}}"
    newest = f"max(max_over_time(timestamp({targets})[{_KNOWN_FOR}:{step_s}s]))"
    found = connection.instant(newest, now_s)
    need(found, NO_REPLICA)
    return Scrapes(found[0].value, every_s)


def _replica(
    labels: Labels, up: bool, generations: Mapping[Key, float], refusals: Mapping[Key, float]
) -> Replica:
    whose = (labels.get("job", ""), labels.get("instance", ""))
    generation = generations.get(whose) if up else None
    return Replica(
        instance=whose[1],
        pool=pool_of(labels.get(POOL, "")),
        node=labels.get("node", ""),
        instance_type=labels.get("instance_type", ""),
        up=up,
        generation=None if generation is None else int(generation),
        refused_at_s=refusals.get(whose) or None,
    )


def _our_jobs(connection: Connection) -> str:
    """A matcher of our scrape targets, those that do not answer included."""
    query = f"group by (job) (last_over_time({promql.ENGINES}[{_KNOWN_FOR}]))"
    jobs = [each.labels.get("job", "") for each in connection.instant(query, connection.now_s())]
    need(jobs, NO_REPLICA)
    return promql.one_of("job", sorted(jobs))


def _least(connection: Connection, name: str, now_s: float) -> dict[Key, float]:
    """Of the engines of each replica."""
    query = promql.gauge(name, "min", _WHOSE, ALL)
    return {_whose(each): each.value for each in connection.instant(query, now_s)}


def _whose(sample: Sample) -> Key:
    return (sample.labels.get("job", ""), sample.labels.get("instance", ""))


def pools(reading: Reading) -> Sequence[PoolUse]:
    present = _present(reading)
    need(list(present), NO_REPLICA)
    seconds = reading.covered.duration_s
    completed = reading.rates(promql.REQUESTS, (POOL, "tier", "model"), _OK)
    device = reading.rates(promql.TIER_DEVICE, (POOL, "tier", "model"))
    busy = reading.rates(promql.BUSY, (POOL,))
    tokens = reading.rates(promql.TOKENS, (POOL,))
    padding = reading.rates(promql.PADDING, (POOL,))
    engines = reading.mean_count(
        promql.gauge(promql.ENGINES, "count", (POOL,), reading.where), (POOL,)
    )
    answering = reading.mean_count(_replica_count(reading), (POOL,))
    types = _instance_types(reading.connection)
    found = []
    for key, line in sorted(present.items()):
        count = sum(line.values) / max(1, len(line.values))
        by_tier = _of_pool(completed, key, seconds)
        computed = tokens.get(key, 0.0) + padding.get(key, 0.0)
        found.append(
            PoolUse(
                pool=pool_of(key[0]),
                replicas=count,
                present_s=count * seconds,
                devices=engines[key] / answering[key] if answering.get(key) else 1.0,
                completed=sum(by_tier.values()),
                busy_s=busy.get(key, 0.0) * seconds,
                padding_share=padding.get(key, 0.0) / computed if computed else 0.0,
                tier_completed=by_tier,
                tier_device_s=_of_pool(device, key, seconds),
                instance_types=types.get(pool_of(key[0]), ()),
                model_completed=_of_pool(completed, key, seconds, by=2),
                model_device_s=_of_pool(device, key, seconds, by=2),
                over_time=line,
            )
        )
    return found


def _of_pool(
    rates: Mapping[Key, float], pool: Key, seconds: float, by: int = 1
) -> dict[str, float]:
    """`by`: the place of the label to add up by."""
    found: dict[str, float] = {}
    for key, value in rates.items():
        if key[:1] == pool:
            found[key[by]] = found.get(key[by], 0.0) + value * seconds
    return found


def _present(reading: Reading) -> dict[Key, Series]:
    """Replicas by pool since there is data, in the middles of even parts of it."""
    window = reading.covered
    if reading.recorded:
        query = promql.gauge(promql.TARGETS_RECORDED, "sum", (POOL,), reading.where)
    else:
        ours = _our_jobs(reading.connection)
        query = promql.gauge("up", "count", (POOL,), reading.where, (), ours)
    step_s = max(2, 2 * math.ceil(window.duration_s / promql.MAX_POINTS / 2))
    parts = max(1, int(window.duration_s // step_s))
    first_s = int(window.start_s) + step_s // 2
    grid = Grid(first_s, first_s + (parts - 1) * step_s, step_s)
    lines = reading.lines(query, (POOL,), grid)
    return {
        key: Series(key[0], grid.times_s, tuple(line.values.get(at, 0.0) for at in grid.times_s))
        for key, line in lines.items()
    }


def _replica_count(reading: Reading) -> str:
    whose = promql.gauge(promql.ENGINES, "group", (*_WHOSE, "pool", "capacity_type"), reading.where)
    return f"count by ({POOL}) ({promql.pooled(whose)})"


def _instance_types(connection: Connection) -> dict[Pool, tuple[str, ...]]:
    found: dict[Pool, set[str]] = defaultdict(set)
    for replica in replicas(connection):
        if replica.instance_type:
            found[replica.pool].add(replica.instance_type)
    return {pool: tuple(sorted(names)) for pool, names in found.items()}


def prices(connection: Connection) -> Sequence[Price]:
    """For each pool, the mean over its replicas of what their part of a node costs.

    OpenCost knows a node's cost and how many GPUs part it. Karpenter knows what an instance
    costs, which those of our replicas part that run on the same node.
    """
    by_pool: dict[Pool, list[tuple[float, str]]] = defaultdict(list)
    there = [replica for replica in replicas(connection) if replica.up]
    now_s = connection.now_s()
    nodes = _by_label(connection.instant(promql.NODE_COST, now_s), "node")
    gpus = _by_label(connection.instant(promql.NODE_GPUS, now_s), "node")
    offerings = connection.instant(promql.pooled(promql.OFFERING_PRICE), now_s)
    for replica in there:
        if replica.node in nodes:
            share = nodes[replica.node] / max(gpus.get(replica.node, 1.0), 1.0)
            by_pool[replica.pool].append((share, "OpenCost"))
            continue
        offered = [
            each.value
            for each in offerings
            if each.labels.get("instance_type") == replica.instance_type
            and pool_of(each.labels.get(POOL, "")) is replica.pool
        ]
        if offered and replica.instance_type:
            neighbours = sum(1 for each in there if each.node and each.node == replica.node)
            by_pool[replica.pool].append((fmean(offered) / max(neighbours, 1), "Karpenter"))
    return [
        Price(pool, fmean(usd for usd, _ in known), " and ".join(sorted({who for _, who in known})))
        for pool, known in sorted(by_pool.items())
    ]


def _by_label(samples: Iterable[Sample], label: str) -> dict[str, float]:
    return {each.labels[label]: each.value for each in samples if each.labels.get(label)}


def edits(connection: Connection, window: Window) -> Sequence[Edit]:
    """A replica that starts again begins at 0, which is no edit."""
    reading = Reading(connection, window, ALL)
    name = promql.GENERATION_RECORDED if reading.recorded else promql.GENERATION
    lines = reading.lines(f"max({name})", (), reading.grid(promql.MAX_POINTS))
    found = []
    highest: float | None = None
    for time_s, value in sorted(lines[()].values.items()) if lines else ():
        if highest is not None and value > highest > 0.0:
            found.append(Edit(time_s, int(value)))
        highest = value if highest is None else max(highest, value)
    return found
