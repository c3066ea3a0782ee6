"""The Tuning page in data: who follows an edit, and who else edited."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dashboard.changes import changed
from dashboard.ports import HistoryEntry, Replica
from dashboard.views.draft import Edits, Place, told, value_at
from dashboard.views.knobs import shown
from dashboard.views.units import listed, plural
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import Parameters, parse_document


@dataclass(frozen=True, slots=True)
class TakeHold:
    """How far a generation has come. `done`: nothing more to wait for."""

    text: str
    done: bool


def take_hold(replicas: Sequence[Replica], generation: int, applied_s: float | None) -> TakeHold:
    """`applied_s`: when it was applied, so that a refusal after it counts; None: long ago."""
    alive = [each for each in replicas if each.up]
    if not alive:
        return TakeHold("No replica answers, so nothing tells whether the edit is in force.", False)
    behind = [each for each in alive if each.generation is None or each.generation < generation]
    text = (
        f"Generation {generation} is in force on {len(alive) - len(behind)} of "
        f"{plural(len(alive), 'replica')}."
    )
    refusing = [
        each.instance
        for each in behind
        if applied_s is not None
        and each.refused_at_s is not None
        and each.refused_at_s >= applied_s
    ]
    if refusing:
        text += f" Refused by {listed(refusing)}: see the log there, then roll back or mend it."
    elif behind:
        text += f" Waiting for {listed([each.instance for each in behind])}."
    return TakeHold(text, done=not behind)


def replica_table(replicas: Sequence[Replica]) -> list[dict[str, str | int | None]]:
    return [
        {
            "replica": each.instance,
            "pool": each.pool.value,
            "answers": "yes" if each.up else "no",
            "generation": each.generation,
        }
        for each in replicas
    ]


def value_per_replica(
    place: Place, replicas: Sequence[Replica], known: Mapping[int, Parameters]
) -> str:
    """ "64 on 2 replicas", or each value with how many have it while an edit takes hold.

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
    return (
        ", ".join(f"{value} on {plural(number, 'replica')}" for value, number in values.items())
        or "no replica answers"
    )


@dataclass(frozen=True, slots=True)
class Clash:
    """Someone applied another document while an edit was in progress."""

    text: str
    theirs: Sequence[str]  # what they changed
    both: Sequence[str]  # fields that both changed


def clash(base: Parameters, now: Parameters, edits: Edits) -> Clash:
    theirs = changed(base, now)
    fields = {change.field for change in theirs}
    return Clash(
        text=(
            f"Generation {now.generation} was applied while you edited generation "
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
            try:
                parameters = parse_document(document.encode())
            except ParametersRefused:
                continue
            known.setdefault(parameters.generation, parameters)
    return known


def generation_of(document: str) -> int | None:
    """None where the document cannot be read: the history goes back no further."""
    try:
        return parse_document(document.encode()).generation
    except ParametersRefused:
        return None
