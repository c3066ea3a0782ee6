"""The verdict: every row of its table, what each cause says, since when, and what is worst."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest

from dashboard.ports import (
    UNREAD_TIER,
    Pool,
    Replica,
    Scrapes,
    Series,
    Slo,
    TierNow,
    TokenTimes,
    Traffic,
    Window,
)
from dashboard.views.verdict import (
    TABLE,
    Cause,
    Facts,
    Finding,
    Page,
    Severity,
    Spell,
    findings,
    last_spell,
    sentence,
    severity_of,
    well,
)

NOW_S = 1_790_000_000.0  # 14:13:20 UTC
WINDOW = Window.last(900.0, NOW_S)
NOTE, WARNING, OUTAGE = Severity.NOTE, Severity.WARNING, Severity.OUTAGE


@pytest.mark.parametrize(
    ("cause", "page", "none", "least", "worse"),
    [  # what is nothing yet, what is worth a word and what it is, what is an outage (None: nothing)
        (Cause.SOURCE_DOWN, Page.OVERVIEW, 0.0, (1.0, OUTAGE), 1.0),
        (Cause.STALE, Page.OVERVIEW, 4.9, (5.0, WARNING), 15.0),
        (Cause.NO_REPLICA, Page.OVERVIEW, 0.0, (1.0, OUTAGE), 1.0),
        (Cause.SILENT, Page.TUNING, 0.0, (0.01, WARNING), 0.5),
        (Cause.GONE, Page.TUNING, 0.0, (0.01, WARNING), 0.5),
        (Cause.FAILED, Page.LATENCY, 0.0009, (0.001, WARNING), 0.01),
        (Cause.LATE, Page.LATENCY, 0.0099, (0.01, WARNING), 0.10),
        (Cause.EDGES_FULL, Page.LATENCY, 0.0009, (0.001, WARNING), 0.10),
        (Cause.REFUSED, Page.BATCHING, 0.0009, (0.001, WARNING), 0.10),
        (Cause.GIVEN_UP, Page.LATENCY, 0.0099, (0.01, WARNING), 0.10),
        (Cause.SLO_UNKNOWN, Page.TUNING, 0.0, (1.0, WARNING), None),
        (Cause.PARAMETERS, Page.TUNING, 0.0, (1.0, WARNING), None),
        (Cause.BEHIND, Page.TUNING, 0.0, (0.01, WARNING), None),
        (Cause.NO_TRAFFIC, Page.OVERVIEW, 0.0, (1.0, NOTE), None),
    ],
)
def test_each_cause_has_its_severities_and_its_page(
    cause: Cause, page: Page, none: float, least: tuple[float, Severity], worse: float | None
) -> None:
    assert TABLE[cause].page is page
    assert severity_of(cause, none) is None
    assert severity_of(cause, least[0]) is least[1]
    if worse is None:
        assert severity_of(cause, math.inf) is least[1] or TABLE[cause].outage == math.inf
    else:
        assert severity_of(cause, worse) is OUTAGE
        if worse != least[0]:
            assert severity_of(cause, math.nextafter(worse, 0.0)) is least[1]


def test_the_table_has_every_cause() -> None:
    assert set(TABLE) == set(Cause)


def tier(name: str = "interactive", **changed: Any) -> TierNow:
    """100/s, all in time."""
    made = TierNow(
        *("topics", name, 0.02, 0.08, 0.143, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 0.0, 0.5),
        slo=Slo(0.2 if name == "interactive" else math.inf),
    )
    return replace(made, **changed)


def replica(number: int, **changed: Any) -> Replica:
    made = Replica(f"10.0.0.{number}:8080", Pool.SPOT, "", "", True, 7, None)
    return replace(made, **changed)


HANGING = replica(2, up=False, silent=True, answered_at_s=NOW_S - 80)
FLEET = (replica(1), replica(2))
ALL_WELL = Facts(
    WINDOW, NOW_S, (tier(),), replicas=FLEET, scrapes=Scrapes(NOW_S - 2, 15.0), busy=0.5
)


def lines(
    name: str = "topics/interactive", offered: Sequence[float] = (), **kinds: Sequence[float]
) -> Traffic:
    """A line of each kind, a minute a value, up to the end of the window."""

    def line(values: Sequence[float]) -> tuple[Series, ...]:
        times_s = tuple(NOW_S - 60.0 * (len(values) - 1 - at) for at in range(len(values)))
        return (Series(name, times_s, tuple(values)),)

    empty = dict.fromkeys(("good", "late", "refused", "failed", "given_up", "queue_depth"), ())
    return Traffic(offered=line(offered), **{**empty, **{k: line(v) for k, v in kinds.items()}})


def said(facts: Facts) -> list[tuple[Severity, str]]:
    return [(each.severity, sentence(each, UTC, NOW_S)) for each in findings(facts)]


def test_all_is_well_only_where_nothing_is_found() -> None:
    assert findings(ALL_WELL) == []
    assert well(ALL_WELL, 0.38) == (
        "Interactive p99 is 143 ms of 200 ms; the spot pool is 38% cheaper per request;"
        " 2 of 2 replicas on generation 7."
    )
    assert "20% dearer" in well(ALL_WELL, -0.2)
    assert "spot" not in well(ALL_WELL, None)


FAILING = tier(
    failed_per_s=49.0, good_per_s=51.0, answered_per_s=51.0, failures={"expired": 9, "failed": 40}
)
ONE = [  # facts, and what is said first
    (
        replace(ALL_WELL, tiers=(FAILING,)),
        OUTAGE,
        (
            "Interactive: 49% failed (49.0/s of 100/s: errors of the model (500), deadlines that"
            " passed (504))."
        ),
    ),
    (
        replace(ALL_WELL, tiers=(tier(failed_per_s=0.5, failures={"unavailable": 0.5}),)),
        WARNING,
        "Interactive: 0.5% failed (0.5/s of 100/s: no service (503)).",
    ),
    (
        replace(ALL_WELL, tiers=(tier(), tier(UNREAD_TIER, failed_per_s=100.0, slo=Slo(1.0)))),
        OUTAGE,
        "Before its tier was known: 50% of all failed (100/s of 200/s).",
    ),
    (
        replace(ALL_WELL, tiers=(tier(p99_s=0.25, good_per_s=88.0),)),
        OUTAGE,
        "Interactive p99 is 250 ms of 200 ms, 12% answered late.",
    ),
    (
        replace(ALL_WELL, tiers=(tier(p99_s=0.25),)),  # an hour's p99, where little was answered
        WARNING,
        "Interactive p99 is 250 ms of 200 ms, 0% answered late.",
    ),
    (
        replace(ALL_WELL, tiers=(tier("bulk", good_per_s=95.0),)),  # by deadlines of clients
        WARNING,
        "Bulk: 5% answered late.",
    ),
    (
        replace(ALL_WELL, tiers=(tier(refused_per_s=2.0),), busy=0.97),
        WARNING,
        "Interactive: 2% refused (2.0/s of 100/s).",
    ),
    (
        replace(ALL_WELL, tiers=(tier(refused_per_s=30.0, unread_per_s=30.0),), busy=0.3),
        OUTAGE,
        (
            "The edges are saturated: 30% refused unread (30.0/s of 100/s), while the devices are"
            " 30% busy."
        ),
    ),
    (
        replace(ALL_WELL, tiers=(tier(refused_per_s=30.0, unread_per_s=30.0),), busy=0.98),
        OUTAGE,
        "Interactive: 30% refused (30.0/s of 100/s).",
    ),
    (
        replace(ALL_WELL, tiers=(tier(given_up_per_s=12.0),)),
        OUTAGE,
        "Interactive: 12% given up by clients before the answer (12.0/s).",
    ),
    (
        replace(ALL_WELL, tiers=(tier(slo=None),)),
        WARNING,
        "Interactive: no replica says what SLO is in force, so whether it is kept is not known.",
    ),
    (
        replace(ALL_WELL, tiers=(tier(offered_per_s=0.0, slo=None),)),
        NOTE,
        "No traffic: nothing was asked for in this time range, so no SLO was kept and none missed.",
    ),
    (
        replace(ALL_WELL, source_problem="Prometheus does not answer; start it."),
        OUTAGE,
        "Prometheus does not answer; start it.",
    ),
    (
        replace(ALL_WELL, tiers=(), nothing="Prometheus has no predictor in this time range."),
        OUTAGE,
        "Prometheus has no predictor in this time range.",
    ),
    (
        replace(ALL_WELL, scrapes=Scrapes(NOW_S - 120, 15.0)),
        WARNING,
        (
            "Prometheus answers, but has stopped scraping: its newest measurement is 2 min old, and"
            " so is what is shown, since 14:11:20."
        ),
    ),
    (
        replace(ALL_WELL, scrapes=Scrapes(NOW_S - 600, 15.0)),
        OUTAGE,
        (
            "Prometheus answers, but has stopped scraping: its newest measurement is 10 min old,"
            " and so is what is shown, since 14:03:20."
        ),
    ),
    (
        replace(ALL_WELL, parameters_problem="/etc/p.yaml cannot be read (No such file)."),
        WARNING,
        "/etc/p.yaml cannot be read (No such file). Replicas go on with what they have.",
    ),
    (
        replace(ALL_WELL, replicas=(replica(1), replica(2, generation=6))),
        WARNING,
        "1 of 2 replicas not on generation 7, the newest in force.",
    ),
    (
        replace(
            ALL_WELL,
            replicas=(
                replica(1),
                replica(2, up=False, silent=True, answered_at_s=NOW_S - 80),
                replica(3),
            ),
        ),
        WARNING,
        "1 of 3 replicas silent: it hangs, or cannot be reached (10.0.0.2:8080), since 14:12:00.",
    ),
    (
        replace(ALL_WELL, replicas=(replica(1), replica(2, up=False))),
        OUTAGE,
        "1 of 2 replicas gone: nothing listens there (10.0.0.2:8080).",
    ),
    (
        replace(ALL_WELL, replicas=(replica(1, up=False), replica(2, up=False))),
        OUTAGE,
        "2 of 2 replicas gone: nothing listens there (10.0.0.1:8080, 10.0.0.2:8080).",
    ),
    (  # each for another reason, and yet nobody is there
        replace(ALL_WELL, replicas=(replica(1, up=False, silent=True), replica(2, up=False))),
        OUTAGE,
        "1 of 2 replicas silent: it hangs, or cannot be reached (10.0.0.1:8080).",
    ),
]


@pytest.mark.parametrize(("facts", "severity", "text"), ONE, ids=lambda each: str(each)[:40])
def test_each_cause_is_said(facts: Facts, severity: Severity, text: str) -> None:
    assert said(facts)[0] == (severity, text)


def test_every_cause_is_among_those_that_are_said() -> None:
    assert {findings(facts)[0].cause for facts, _, _ in ONE} == set(Cause)


def test_refusals_of_saturated_edges_are_told_once() -> None:
    busy_edges = replace(ALL_WELL, tiers=(tier(refused_per_s=30.0, unread_per_s=29.0),), busy=0.3)
    assert [each.cause for each in findings(busy_edges)] == [Cause.EDGES_FULL]


def test_tokens_are_judged_instead_of_whole_texts() -> None:
    times = TokenTimes(0.1, 2.0, 0.1, 1.5)
    texts = tier(p99_s=40.0, tokens=times, slo=Slo(10.0, 1.0), good_per_s=80.0)
    assert said(replace(ALL_WELL, tiers=(texts,))) == [
        (OUTAGE, "Interactive next tokens p99 is 1.50 s of 1.00 s, 20% answered late.")
    ]
    kept = replace(texts, tokens=replace(times, next_p99_s=0.9), good_per_s=100.0)
    assert findings(replace(ALL_WELL, tiers=(kept,))) == []
    assert well(replace(ALL_WELL, tiers=(kept,)), None).startswith(
        "Interactive first token p99 is 2.00 s of 10.00 s; interactive next tokens p99 is 900 ms"
    )


def test_the_worst_comes_first_and_equals_in_the_order_of_causes() -> None:
    facts = replace(
        ALL_WELL,
        tiers=(tier("bulk", refused_per_s=2.0), FAILING),
        replicas=(replica(1), replica(2, up=False), replica(3)),
        parameters_problem="broken.",
    )
    assert [(each.severity, each.cause) for each in findings(facts)] == [
        (OUTAGE, Cause.FAILED),
        (WARNING, Cause.GONE),
        (WARNING, Cause.REFUSED),
        (WARNING, Cause.PARAMETERS),
    ]


def test_what_is_of_now_is_not_said_of_the_past() -> None:
    past = replace(
        ALL_WELL,
        window=Window(NOW_S - 7200, NOW_S - 3600),
        scrapes=Scrapes(NOW_S - 600, 15.0),
        replicas=(replica(1), replica(2, up=False)),
    )
    assert findings(past) == []


def test_several_models_are_told_apart() -> None:
    other = replace(FAILING, model="speech")
    (finding,) = findings(replace(ALL_WELL, tiers=(tier(), other)))
    assert finding.text.startswith("speech/interactive: 49% failed")


# since when


def test_since_when_it_is_so() -> None:
    facts = replace(
        ALL_WELL,
        tiers=(FAILING,),
        traffic=lines(offered=[100] * 6, failed=[0, 0, 0.05, 40, 50, 60]),
    )
    assert said(facts)[0][1].endswith("(504)), since 14:11:20.")


@pytest.mark.parametrize(
    ("part", "asked", "spell"),
    [
        ([0, 5, 0, 5, 5], [100] * 5, Spell(NOW_S - 60, None, is_older=False)),  # the last time
        ([5, 5, 5, 5, 5], [100] * 5, Spell(NOW_S - 240, None, is_older=True)),
        ([0, 5, 5, 0, 0], [100] * 5, Spell(NOW_S - 180, NOW_S - 120, is_older=False)),  # is over
        ([5, 5, 0, 0, 0], [100] * 5, Spell(NOW_S - 240, NOW_S - 180, is_older=True)),
        ([0, 5, 0, 5, 0], [0, 100, 0, 100, 0], Spell(NOW_S - 180, None, is_older=False)),  # gaps
        ([0, 5, math.nan, 5, 5], [100] * 5, Spell(NOW_S - 180, None, is_older=False)),
        ([0, 0, 0, 0, 0.9], [100] * 5, None),  # too little
        ([0, 0, 0, 0, 0], [0] * 5, None),
    ],
)
def test_the_last_unbroken_time_counts(
    part: Sequence[float], asked: Sequence[float], spell: Spell | None
) -> None:
    traffic = lines(offered=asked, failed=part)
    assert last_spell(traffic.failed, traffic.offered, 0.01) == spell


def test_spells_read_as_sentences() -> None:
    def of(spell: Spell) -> str:
        return sentence(Finding(OUTAGE, Cause.FAILED, "It fails", spell), UTC, NOW_S)

    start_s, end_s = NOW_S - 200, NOW_S - 20
    assert of(Spell(start_s, None, False)) == "It fails, since 14:10:00."
    assert of(Spell(start_s, None, True)) == "It fails, since before 14:10:00."
    assert of(Spell(start_s, end_s, False)) == "It fails, from 14:10:00 to 14:13:00."
    assert of(Spell(start_s, end_s, True)) == "It fails, until 14:13:00."
    assert of(Spell(start_s - 86_400, None, False)) == "It fails, since 2026-09-20 14:10:00."
