"""The verdict on a page: all that is wrong, worst first, each with where to read on."""

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from dashboard.asking import aged, ask, ask_now, optional, saying
from dashboard.here import Here
from dashboard.ports import DashboardError, NoData, Refused, SourceDown
from dashboard.views.costs import pool_costs, spot_saving
from dashboard.views.literal import escaped
from dashboard.views.verdict import (
    Cause,
    Facts,
    Finding,
    Page,
    Severity,
    findings,
    sentence,
    well,
)

MOST_SHOWN = 4  # the rest is behind a click: a page of complaints hides the page
ICONS = {
    Severity.OUTAGE: ":material/error:",
    Severity.WARNING: ":material/warning:",
    Severity.NOTE: ":material/info:",
}
TITLES = {page: page.value.capitalize() for page in Page}

T = TypeVar("T")


def show_verdict(spot: Here) -> None:
    facts = _facts(spot)
    found = findings(facts)
    if not found:
        st.success(escaped(well(facts, _saving(spot))), icon=":material/check_circle:")
        return
    texts = [_text(spot, each) for each in found]
    lines = [texts[0]]  # whose icon is that of the box
    lines += [f"{ICONS[each.severity]} {text}" for each, text in zip(found, texts, strict=True)][1:]
    box = {Severity.OUTAGE: st.error, Severity.WARNING: st.warning, Severity.NOTE: st.info}
    box[found[0].severity]("\n\n".join(lines[:MOST_SHOWN]), icon=ICONS[found[0].severity])
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    if more := lines[MOST_SHOWN:]:
        row.popover(f"{len(more)} more").markdown("\n\n".join(more))
    for page in dict.fromkeys(each.page for each in found if each.page is not Page.OVERVIEW):
        target = f"app_pages/{page.value}.py"
        row.page_link(target, label=TITLES[page], icon=":material/arrow_forward:")


def _text(spot: Here, finding: Finding) -> str:
    text = sentence(finding, spot.zone, spot.parts.now())
    if finding.cause in (Cause.SOURCE_DOWN, Cause.NO_REPLICA):
        saying(text)  # the parts of the page that lack it need not say it again
    return escaped(text)


def _facts(spot: Here) -> Facts:
    """All that the verdict needs, as far as it can be had."""
    metrics, window = spot.parts.metrics, spot.window
    problems: list[DashboardError] = []

    def known(question: Callable[[], T]) -> T | None:
        try:
            return question()
        except DashboardError as error:
            problems.append(error)
            return None

    tiers = known(lambda: ask(metrics.tiers, window, spot.where))
    # Whoever is away is asked nothing more: each question would wait for it.
    goes_on = not problems and aged() is None
    traffic = known(lambda: ask(metrics.traffic, window, spot.where))
    replicas = known(spot.replicas) if goes_on else None
    scrapes = known(lambda: ask_now(metrics.scrapes, window.end_s)) if goes_on else None
    used = known(lambda: ask(metrics.utilisation, window, spot.where))
    down = next((str(each) for each in problems if isinstance(each, SourceDown)), "")
    nothing = next((str(each) for each in problems if isinstance(each, NoData)), "")
    old = aged()
    return Facts(
        window=window,
        now_s=spot.parts.now(),
        tiers=tiers or (),
        traffic=traffic,
        replicas=replicas,
        scrapes=scrapes,
        busy=None if used is None else used.busy,
        source_problem=down if old is None else old.why,
        nothing="" if tiers else nothing,
        parameters_problem=_parameters_problem(spot),
    )


def _parameters_problem(spot: Here) -> str:
    try:
        spot.parts.store.read()
    except (SourceDown, Refused) as error:
        return str(error)
    return ""


def _saving(spot: Here) -> float | None:
    uses = optional(lambda: ask(spot.parts.metrics.pools, spot.window, spot.where), ())
    return spot_saving(pool_costs(uses, spot.prices()))
