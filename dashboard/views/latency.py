"""Stages of a request, as a table."""

from collections.abc import Sequence

from dashboard.ports import StageBreakdown
from dashboard.views.units import milliseconds


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
