"""The Tuning page in data: who follows an edit, and who else edited."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dashboard.changes import changed
from dashboard.ports import HistoryEntry, Replica
from dashboard.views.draft import Edits, Place, told, value_at
from dashboard.views.history import parsed
from dashboard.views.knobs import shown
from dashboard.views.units import listed, plural
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
