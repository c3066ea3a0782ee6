"""Stages of a request and how requests ended, as tables."""

from collections.abc import Sequence

from dashboard.ports import StageBreakdown, TierNow
from dashboard.views.overview import became, tier_name
from dashboard.views.units import MISSING, milliseconds, share
from dashboard.views.verdict import FAILURES


def stage_table(groups: Sequence[StageBreakdown]) -> list[dict[str, str | float | None]]:
    """A row for each stage of each group, in milliseconds."""
    return [
        {
            "group": group.group,
            "stage": each.stage.value,
            "mean ms": milliseconds(each.mean_s),
            "p50 ms": milliseconds(each.p50_s),
            "p99 ms": milliseconds(each.p99_s),
        }
        for group in groups
        for each in group.stages
    ]


def endings_table(tiers: Sequence[TierNow]) -> list[dict[str, str | float | None]]:
    """A row for each tier that was asked for something: shares of that, failures by their kind."""
    asked = [tier for tier in tiers if tier.offered_per_s > 0]
    kinds = [kind for kind in FAILURES if any(kind in tier.failures for tier in asked)]
    return [
        {
            "tier": tier_name(tier, tiers),
            "asked for /s": tier.offered_per_s,
            **{what: share(per_s / tier.offered_per_s) for what, per_s in became(tier).items()},
            **{
                FAILURES[kind]: share(tier.failures[kind] / tier.offered_per_s)
                if kind in tier.failures
                else MISSING
                for kind in kinds
            },
            "refused unread": share(tier.unread_per_s / tier.offered_per_s),
        }
        for tier in asked
    ]
