"""The Tuning page in data: who follows an edit, who else edited, and what a preview says."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dashboard.changes import changed
from dashboard.ports import (
    ArrivalStats,
    BatchShape,
    Forecast,
    HistoryEntry,
    Pool,
    PreviewQuestion,
    Price,
    Replica,
    ServiceModelFit,
    TierForecast,
    TierNow,
    Utilisation,
)
from dashboard.views.draft import Edits, Place, told, value_at
from dashboard.views.history import parsed
from dashboard.views.knobs import shown
from dashboard.views.units import listed, milliseconds, plural
from predictor.core.parameters import Parameters, Policy


@dataclass(frozen=True, slots=True)
class TakeHold:
    """How far a generation has come. `done`: nothing more to wait for."""

    text: str
    done: bool


def take_hold(replicas: Sequence[Replica], generation: int, applied_s: float | None) -> TakeHold:
    """Of all replicas that are known, answering or not.

    `applied_s`: when it was applied, so that a refusal after it counts; None: long ago.
    """
    alive = [each for each in replicas if each.up]
    away = [each for each in replicas if not each.up]
    behind = [each for each in alive if each.generation is None or each.generation < generation]
    ahead = [each for each in alive if each.generation is not None and each.generation > generation]
    holding = len(alive) - len(behind) - len(ahead)
    said = [
        f"Generation {generation} is in force on {holding} of {plural(len(replicas), 'replica')}."
    ]
    refusing = [
        each.instance
        for each in behind
        if applied_s is not None
        and each.refused_at_s is not None
        and each.refused_at_s >= applied_s
    ]
    if refusing:
        said.append(f"Refused by {listed(refusing)}: see the log there, then roll back or mend it.")
    elif behind:
        said.append(f"Waiting for {listed([each.instance for each in behind])}.")
    if ahead:
        numbers = listed(sorted({str(each.generation) for each in ahead}))
        said.append(f"{listed([each.instance for each in ahead])} on generation {numbers}.")
    for those, what in (
        ([each for each in away if each.silent], "silent: whether it has it is not known"),
        ([each for each in away if not each.silent], "gone: it takes it when it starts"),
    ):
        if those:
            said.append(f"{listed([each.instance for each in those])} {what}.")
    return TakeHold(" ".join(said), done=0 < holding == len(replicas))


def replica_table(replicas: Sequence[Replica]) -> list[dict[str, str | int | None]]:
    return [
        {
            "replica": each.instance,
            "pool": each.pool.value,
            "answers": "yes" if each.up else "silent" if each.silent else "gone",
            "generation": each.generation,
        }
        for each in replicas
    ]


def value_per_replica(
    place: Place, replicas: Sequence[Replica], known: Mapping[int, Parameters]
) -> str:
    """ "64 on 2 replicas", or each value with how many have it while an edit takes hold.

    Empty where no replica answers.

    `known`: documents by generation, as the store and its history have them.
    """
    values: dict[str, int] = {}
    for replica in replicas:
        if not replica.up:
            continue
        parameters = known.get(replica.generation) if replica.generation is not None else None
        if parameters is None or (place.section == "tiers" and place.name not in parameters.tiers):
            value = "unknown"
        else:
            value = shown(value_at(parameters, place)) or "none"
        values[value] = values.get(value, 0) + 1
    return ", ".join(f"{value} on {plural(number, 'replica')}" for value, number in values.items())


# Which knobs a policy never looks at.
_WITHOUT_EFFECT = {
    Policy.ADAPTIVE: {"max_wait_ms"},
    Policy.CONSTANT: {"max_slice_ms"},
}


def without_effect(place: Place, parameters: Parameters, models: Sequence[str]) -> str:
    """Why a knob does nothing as things are; empty where it does something.

    `parameters`: with the edits in them. `models`: those served, which share the tiers.
    """
    named = [place.name] if place.section == "models" else models
    policies = {parameters.for_model(name).policy for name in named}
    if policies and all(place.field in _WITHOUT_EFFECT[policy] for policy in policies):
        return f"No effect under the {' and the '.join(sorted(policies))} policy."
    return ""


@dataclass(frozen=True, slots=True)
class Clash:
    """Someone applied another document while an edit was in progress."""

    text: str
    theirs: Sequence[str]  # what they changed
    both: Sequence[str]  # fields that both changed


def clash(base: Parameters, now: Parameters, edits: Edits, whose: str) -> Clash:
    """`whose`: who applied it and why; empty where it was edited by hand."""
    theirs = changed(base, now)
    fields = {change.field for change in theirs}
    by = f"applied by {whose}" if whose else "made by hand"
    return Clash(
        text=(
            f"Generation {now.generation} was {by} while you edited generation "
            f"{base.generation}. Nothing of yours was written."
        ),
        theirs=[told(change) for change in theirs],
        both=[str(place) for place in edits if str(place) in fields],
    )


def blended_price(prices: Mapping[Pool, Price], replicas: Sequence[Replica]) -> float | None:
    """USD an hour of the mean replica that is up; None where one has no price."""
    alive = [each.pool for each in replicas if each.up]
    if not alive or any(pool not in prices for pool in alive):
        return None
    return sum(prices[pool].usd_per_hour for pool in alive) / len(alive)


def question_of(
    parameters: Parameters,
    arrivals: Sequence[ArrivalStats],
    fits: Sequence[ServiceModelFit],
    replicas: Sequence[Replica],
    prices: Mapping[Pool, Price],
) -> PreviewQuestion:
    return PreviewQuestion(
        parameters=parameters,
        arrivals=tuple(arrivals),
        service_models=tuple(fits),
        replicas=max(1, sum(each.up for each in replicas)),
        usd_per_replica_hour=blended_price(prices, replicas),
    )


@dataclass(frozen=True, slots=True)
class Whole:
    """What is measured of all tiers together, to stand beside a forecast."""

    busy: float | None
    useful: float | None
    usd_per_1000: float | None
    mean_batch_rows: float | None


def forecast_table(
    measured: Sequence[TierNow], forecast: Forecast
) -> list[dict[str, str | float | None]]:
    """Tier by tier: what is and what would be. Milliseconds, requests a second, USD."""
    now = {(each.model, each.tier): each for each in measured}
    return [_beside(now.get((each.model, each.tier)), each) for each in forecast.tiers]


def _beside(now: TierNow | None, then: TierForecast) -> dict[str, str | float | None]:
    return {
        "tier": f"{then.model}/{then.tier}",
        "p50 ms now": milliseconds(now.p50_s) if now else None,
        "p50 ms predicted": milliseconds(then.p50_s),
        "p99 ms now": milliseconds(now.p99_s) if now else None,
        "p99 ms predicted": milliseconds(then.p99_s),
        "goodput /s now": now.good_per_s if now else None,
        "goodput /s predicted": then.good_per_s,
        "refused /s now": now.refused_per_s if now else None,
        "refused /s predicted": then.refused_per_s,
        "USD per 1,000 predicted": then.usd_per_1000,
    }


def known_parameters(
    current: Parameters,
    replicas: Sequence[Replica],
    history: Callable[[], Sequence[HistoryEntry]],
) -> Mapping[int, Parameters]:
    """What the replicas have in force, by generation. One that the history lost is left out.

    `history` is asked only where a replica has another generation: it may be long.
    """
    known = {current.generation: current}
    wanted = {each.generation for each in replicas if each.generation is not None} - known.keys()
    if not wanted:
        return known
    for entry in history():
        if entry.generation not in wanted and entry.generation - 1 not in wanted:
            continue
        for document in (entry.after, entry.before):
            parameters = parsed(document)
            if parameters is not None:
                known.setdefault(parameters.generation, parameters)
    return known


def whole_of(
    used: Utilisation | None, batches: BatchShape | None, usd_per_1000: float | None
) -> Whole:
    means = [] if batches is None else [v for line in batches.mean_rows for v in line.values]
    finite = [value for value in means if math.isfinite(value)]
    return Whole(
        busy=used.busy if used else None,
        useful=used.useful if used else None,
        usd_per_1000=usd_per_1000,
        mean_batch_rows=sum(finite) / len(finite) if finite else None,
    )
