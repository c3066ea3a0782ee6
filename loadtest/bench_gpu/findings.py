"""The form of every GPU benchmark's result: what was seen, what was asked, whether it held."""

from collections.abc import Sequence

import msgspec

from loadtest.bench.capacity import Capacity
from loadtest.bench.plan import RunReport
from loadtest.bench.report import Table, verdict


class Measure(msgspec.Struct, frozen=True):
    """One row. `seen` is ready to print; `held` is None where nothing was asked."""

    name: str
    seen: str
    asked: str = "-"
    held: bool | None = None


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    intro: str
    measures: Sequence[Measure]
    notes: Sequence[str] = ()

    def table(self) -> Table:
        return Table(
            title=self.title,
            intro=self.intro,
            columns=("measure", "seen", "asked", "held"),
            rows=[(each.name, each.seen, each.asked, verdict(each.held)) for each in self.measures],
            notes=self.notes,
        )


def at_least(name: str, seen: float, bound: float, form: str = ".2f") -> Measure:
    return Measure(name, format(seen, form), f"≥ {bound:{form}}", seen >= bound)


def at_most(name: str, seen: float, bound: float, form: str = ".2f") -> Measure:
    return Measure(name, format(seen, form), f"≤ {bound:{form}}", seen <= bound)


def ratio(part: float, whole: float) -> float:
    """0 where there is nothing to compare with: a bound is then missed, not passed."""
    return part / whole if whole else 0.0


def rate_of(found: Capacity[RunReport]) -> str:
    """A capacity in requests a second; below what failed, where no rate passed."""
    if found.rate_per_s or found.failing_rate_per_s is None:
        return f"{found.rate_per_s:.0f}"
    return f"< {found.failing_rate_per_s:.0f} (no rate tried passed)"


def known_of(found: Capacity[RunReport]) -> str:
    """What a search that ended early tells."""
    return "a lower bound" if found.rate_per_s else "an upper bound"


def errors_of(report: RunReport) -> str:
    """What went wrong in a run, by kind."""
    kinds = [f"{count} of status {status}" for status, count in sorted(report.rejected.items())]
    for name in ("mismatched", "failed", "unanswered"):
        count = getattr(report, name)
        if count:
            kinds.append(f"{count} {name}")
    return ", ".join(kinds) or "no errors"
