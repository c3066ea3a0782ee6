"""Reads of batches and of the device."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from dashboard.ports import BatchShape, NoData, Series, ServiceModelFit, Utilisation
from dashboard.sources import promql
from dashboard.sources.connection import Line, need
from dashboard.sources.latency import heatmap
from dashboard.sources.promql import Grid
from dashboard.sources.reading import Key, Reading, ratios, series

_MODEL = ("model",)
NO_BATCH = "No batch ran in this time range; send requests, or choose another range."


def batches(reading: Reading) -> BatchShape:
    grid = reading.grid()
    counts = reading.moving_rates(promql.count(promql.BATCH_ROWS), _MODEL, grid)
    need(list(counts), NO_BATCH)
    rows = reading.moving_rates(promql.total(promql.BATCH_ROWS), _MODEL, grid)
    tokens = reading.moving_rates(promql.total(promql.BATCH_TOKENS), _MODEL, grid)
    padding = reading.moving_rates(promql.PADDING, _MODEL, grid)
    busy = reading.moving_rates(promql.BUSY, _MODEL, grid)
    reasons = reading.moving_rates(promql.BATCHES, ("reason",), grid)
    error = promql.gauge(promql.MODEL_ERROR, "max", _MODEL, reading.where, _MODEL)
    try:
        rows_map = heatmap(reading, promql.BATCH_ROWS, "rows")
        tokens_map = heatmap(reading, promql.BATCH_TOKENS, "tokens")
    except NoData:
        raise NoData(NO_BATCH) from None
    return BatchShape(
        rows=rows_map,
        tokens=tokens_map,
        mean_rows=ratios(rows, counts, grid),
        mean_tokens=ratios(tokens, counts, grid),
        reasons=series(reasons, grid),
        padding_share=ratios(padding, _sums(padding, tokens), grid),
        mean_service_s=ratios(busy, counts, grid),
        model_error=series(reading.lines(error, _MODEL, grid), grid),
        fits=tuple(service_models(reading)),
    )


def _sums(one: Mapping[Key, Line], other: Mapping[Key, Line]) -> dict[Key, Line]:
    """Where both are known."""
    return {
        key: Line(
            line.labels,
            {
                time_s: value + other[key].values[time_s]
                for time_s, value in line.values.items()
                if time_s in other[key].values
            },
        )
        for key, line in one.items()
        if key in other
    }


def utilisation(reading: Reading) -> Utilisation:
    grid = reading.grid()
    devices = reading.lines(_devices(reading), (), grid)
    need(list(devices), NO_BATCH)
    busy, useful = _busy_and_useful(reading, grid, devices[()])
    measured_by, query = _measured(reading)
    over_time = [busy, useful]
    measured = None
    if query:
        measured = reading.mean(query, ()).get(())
        line = reading.lines(query, (), grid).get((), Line({}, {}))
        over_time.append(Series(measured_by, grid.times_s, line.on(grid.times_s)))
    whole = _whole(reading)
    return Utilisation(whole[0], whole[1], measured, measured_by, tuple(over_time))


def _devices(reading: Reading) -> str:
    """How many devices there are: an engine has one."""
    if reading.recorded:
        return promql.gauge(promql.DEVICES_RECORDED, "sum", (), reading.where)
    return promql.gauge(promql.ENGINES, "count", (), reading.where)


def _busy_and_useful(reading: Reading, grid: Grid, devices: Line) -> tuple[Series, Series]:
    seconds = reading.moving_rates(promql.BUSY, _MODEL, grid)
    tokens = reading.moving_rates(promql.TOKENS, _MODEL, grid)
    padding = reading.moving_rates(promql.PADDING, _MODEL, grid)
    busy: dict[float, float] = defaultdict(float)
    useful: dict[float, float] = defaultdict(float)
    for key, line in seconds.items():
        for time_s, value in line.values.items():
            count = devices.values.get(time_s, 0.0)
            if count:
                real = _at(tokens, key, time_s)
                busy[time_s] += value / count
                useful[time_s] += value / count * _share(real, _at(padding, key, time_s))
    times_s = grid.times_s
    return (
        Series("busy", times_s, Line({}, busy).on(times_s)),
        Series("useful", times_s, Line({}, useful).on(times_s)),
    )


def _whole(reading: Reading) -> tuple[float | None, float | None]:
    """Busy and useful over the whole window, by the devices that were there, as long as they were.

    Not by those at its end: a replica that left meanwhile did its work on a device of its own.
    """
    devices = reading.mean_count(_devices(reading), ()).get(())
    if not devices:
        return None, None
    seconds = reading.rates(promql.BUSY, _MODEL)
    tokens = reading.rates(promql.TOKENS, _MODEL)
    padding = reading.rates(promql.PADDING, _MODEL)
    busy = sum(seconds.values()) / devices
    useful = sum(
        value / devices * _share(tokens.get(key, 0.0), padding.get(key, 0.0))
        for key, value in seconds.items()
    )
    return busy, useful


def _at(lines: Mapping[Key, Line], key: Key, time_s: float) -> float:
    return lines[key].values.get(time_s, 0.0) if key in lines else 0.0


def _share(real: float, padding: float) -> float:
    return real / (real + padding) if real + padding > 0.0 else 0.0


def _measured(reading: Reading) -> tuple[str, str]:
    """Who measures the devices, and the query; both empty where nobody does."""
    nvml = promql.gauge(promql.NVML_UTILISATION, "avg", (), reading.where)
    if reading.mean(nvml, ()):
        return "NVML", nvml
    # DCGM tells of all pods of the cluster: only those that serve count.
    engines = reading.connection.instant(
        promql.gauge(promql.ENGINES, "group", ("pod",), reading.where), reading.window.end_s
    )
    pods = sorted({each.labels.get("pod", "") for each in engines} - {""})
    if not pods:
        return "", ""
    either = (
        f"{promql.DCGM_UTILISATION}{{{promql.one_of(label, pods)}}}"
        for label in ("pod", "exported_pod")
    )
    dcgm = f"avg({' or '.join(either)}) / 100"
    return ("DCGM", dcgm) if reading.mean(dcgm, ()) else ("", "")


def service_models(reading: Reading) -> Sequence[ServiceModelFit]:
    by = (*promql.ENGINE, "model", "packing")
    where = reading.where

    def of(name: str, labels: Sequence[str]) -> dict[Key, float]:
        return reading.now(promql.gauge(name, "max", labels, where, _MODEL), labels)

    learned = of(promql.MODEL_BATCHES, by)
    errors = of(promql.MODEL_ERROR, by)
    weights = of(promql.COEFFICIENT, (*by, "feature"))
    best: dict[Key, Key] = {}
    for key, number in sorted(learned.items()):
        kept = best.setdefault(key[-2:], key)
        if number > learned[kept]:
            best[key[-2:]] = key
    return [
        ServiceModelFit(
            model=key[-2],
            packing=key[-1],
            coefficients={
                own[-1]: value for own, value in sorted(weights.items()) if own[:-1] == key
            },
            error_ratio=errors.get(key, 0.0),
            batches=learned[key],
        )
        for key in sorted(best.values(), key=lambda key: (key[-2], -learned[key]))
    ]
