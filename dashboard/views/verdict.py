"""The verdict: what is wrong, worst first, by one table of causes; nothing wrong is all well.

A cause has a measure: the share of all requests that were asked for, of the replicas, or a count.
`TABLE` says from which measure on it is a warning, and from which on an outage. Measures are of the
whole time range, so that what is over is still told, with when it ended.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import IntEnum, StrEnum

from dashboard.ports import (
    UNREAD_TIER,
    Replica,
    Scrapes,
    Series,
    TierNow,
    Traffic,
    Window,
)
from dashboard.views.overview import Fleet, ended, promises, sentence_of, tier_name
from dashboard.views.times import elapsed, moment
from dashboard.views.units import duration, known, listed, plural, rate, share

NEVER = math.inf
IDLE_BELOW = 0.8  # of the devices' time: who refuses below it does not do so for want of a device
MOSTLY = 0.5


class Severity(IntEnum):
    NOTE = 1  # neither good nor bad
    WARNING = 2
    OUTAGE = 3


class Cause(StrEnum):
    """In the order in which those that are equally bad are told."""

    SOURCE_DOWN = "source down"
    STALE = "stale data"
    NO_REPLICA = "no replica"
    SILENT = "replica silent"
    GONE = "replica gone"
    FAILED = "failed"
    LATE = "late"
    EDGES_FULL = "edges saturated"
    REFUSED = "refused"
    GIVEN_UP = "given up"
    SLO_UNKNOWN = "SLO unknown"
    PARAMETERS = "parameters"
    BEHIND = "replica behind"
    NO_TRAFFIC = "no traffic"


class Page(StrEnum):
    """Which tells more, by the name of its file."""

    OVERVIEW = "overview"
    LATENCY = "latency"
    BATCHING = "batching"
    TUNING = "tuning"


@dataclass(frozen=True, slots=True)
class Rule:
    """From which measure on a cause is as bad as that."""

    page: Page
    note: float = NEVER
    warning: float = NEVER
    outage: float = NEVER


_ANY = 1e-9  # more than none
TABLE: Mapping[Cause, Rule] = {
    # of one source
    Cause.SOURCE_DOWN: Rule(Page.OVERVIEW, outage=1.0),
    # scrapes that should have come since the newest
    Cause.STALE: Rule(Page.OVERVIEW, warning=5.0, outage=15.0),
    # 1 where Prometheus knows none
    Cause.NO_REPLICA: Rule(Page.OVERVIEW, outage=1.0),
    # of the replicas
    Cause.SILENT: Rule(Page.TUNING, warning=_ANY, outage=0.5),
    Cause.GONE: Rule(Page.TUNING, warning=_ANY, outage=0.5),
    Cause.BEHIND: Rule(Page.TUNING, warning=_ANY),
    # of all that was asked for in a tier
    Cause.FAILED: Rule(Page.LATENCY, warning=0.001, outage=0.01),
    Cause.LATE: Rule(Page.LATENCY, warning=0.01, outage=0.10),
    Cause.REFUSED: Rule(Page.BATCHING, warning=0.001, outage=0.10),
    Cause.GIVEN_UP: Rule(Page.LATENCY, warning=0.01, outage=0.10),
    # of all that was asked for
    Cause.EDGES_FULL: Rule(Page.LATENCY, warning=0.001, outage=0.10),
    # 1 where it is so
    Cause.SLO_UNKNOWN: Rule(Page.TUNING, warning=1.0),
    Cause.PARAMETERS: Rule(Page.TUNING, warning=1.0),
    Cause.NO_TRAFFIC: Rule(Page.OVERVIEW, note=1.0),
}
_ORDER = {cause: place for place, cause in enumerate(Cause)}
# As a client meets them.
FAILURES = {
    "failed": "errors of the model (500)",
    "expired": "deadlines that passed (504)",
    "unavailable": "no service (503)",
}


def severity_of(cause: Cause, measure: float) -> Severity | None:
    """None where it is not worth a word."""
    rule = TABLE[cause]
    limits = (
        (Severity.OUTAGE, rule.outage),
        (Severity.WARNING, rule.warning),
        (Severity.NOTE, rule.note),
    )
    return next((severity for severity, limit in limits if measure >= limit), None)


@dataclass(frozen=True, slots=True)
class Spell:
    """How long it was so, within the time range. `end_s`: None where it is so now."""

    start_s: float
    end_s: float | None
    is_older: bool  # it was so when the time range began


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` without its end: `sentence` adds since when."""

    severity: Severity
    cause: Cause
    text: str
    spell: Spell | None = None

    @property
    def page(self) -> Page:
        return TABLE[self.cause].page


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known. None: not known, for want of an answer or of data."""

    window: Window
    now_s: float
    tiers: Sequence[TierNow] = ()
    traffic: Traffic | None = None
    replicas: Sequence[Replica] | None = None
    scrapes: Scrapes | None = None
    busy: float | None = None  # share of the devices' time
    source_problem: str = ""  # why Prometheus did not answer
    nothing: str = ""  # why it has no data
    parameters_problem: str = ""  # why the store did not


def findings(facts: Facts) -> Sequence[Finding]:
    """Worst first; of the same severity, in the order of causes."""
    found = [*_of_sources(facts), *_of_replicas(facts), *_of_traffic(facts), *_of_tiers(facts)]
    return sorted(found, key=lambda each: (-each.severity, _ORDER[each.cause]))


def sentence(finding: Finding, zone: tzinfo, now_s: float) -> str:
    """ "Interactive: 49% failed (27.3/s of 55.6/s), since 10:02:13."""
    spell = finding.spell
    when = ""
    if spell is not None:
        start = moment(spell.start_s, zone, now_s)
        since = f"since before {start}" if spell.is_older else f"since {start}"
        if spell.end_s is None:
            when = f", {since}"
        else:
            end = moment(spell.end_s, zone, now_s)
            when = f", until {end}" if spell.is_older else f", from {start} to {end}"
    return sentence_of(finding.text + when)


def _found(
    cause: Cause, measure: float, text: str, spell: Spell | None = None
) -> Iterator[Finding]:
    severity = severity_of(cause, measure)
    if severity is not None:
        yield Finding(severity, cause, text, spell)


def _of_sources(facts: Facts) -> Iterator[Finding]:
    if facts.source_problem:
        yield from _found(Cause.SOURCE_DOWN, 1.0, facts.source_problem)
    elif facts.nothing:
        yield from _found(Cause.NO_REPLICA, 1.0, facts.nothing)
    if facts.parameters_problem:
        yield from _found(
            Cause.PARAMETERS,
            1.0,
            f"{ended(facts.parameters_problem)} Replicas go on with what they have",
        )
    scrapes = facts.scrapes
    if scrapes is not None and facts.window.moves and not facts.source_problem:
        age_s = facts.now_s - scrapes.newest_s
        text = (
            f"Prometheus answers, but has stopped scraping: its newest measurement is"
            f" {elapsed(age_s)} old, and so is what is shown"
        )
        spell = Spell(scrapes.newest_s, None, is_older=False)
        yield from _found(Cause.STALE, age_s / scrapes.every_s, text, spell)


def _of_replicas(facts: Facts) -> Iterator[Finding]:
    replicas = facts.replicas
    if not replicas or not facts.window.moves:
        return
    silent = [each for each in replicas if not each.up and each.silent]
    gone = [each for each in replicas if not each.up and not each.silent]
    for cause, those, what in (
        (Cause.SILENT, silent, "silent: it hangs, or cannot be reached"),
        (Cause.GONE, gone, "gone: nothing listens there"),
    ):
        if those:
            names = listed([each.instance for each in those])
            text = f"{len(those)} of {plural(len(replicas), 'replica')} {what} ({names})"
            # All are away, whichever way each of them is.
            away = len(those) + (len(gone) if cause is Cause.SILENT else len(silent))
            measure = 1.0 if away == len(replicas) else len(those) / len(replicas)
            yield from _found(cause, measure, text, _since_answer(those))
    fleet = Fleet.of(replicas)
    behind = fleet.up - fleet.holding
    if fleet.generation is not None:
        text = (
            f"{behind} of {plural(fleet.up, 'replica')} not on generation {fleet.generation},"
            " the newest in force"
        )
        yield from _found(Cause.BEHIND, behind / fleet.up, text)


def _since_answer(replicas: Sequence[Replica]) -> Spell | None:
    known_s = [each.answered_at_s for each in replicas if each.answered_at_s is not None]
    return Spell(min(known_s), None, is_older=False) if known_s else None


def _of_traffic(facts: Facts) -> Iterator[Finding]:
    """Of all tiers together."""
    offered = sum(tier.offered_per_s for tier in facts.tiers)
    if facts.tiers and offered <= 0.0:
        text = (
            "No traffic: nothing was asked for in this time range, so no SLO was kept and none"
            " missed"
        )
        yield from _found(Cause.NO_TRAFFIC, 1.0, text)
    if offered > 0.0 and _edges_refuse(facts):
        unread = sum(tier.unread_per_s for tier in facts.tiers)
        text = (
            f"The edges are saturated: {share(unread / offered)} refused unread"
            f" ({rate(unread)} of {rate(offered)}), while the devices are {share(facts.busy)} busy"
        )
        spell = _spell(facts, "refused", [tier for tier in facts.tiers if tier.unread_per_s > 0])
        yield from _found(Cause.EDGES_FULL, unread / offered, text, spell)


def _edges_refuse(facts: Facts) -> bool:
    return facts.busy is not None and known(facts.busy) and facts.busy < IDLE_BELOW


def _of_tiers(facts: Facts) -> Iterator[Finding]:
    for tier in facts.tiers:
        if tier.offered_per_s > 0.0:
            yield from _of_tier(facts, tier)


def _of_tier(facts: Facts, tier: TierNow) -> Iterator[Finding]:
    name = tier_name(tier, facts.tiers)
    is_read = tier.tier != UNREAD_TIER
    # What has no tier may be of any: it is a part of all.
    asked = sum(each.offered_per_s for each in facts.tiers if not is_read or each is tier)

    def part(cause: Cause, per_s: float, what: str, series: str) -> Iterator[Finding]:
        text = f"{name}: {share(per_s / asked)}{'' if is_read else ' of all'} {what}"
        yield from _found(cause, per_s / asked, text, _spell(facts, series, [tier]))

    kinds = ", ".join(FAILURES.get(each, each) for each in _largest_first(tier.failures))
    failed = f"failed ({rate(tier.failed_per_s)} of {rate(asked)}{': ' if kinds else ''}{kinds})"
    yield from part(Cause.FAILED, tier.failed_per_s, failed, "failed")
    yield from _late(facts, tier, name)
    by_edges = _edges_refuse(facts) and tier.unread_per_s > MOSTLY * tier.refused_per_s
    if not by_edges:
        refused = f"refused ({rate(tier.refused_per_s)} of {rate(asked)})"
        yield from part(Cause.REFUSED, tier.refused_per_s, refused, "refused")
    given_up = f"given up by clients before the answer ({rate(tier.given_up_per_s)})"
    yield from part(Cause.GIVEN_UP, tier.given_up_per_s, given_up, "given_up")
    if tier.slo is None:
        text = f"{name}: no replica says what SLO is in force, so whether it is kept is not known"
        yield from _found(Cause.SLO_UNKNOWN, 1.0, text)


def _late(facts: Facts, tier: TierNow, name: str) -> Iterator[Finding]:
    late = tier.late_per_s / tier.offered_per_s
    over = [
        f"{what} p99 is {duration(p99_s)} of {duration(limit_s)}"
        for what, p99_s, limit_s in promises(tier, name)
        if p99_s is not None and p99_s > limit_s
    ]
    # Of what was answered, one in a hundred may be late; what was refused is told by itself.
    measure = max(late, TABLE[Cause.LATE].warning) if over else late
    text = f"{'; '.join(over) or name}{',' if over else ':'} {share(late)} answered late"
    yield from _found(Cause.LATE, measure, text, _spell(facts, "late", [tier]))


def _largest_first(failures: Mapping[str, float]) -> Sequence[str]:
    return sorted(failures, key=lambda outcome: -failures[outcome])


_CAUSE_OF = {
    "failed": Cause.FAILED,
    "late": Cause.LATE,
    "refused": Cause.REFUSED,
    "given_up": Cause.GIVEN_UP,
}


def _spell(facts: Facts, what: str, tiers: Sequence[TierNow]) -> Spell | None:
    """When the share of `what` was worth a word last, by the lines over time."""
    if facts.traffic is None:
        return None
    names = {f"{tier.model}/{tier.tier}" for tier in tiers}
    parts = [each for each in getattr(facts.traffic, what) if each.name in names]
    asked = [each for each in facts.traffic.offered if each.name in names]
    return last_spell(parts, asked, TABLE[_CAUSE_OF[what]].warning)


def last_spell(parts: Sequence[Series], asked: Sequence[Series], limit: float) -> Spell | None:
    """The last unbroken time in which the share was at least `limit`; None where it never was.

    An instant without requests says nothing, and breaks nothing.
    """
    over: list[tuple[float, bool]] = []
    wholes = _sums(asked)
    for time_s, part in _sums(parts).items():
        whole = wholes.get(time_s, 0.0)
        if whole > 0.0:
            over.append((time_s, part >= limit * whole))
    if not any(is_so for _, is_so in over):
        return None
    last = max(place for place, (_, is_so) in enumerate(over) if is_so)
    first = last
    while first > 0 and over[first - 1][1]:
        first -= 1
    return Spell(
        over[first][0],
        None if last == len(over) - 1 else over[last][0],
        is_older=first == 0 and _begins_there(over[0][0], asked),
    )


def _begins_there(time_s: float, asked: Sequence[Series]) -> bool:
    """Whether that is the first instant asked for, not only the first with requests."""
    return any(each.times_s and each.times_s[0] == time_s for each in asked)


def _sums(lines: Sequence[Series]) -> Mapping[float, float]:
    sums: dict[float, float] = {}
    for line in lines:
        for time_s, value in zip(line.times_s, line.values, strict=True):
            if math.isfinite(value):
                sums[time_s] = sums.get(time_s, 0.0) + value
    return dict(sorted(sums.items()))


def well(facts: Facts, saving: float | None) -> str:
    """What there is to say where nothing is wrong: how SLOs are kept, and by whom.

    `saving`: of a request on spot, as a ratio; None where it is not known.
    """
    said = [
        f"{what} p99 is {duration(p99_s)} of {duration(limit_s)}"
        for tier in facts.tiers
        for what, p99_s, limit_s in promises(tier, tier_name(tier, facts.tiers))
        if p99_s is not None and math.isfinite(limit_s)
    ]
    if saving is not None:
        word = "cheaper" if saving >= 0 else "dearer"
        said.append(f"the spot pool is {share(abs(saving))} {word} per request")
    fleet = Fleet.of(facts.replicas or ())
    if fleet.generation is not None:
        said.append(
            f"{fleet.holding} of {plural(fleet.up, 'replica')} on generation {fleet.generation}"
        )
    if not said:
        said.append(f"{plural(len(facts.tiers), 'tier')} without an SLO, and nothing failed")
    return sentence_of("; ".join(said))
