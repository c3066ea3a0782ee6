"""Tiers in tables, tiles and promises."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboard.ports import UNREAD_TIER, Replica, Series, Slo, TierNow, Token, Traffic
from dashboard.views.units import MISSING, count, duration, milliseconds, rate, share


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


def slos_s(tiers: Sequence[TierNow]) -> Mapping[str, float]:
    """The SLO of each tier that has one, as replicas say, in seconds."""
    return {
        tier.tier: tier.slo.slo_s
        for tier in tiers
        if tier.slo is not None and math.isfinite(tier.slo.slo_s)
    }


def answer_slos_s(tiers: Sequence[TierNow]) -> Mapping[str, float]:
    """Of whole answers: none where all of them came token by token, whose SLO is the first's."""
    answering = [tier for tier in tiers if tier.p99_s is not None]
    if answering and all(tier.tokens is not None for tier in answering):
        return {}
    return slos_s(tiers)


def token_slos_s(tiers: Sequence[TierNow], token: Token) -> Mapping[str, float]:
    """The deadline of each tier that has one for these tokens, in seconds."""
    if token is Token.FIRST:
        return slos_s(tiers)
    return {
        tier.tier: tier.slo.itl_slo_s
        for tier in tiers
        if tier.slo is not None and math.isfinite(tier.slo.itl_slo_s)
    }


def limits_ms(slos_s: Mapping[str, float]) -> Mapping[str, float]:
    """As plots in milliseconds mark them: by what they are called there."""
    return {f"SLO {tier}": slo * 1e3 for tier, slo in slos_s.items()}


def promises(tier: TierNow, name: str) -> Sequence[tuple[str, float | None, float]]:
    """What a tier promises, under its name, how it is kept, and its limit; infinite where there is
    none or none is known. A whole text has no deadline."""
    slo = tier.slo or Slo(math.inf)
    if tier.tokens is None:
        return [(name, tier.p99_s, slo.slo_s)]
    return [
        (f"{name} {Token.FIRST.value}", tier.tokens.first_p99_s, slo.slo_s),
        (f"{name} {Token.NEXT.value}", tier.tokens.next_p99_s, slo.itl_slo_s),
    ]


def sentence_of(text: str) -> str:
    """Begins with a capital, and ends."""
    return ended(f"{text[:1].upper()}{text[1:]}")


def ended(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def tier_name(tier: TierNow, tiers: Sequence[TierNow]) -> str:
    """As sentences and tables call it: with its model where there are several."""
    several = len({each.model for each in tiers if each.tier != UNREAD_TIER}) > 1
    if tier.tier == UNREAD_TIER:
        return "before its tier was known"
    return f"{tier.model}/{tier.tier}" if several else tier.tier


def token_table(tiers: Sequence[TierNow]) -> list[dict[str, str | float | None]]:
    """A row for each tier that generated; empty where none did. Milliseconds."""
    return [
        {
            "tier": tier_name(tier, tiers),
            "first token SLO": _slo(None if tier.slo is None else tier.slo.slo_s),
            "first token p50 ms": milliseconds(tier.tokens.first_p50_s),
            "first token p99 ms": milliseconds(tier.tokens.first_p99_s),
            "next tokens SLO": _slo(None if tier.slo is None else tier.slo.itl_slo_s),
            "next tokens p50 ms": milliseconds(tier.tokens.next_p50_s),
            "next tokens p99 ms": milliseconds(tier.tokens.next_p99_s),
        }
        for tier in tiers
        if tier.tokens is not None
    ]


def _slo(seconds: float | None) -> str:
    """ "200 ms", "none", or "unknown" where no replica says."""
    if seconds is None:
        return "unknown"
    return duration(seconds) if math.isfinite(seconds) else "none"


def tier_table(tiers: Sequence[TierNow]) -> list[dict[str, str | float | None]]:
    """A row for each tier of each model: all of it over the time range, shares of what was asked
    for."""
    return [
        {
            "tier": tier_name(tier, tiers),
            # Where tokens come one by one, it is not for whole answers.
            "SLO": "of tokens"
            if tier.tokens
            else _slo(None if tier.slo is None else tier.slo.slo_s),
            "p50 ms": milliseconds(tier.p50_s),
            "p95 ms": milliseconds(tier.p95_s),
            "p99 ms": milliseconds(tier.p99_s),
            "asked for /s": tier.offered_per_s,
            **{
                name: share(per_s / tier.offered_per_s) if tier.offered_per_s > 0 else MISSING
                for name, per_s in became(tier).items()
            },
            "mean queue, rows": tier.queue_depth,
            "mean backlog": duration(tier.backlog_s),
            "mean offered load": share(tier.offered_load),
        }
        for tier in tiers
    ]


# What becomes of a request, in words: the same for tables, tiles and lines.
IN_TIME, LATE, REFUSED, FAILED, GIVEN_UP = "in time", "late", "refused", "failed", "given up"


def became(tier: TierNow) -> Mapping[str, float]:
    """Requests a second, by what became of them."""
    return {
        IN_TIME: tier.good_per_s,
        LATE: tier.late_per_s,
        REFUSED: tier.refused_per_s,
        FAILED: tier.failed_per_s,
        GIVEN_UP: tier.given_up_per_s,
    }


def became_over_time(traffic: Traffic) -> Sequence[Series]:
    """The same, of all tiers together; without a line where a client never gave up."""
    kinds = {
        IN_TIME: traffic.good,
        LATE: traffic.late,
        REFUSED: traffic.refused,
        FAILED: traffic.failed,
    }
    if any(value > 0 for line in traffic.given_up for value in line.values):
        kinds[GIVEN_UP] = traffic.given_up
    times_s = max((line.times_s for lines in kinds.values() for line in lines), default=(), key=len)
    return [Series(name, times_s, _sum(lines, times_s)) for name, lines in kinds.items()]


def _sum(lines: Sequence[Series], times_s: Sequence[float]) -> tuple[float, ...]:
    """0 where nothing is known of one, and something of another."""
    sums: dict[float, float] = {}
    for line in lines:
        for time_s, value in zip(line.times_s, line.values, strict=True):
            if math.isfinite(value):
                sums[time_s] = sums.get(time_s, 0.0) + value
    return tuple(sums.get(time_s, math.nan if not lines else 0.0) for time_s in times_s)


def pool_counts(replicas: Sequence[Replica]) -> str:
    """ "1 on-demand, 0 of 1 spot": where some of a pool do not answer, how many there are."""
    told = []
    for pool in dict.fromkeys(each.pool for each in replicas):
        ups = [each.up for each in replicas if each.pool is pool]
        of_all = "" if all(ups) else f" of {len(ups)}"
        told.append(f"{sum(ups)}{of_all} {pool.value}")
    return ", ".join(told)


MOST_TIER_TILES = 4


def tier_tiles(tiers: Sequence[TierNow]) -> Mapping[str, tuple[str, str]]:
    """The p99 of each tier with requests against its SLO, and its goodput; of the first token where
    it generates. The most urgent first: those with the shortest SLO."""
    asked = [tier for tier in tiers if tier.offered_per_s > 0 and tier.tier != UNREAD_TIER]
    tiles = {}
    for tier in sorted(asked, key=lambda each: each.slo.slo_s if each.slo else math.inf):
        what, p99_s, limit_s = promises(tier, tier_name(tier, tiers))[0]
        limit = f"of {duration(limit_s)}, " if math.isfinite(limit_s) else ""
        tiles[f"{what} p99"] = (duration(p99_s), f"{limit}{rate(tier.good_per_s)} in time")
    return dict(list(tiles.items())[:MOST_TIER_TILES])


def totals(tiers: Sequence[TierNow]) -> Mapping[str, tuple[str, str]]:
    """Over all tiers, what a tile shows: a share of all that was asked for, and what it is of."""
    offered = sum(tier.offered_per_s for tier in tiers)
    kinds: dict[str, float] = {}
    for tier in tiers:
        for name, per_s in became(tier).items():
            kinds[name] = kinds.get(name, 0.0) + per_s
    if not kinds.get(GIVEN_UP):
        kinds.pop(GIVEN_UP, None)
    below = {name: rate(per_s) for name, per_s in kinds.items()}
    if IN_TIME in below:
        below[IN_TIME] += f" of {rate(offered)}"
    return {
        name.capitalize(): (share(per_s / offered) if offered > 0 else MISSING, below[name])
        for name, per_s in kinds.items()
    } | {
        "Queue": (
            f"{count(sum(tier.queue_depth for tier in tiers))} rows",
            f"{duration(sum(tier.backlog_s for tier in tiers))} of work",
        ),
    }
