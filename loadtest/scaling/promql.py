"""As much of PromQL as triggers use, over samples in memory: what is simulated is what is applied.

A query is parsed by promql_parser and evaluated at one instant, by the rules of Prometheus: a
gauge's last sample counts until its target is gone, what goes over a window has the samples of
targets that left within it too, a subquery is asked at the multiples of its step, and a rate is
extended to the ends of its window. Tests hold the answers against a real Prometheus.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from statistics import fmean

import promql_parser as ast

LOOKBACK_S = 300.0
NAME = "__name__"
Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Window = Sequence[tuple[float, float]]  # times and values
NOTHING: Labels = frozenset()


@dataclass(slots=True)
class Series:
    """One series: times and values, oldest first. NaN says that its target was gone by then."""

    labels: Mapping[str, str]
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time_s: float, value: float) -> None:
        """One more sample; what is too old to be asked for goes."""
        self.times.append(time_s)
        self.values.append(value)
        if self.times[0] <= time_s - LOOKBACK_S:
            del self.times[0], self.values[0]

    def at(self, time_s: float) -> float | None:
        """The last sample, if the target was still there."""
        last = bisect_right(self.times, time_s) - 1
        if last < 0 or self.times[last] <= time_s - LOOKBACK_S or math.isnan(self.values[last]):
            return None
        return self.values[last]

    def within(self, after_s: float, until_s: float) -> Window:
        first, end = bisect_right(self.times, after_s), bisect_right(self.times, until_s)
        pairs = zip(self.times[first:end], self.values[first:end], strict=True)
        return [pair for pair in pairs if not math.isnan(pair[1])]


class QueryError(ValueError):
    """One sentence."""


def answer(query: str, series: Sequence[Series], now_s: float) -> Vector:
    """The elements of the answer, as an instant query at `now_s` would give them."""
    found = _value(_parsed(query), series, now_s)
    return {NOTHING: found} if isinstance(found, float) else found


@cache
def _parsed(query: str) -> ast.Expr:
    try:
        parsed: ast.Expr = ast.parse(query)
    except ValueError as error:
        raise QueryError(f"{query!r} is no PromQL: {error}") from None
    return parsed


def _value(node: ast.Expr, series: Sequence[Series], now_s: float) -> Vector | float:
    match node:
        case ast.NumberLiteral():
            return node.val
        case ast.ParenExpr():
            return _value(node.expr, series, now_s)
        case ast.VectorSelector():
            last = {_without_name(each): each.at(now_s) for each in _selected(node, series)}
            return {labels: value for labels, value in last.items() if value is not None}
        case ast.AggregateExpr():
            return _aggregate(node, _vector(node.expr, series, now_s))
        case ast.BinaryExpr():
            return _binary(node, series, now_s)
        case ast.Call():
            return _call(node, series, now_s)
        case _:
            raise QueryError(f"{type(node).__name__} is not simulated")


def _vector(node: ast.Expr, series: Sequence[Series], now_s: float) -> Vector:
    found = _value(node, series, now_s)
    if isinstance(found, float):
        raise QueryError(f"{node.prettify()} is a number where a vector belongs")
    return found


def _number(node: ast.Expr, series: Sequence[Series], now_s: float) -> float:
    found = _value(node, series, now_s)
    if not isinstance(found, float):
        raise QueryError(f"{node.prettify()} is a vector where a number belongs")
    return found


def _selected(node: ast.VectorSelector, series: Iterable[Series]) -> list[Series]:
    _refuse_other_times(node)
    return [
        each
        for each in series
        if each.labels[NAME] == node.name
        and all(_matches(one, each.labels.get(one.name, "")) for one in node.matchers.matchers)
    ]


def _refuse_other_times(node: ast.VectorSelector | ast.SubqueryExpr) -> None:
    if node.offset is not None or node.at is not None:
        raise QueryError(f"{node.prettify()}: offset and @ are not simulated")


def _matches(matcher: ast.Matcher, value: str) -> bool:
    match matcher.op:
        case ast.MatchOp.Equal:
            return value == matcher.value
        case ast.MatchOp.NotEqual:
            return value != matcher.value
        case ast.MatchOp.Re:
            return re.fullmatch(matcher.value, value) is not None
        case _:
            return re.fullmatch(matcher.value, value) is None


def _without_name(series: Series) -> Labels:
    return frozenset(pair for pair in series.labels.items() if pair[0] != NAME)


_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "sum": sum,
    "avg": fmean,
    "max": max,
    "min": min,
    "count": lambda values: float(len(values)),
}


def _aggregate(node: ast.AggregateExpr, vector: Vector) -> Vector:
    if str(node.op) not in _AGGREGATES:
        raise QueryError(f"{node.op} is not simulated")
    groups: dict[Labels, list[float]] = {}
    for labels, value in vector.items():
        groups.setdefault(_group(node.modifier, labels), []).append(value)
    return {group: float(_AGGREGATES[str(node.op)](each)) for group, each in groups.items()}


def _group(modifier: ast.AggModifier | None, labels: Labels) -> Labels:
    if modifier is None:
        return NOTHING
    by = modifier.type == ast.AggModifierType.By
    return frozenset(pair for pair in labels if (pair[0] in modifier.labels) is by)


_OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else float("nan"),
}


def _binary(node: ast.BinaryExpr, series: Sequence[Series], now_s: float) -> Vector | float:
    left, right = _value(node.lhs, series, now_s), _value(node.rhs, series, now_s)
    operator = str(node.op)
    if operator == "or" and not isinstance(left, float) and not isinstance(right, float):
        return right | left
    if operator not in _OPERATORS or (node.modifier is not None and node.modifier.matching):
        raise QueryError(f"{operator} with what stands beside it is not simulated")
    of = _OPERATORS[operator]
    if isinstance(left, float):
        if isinstance(right, float):
            return of(left, right)
        return {labels: of(left, value) for labels, value in right.items()}
    if isinstance(right, float):
        return {labels: of(value, right) for labels, value in left.items()}
    return {labels: of(left[labels], right[labels]) for labels in left.keys() & right.keys()}


def _call(node: ast.Call, series: Sequence[Series], now_s: float) -> Vector:
    name, first = node.func.name, node.args[0]
    if name == "vector":
        return {NOTHING: _number(first, series, now_s)}
    if name in ("clamp", "clamp_min", "clamp_max"):
        edges = [_number(each, series, now_s) for each in node.args[1:]]
        low = -math.inf if name == "clamp_max" else edges[0]
        high = math.inf if name == "clamp_min" else edges[-1]
        vector = _vector(first, series, now_s)
        return {labels: max(low, min(high, value)) for labels, value in vector.items()}
    if name not in _OVER_TIME:
        raise QueryError(f"{name} is not simulated")
    begins_s, windows = _windows(first, series, now_s)
    found = {
        labels: _OVER_TIME[name](window, begins_s, now_s)
        for labels, window in windows.items()
        if window
    }
    return {labels: value for labels, value in found.items() if value is not None}


def _windows(
    node: ast.Expr, series: Sequence[Series], now_s: float
) -> tuple[float, dict[Labels, Window]]:
    """Since when, and what was there since: samples, or what a subquery gives at its steps."""
    if isinstance(node, ast.MatrixSelector):
        begins_s = now_s - node.range.total_seconds()
        selected = _selected(node.vector_selector, series)
        return begins_s, {_without_name(each): each.within(begins_s, now_s) for each in selected}
    if not isinstance(node, ast.SubqueryExpr) or node.step is None or node.range is None:
        raise QueryError(f"a window of {type(node).__name__} is not simulated")
    _refuse_other_times(node)
    begins_s, step_s = now_s - node.range.total_seconds(), node.step.total_seconds()
    windows: dict[Labels, list[tuple[float, float]]] = {}
    at_s = (math.floor(begins_s / step_s) + 1) * step_s
    while at_s <= now_s:
        for labels, value in _vector(node.expr, series, at_s).items():
            windows.setdefault(labels, []).append((at_s, value))
        at_s += step_s
    return begins_s, dict(windows)


def _rate(window: Window, begins_s: float, ends_s: float) -> float | None:
    """https://prometheus.io/docs/prometheus/latest/querying/functions/#rate"""
    if len(window) < 2:
        return None
    (first_s, first), (last_s, _) = window[0], window[-1]
    rise = sum(b - a if b >= a else b for (_, a), (_, b) in pairwise(window))
    sampled_s = last_s - first_s
    every_s = sampled_s / (len(window) - 1)
    before_s, after_s = first_s - begins_s, ends_s - last_s
    if rise > 0:  # a counter was never below zero
        before_s = min(before_s, sampled_s * first / rise)
    before_s = before_s if before_s < 1.1 * every_s else every_s / 2
    after_s = after_s if after_s < 1.1 * every_s else every_s / 2
    return rise * (sampled_s + before_s + after_s) / sampled_s / (ends_s - begins_s)


_OVER_TIME: Mapping[str, Callable[[Window, float, float], float | None]] = {
    "avg_over_time": lambda window, *_: fmean(value for _, value in window),
    "max_over_time": lambda window, *_: max(value for _, value in window),
    "min_over_time": lambda window, *_: min(value for _, value in window),
    "rate": _rate,
}
