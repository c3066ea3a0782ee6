"""One look tells whether all is well: a line that says it, and a table of tiers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboard.ports import Replica, TierNow, Token
from dashboard.views.costs import PoolCost, spot_saving
from dashboard.views.units import MISSING, count, duration, milliseconds, plural, rate, share
from predictor.core.parameters import Parameters

REFUSALS_SHOWN = 0.001  # of what was offered: less is rounding


@dataclass(frozen=True, slots=True)
class Verdict:
    """`well` is False where a person should look closer."""

    text: str
    well: bool


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas, as a sentence needs them."""

    up: int
    known: int
    generation: int | None  # the highest in force
    holding: int  # replicas that have it

    @staticmethod
    def of(replicas: Sequence[Replica]) -> "Fleet":
        alive = [each for each in replicas if each.up]
        generations = [each.generation for each in alive if each.generation is not None]
        newest = max(generations, default=None)
        return Fleet(len(alive), len(replicas), newest, generations.count(newest) if newest else 0)


def slo_s(parameters: Parameters | None, tier: str) -> float | None:
    """The SLO of a tier in seconds; None without one, or where the parameters are not known."""
    if parameters is None or tier not in parameters.tiers:
        return None
    slo_ms = parameters.tiers[tier].slo_ms
    return None if slo_ms is None else slo_ms / 1e3


def slos_s(parameters: Parameters | None) -> Mapping[str, float]:
    """The SLO of each tier that has one, in seconds."""
    names = () if parameters is None else parameters.tiers
    return {name: slo for name in names if (slo := slo_s(parameters, name)) is not None}


def answer_slos_s(tiers: Sequence[TierNow], parameters: Parameters | None) -> Mapping[str, float]:
    """Of whole answers: none where all of them came token by token, whose SLO is the first's."""
    answering = [tier for tier in tiers if tier.p99_s is not None]
    if answering and all(tier.tokens is not None for tier in answering):
        return {}
    return slos_s(parameters)


def itl_slo_s(parameters: Parameters | None, tier: str) -> float | None:
    """The same, of the time from one token to the next."""
    if parameters is None or tier not in parameters.tiers:
        return None
    itl_slo_ms = parameters.tiers[tier].itl_slo_ms
    return None if itl_slo_ms is None else itl_slo_ms / 1e3


def token_slos_s(parameters: Parameters | None, token: Token) -> Mapping[str, float]:
    """The deadline of each tier that has one for these tokens, in seconds."""
    if token is Token.FIRST:
        return slos_s(parameters)
    names = () if parameters is None else parameters.tiers
    return {name: slo for name in names if (slo := itl_slo_s(parameters, name)) is not None}


def verdict(
    tiers: Sequence[TierNow],
    parameters: Parameters | None,
    costs: Sequence[PoolCost],
    replicas: Sequence[Replica],
) -> Verdict:
    """Each tier with an SLO against it, what is refused, what spot saves, who follows."""
    said: list[str] = []
    well = True
    for tier in tiers:
        for what, p99_s, limit_s in _promises(tier, parameters):
            if limit_s is not None and p99_s is not None:
                said.append(f"{what} p99 is {duration(p99_s)} of {duration(limit_s)}")
                well = well and p99_s <= limit_s
        refused = tier.refused_per_s / tier.offered_per_s if tier.offered_per_s > 0 else 0.0
        if refused > REFUSALS_SHOWN:
            said.append(f"{share(refused)} of {tier.tier} is refused")
            well = False
    saving = spot_saving(costs)
    if saving is not None:
        word = "cheaper" if saving >= 0 else "dearer"
        said.append(f"the spot pool is {share(abs(saving))} {word} per request")
    fleet = Fleet.of(replicas)
    if fleet.known:
        if fleet.up < fleet.known:
            said.append(
                f"{fleet.known - fleet.up} of {plural(fleet.known, 'replica')} not answering"
            )
        if fleet.generation is not None:
            said.append(
                f"{fleet.holding} of {plural(fleet.up, 'replica')} on generation {fleet.generation}"
            )
        well = well and fleet.up == fleet.known == fleet.holding
    if not said:
        return Verdict("Nothing was measured in this time range.", well=False)
    line = "; ".join(said)
    return Verdict(f"{line[0].upper()}{line[1:]}.", well)


def limits_ms(slos_s: Mapping[str, float]) -> Mapping[str, float]:
    """As plots in milliseconds mark them: by what they are called there."""
    return {f"SLO {tier}": slo * 1e3 for tier, slo in slos_s.items()}


def _promises(
    tier: TierNow, parameters: Parameters | None
) -> Sequence[tuple[str, float | None, float | None]]:
    """What a tier promises, how it is kept, and its limit. A whole text has no deadline."""
    limit_s = slo_s(parameters, tier.tier)
    if tier.tokens is None:
        return [(tier.tier, tier.p99_s, limit_s)]
    return [
        (f"{tier.tier} {Token.FIRST.value}", tier.tokens.first_p99_s, limit_s),
        (
            f"{tier.tier} {Token.NEXT.value}",
            tier.tokens.next_p99_s,
            itl_slo_s(parameters, tier.tier),
        ),
    ]


def token_table(
    tiers: Sequence[TierNow], parameters: Parameters | None
) -> list[dict[str, str | float | None]]:
    """A row for each tier that generated; empty where none did. Milliseconds."""
    return [
        {
            "tier": name,
            "first token SLO ms": milliseconds(slo_s(parameters, tier.tier)),
            "first token p50 ms": milliseconds(tier.tokens.first_p50_s),
            "first token p99 ms": milliseconds(tier.tokens.first_p99_s),
            "next tokens SLO ms": milliseconds(itl_slo_s(parameters, tier.tier)),
            "next tokens p50 ms": milliseconds(tier.tokens.next_p50_s),
            "next tokens p99 ms": milliseconds(tier.tokens.next_p99_s),
        }
        for name, tier in zip(_names(tiers), tiers, strict=True)
        if tier.tokens is not None
    ]


def _names(tiers: Sequence[TierNow]) -> Sequence[str]:
    several = len({tier.model for tier in tiers}) > 1
    return [f"{tier.model}/{tier.tier}" if several else tier.tier for tier in tiers]


def tier_table(
    tiers: Sequence[TierNow], parameters: Parameters | None
) -> list[dict[str, str | float | None]]:
    """A row for each tier of each model; milliseconds and requests a second."""
    return [
        {
            "tier": name,
            # Where tokens come one by one, it is not for whole answers.
            "SLO ms": None if tier.tokens else milliseconds(slo_s(parameters, tier.tier)),
            "p50 ms": milliseconds(tier.p50_s),
            "p95 ms": milliseconds(tier.p95_s),
            "p99 ms": milliseconds(tier.p99_s),
            "offered /s": tier.offered_per_s,
            "goodput /s": tier.good_per_s,
            "refused /s": tier.refused_per_s,
            "failed /s": tier.failed_per_s,
            "queue, rows": tier.queue_depth,
            "backlog": duration(tier.backlog_s),
            "offered load": share(tier.offered_load),
        }
        for name, tier in zip(_names(tiers), tiers, strict=True)
    ]


def pool_counts(replicas: Sequence[Replica]) -> str:
    """ "1 spot, 1 on-demand", and how many of a pool do not answer."""
    pools = dict.fromkeys(each.pool for each in replicas)
    told = []
    for pool in pools:
        ups = [each.up for each in replicas if each.pool is pool]
        gone = "" if all(ups) else f" ({ups.count(False)} down)"
        told.append(f"{sum(ups)} {pool.value}{gone}")
    return ", ".join(told)


def totals(tiers: Sequence[TierNow]) -> Mapping[str, tuple[str, str]]:
    """Over all tiers, what a tile shows: a number and what stands below it."""
    offered = sum(tier.offered_per_s for tier in tiers)
    refused = sum(tier.refused_per_s for tier in tiers)
    return {
        "Goodput": (rate(sum(tier.good_per_s for tier in tiers)), f"of {rate(offered)}"),
        "Refused": (rate(refused), share(refused / offered) if offered > 0 else MISSING),
        "Rows in queue": (
            count(sum(tier.queue_depth for tier in tiers)),
            f"{duration(sum(tier.backlog_s for tier in tiers))} of work",
        ),
    }
