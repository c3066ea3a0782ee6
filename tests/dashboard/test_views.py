"""What pages say, from facts alone: verdicts, money, take-hold, tables."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest

from dashboard.changes import changed
from dashboard.identity import identity
from dashboard.login import Login
from dashboard.parts import Reader
from dashboard.ports import (
    UNREAD_TIER,
    BatchShape,
    Edit,
    HistoryEntry,
    Pool,
    PoolUse,
    Price,
    Series,
    ServiceModelFit,
    Slo,
    Stored,
    Sweep,
    TierNow,
    Token,
    TokenTimes,
    Traffic,
    Window,
)
from dashboard.views import (
    batching,
    costs,
    history,
    latency,
    load_tests,
    overview,
    times,
    tuning,
    units,
)
from dashboard.views.draft import Place, checked, edited
from predictor.core.parameters import DEFAULT_PARAMETERS, parse_plain
from predictor.core.rows import Packing
from predictor.policy.service_time import ServiceTimeModel
from tests.dashboard.fakes import NOW_S, FakeMetrics, FakeStore, document_of, load_run, results

WINDOW = times.window_of("1 h", NOW_S)
SPOT, ON_DEMAND = Price(Pool.SPOT, 1.0, "table"), Price(Pool.ON_DEMAND, 2.0, "table")
PRICES: Mapping[Pool, Price] = {Pool.SPOT: SPOT, Pool.ON_DEMAND: ON_DEMAND}


def use(pool: Pool, **changed: Any) -> PoolUse:
    """A replica for two hours, busy for one, a fifth of it padding, 1,000 requests."""
    made = PoolUse(
        pool, 1.0, 7200.0, 1.0, 1000.0, 3600.0, 0.2, {"interactive": 900.0, "bulk": 100.0},
        {"interactive": 2700.0, "bulk": 900.0},
    )  # fmt: skip
    return replace(made, **changed)


class TestCosts:
    def test_a_pool_costs_its_price_times_its_presence(self) -> None:
        (cost,) = costs.pool_costs([use(Pool.SPOT)], PRICES)
        assert cost.usd == pytest.approx(2.0)
        assert cost.usd_per_request == pytest.approx(0.002)
        assert cost.usd_per_1000 == pytest.approx(2.0)

    def test_tiers_padding_and_idle_are_all_of_it(self) -> None:
        (cost,) = costs.pool_costs([use(Pool.SPOT)], PRICES)
        assert cost.parts == {
            "interactive": pytest.approx(0.6),
            "bulk": pytest.approx(0.2),
            "padding": pytest.approx(0.2),
            "idle": pytest.approx(1.0),
        }
        assert sum(cost.parts.values()) == pytest.approx(cost.usd)

    def test_two_devices_share_the_price_of_their_replica(self) -> None:
        (cost,) = costs.pool_costs([use(Pool.SPOT, devices=2.0)], PRICES)
        assert cost.usd == pytest.approx(2.0)
        assert cost.idle_usd == pytest.approx(1.5)
        assert sum(cost.parts.values()) == pytest.approx(cost.usd)

    def test_tiers_share_all_that_was_paid_by_device_time(self) -> None:
        tiers = {
            cost.tier: cost
            for cost in costs.tier_costs([use(Pool.SPOT), use(Pool.ON_DEMAND)], PRICES)
        }
        assert tiers["interactive"].usd == pytest.approx(0.75 * (2.0 + 4.0))
        assert tiers["interactive"].usd_per_1000 == pytest.approx(4.5 / 1.8)

    def test_spot_saves_half_at_half_the_price(self) -> None:
        both = costs.pool_costs([use(Pool.SPOT), use(Pool.ON_DEMAND)], PRICES)
        assert costs.spot_saving(both) == pytest.approx(0.5)
        assert costs.saved_usd(both) == pytest.approx(2.0)
        assert costs.usd_per_1000(both) == pytest.approx(3.0)

    def test_an_idle_pool_has_a_cost_and_no_cost_of_a_request(self) -> None:
        (cost,) = costs.pool_costs([use(Pool.SPOT, completed=0.0)], PRICES)
        assert cost.usd == pytest.approx(2.0)
        assert cost.usd_per_1000 is None
        assert costs.spot_saving([cost]) is None

    def test_a_pool_without_a_price_is_left_out(self) -> None:
        assert costs.pool_costs([use(Pool.UNKNOWN)], PRICES) == []

    def test_prometheus_goes_before_the_table(self) -> None:
        measured = Price(Pool.SPOT, 0.8, "OpenCost")
        assert costs.prices_in_force([measured], [SPOT, ON_DEMAND]) == {
            Pool.SPOT: measured,
            Pool.ON_DEMAND: ON_DEMAND,
        }

    def test_prices_say_whose_they_are_and_on_what(self) -> None:
        uses = [replace(use(Pool.SPOT), instance_types=("g2-standard-4",)), use(Pool.ON_DEMAND)]
        told = costs.told_prices(uses, costs.pool_costs(uses, PRICES))
        assert told == (
            "Prices: spot $1.00 an hour on g2-standard-4 (table); on-demand $2.00 an hour (table)"
        )

    def test_what_if_moves_the_same_time_to_other_prices(self) -> None:
        uses = [use(Pool.SPOT), use(Pool.ON_DEMAND)]
        assert costs.spot_share(uses) == 0.5
        found = costs.what_if(
            uses,
            duration_s=7200.0,
            spot_usd_per_hour=1.0,
            on_demand_usd_per_hour=2.0,
            share_on_spot=0.75,
        )
        assert found.usd == pytest.approx(5.0)
        assert found.usd_per_1000 == pytest.approx(2.5)
        assert found.usd_per_month == pytest.approx(2.5 * 730)

    def test_a_month_is_as_long_as_there_is_data_and_not_as_the_window(self) -> None:
        found = costs.what_if(
            [use(Pool.SPOT)],
            duration_s=7 * 86400.0,
            spot_usd_per_hour=1.0,
            on_demand_usd_per_hour=2.0,
            share_on_spot=1.0,
        )
        assert found.usd_per_month == pytest.approx(1.0 * 730)

    def test_dearer_is_never_a_negative_cheaper(self) -> None:
        assert costs.compared_words(0.38) == ("A request on spot is cheaper by", "38%")
        assert costs.compared_words(-0.53) == ("A request on spot is dearer by", "53%")
        assert costs.compared_words(None)[1] == units.MISSING
        assert costs.saved_words(0.1) == ("Saved by spot's hours", "$0.10")
        assert costs.saved_words(-0.1) == ("Paid more for spot's hours", "$0.10")

    def test_hours_and_requests_that_tell_the_contrary_are_explained(self) -> None:
        assert "answered fewer" in costs.why_unlike(-0.53, 0.10)
        assert "answered more" in costs.why_unlike(0.2, -0.10)
        assert costs.why_unlike(0.2, 0.1) == costs.why_unlike(None, 0.1) == ""

    def test_models_share_all_that_was_paid_by_device_time(self) -> None:
        two = use(
            Pool.SPOT, model_completed={"a": 500.0, "b": 500.0}, model_device_s={"a": 3.0, "b": 1.0}
        )
        found = {cost.model: cost for cost in costs.model_costs([two], PRICES)}
        assert found["a"].usd == pytest.approx(1.5)
        assert found["b"].usd_per_1000 == pytest.approx(1.0)
        unpriced = replace(two, pool=Pool.UNKNOWN)
        assert costs.model_costs([unpriced], PRICES)[0].usd == 0.0

    def test_a_pool_costs_what_its_replicas_do_at_each_time(self) -> None:
        line = Series("spot", (1.0, 2.0), (2.0, 0.0))
        presence = [(Pool.ON_DEMAND, line), (Pool.UNKNOWN, line)]
        (found,) = costs.costs_over_time(presence, PRICES)
        assert (found.name, found.values) == ("on-demand", (4.0, 0.0))

    def test_a_file_says_of_when_it_is(self) -> None:
        table = costs.cost_table(costs.pool_costs([use(Pool.SPOT)], PRICES))
        rows = costs.with_times(table, Window(1_789_992_000.0, 1_789_992_300.0))
        assert (
            costs.as_csv(rows)
            .splitlines()[1]
            .startswith("2026-09-21T12:00:00Z,2026-09-21T12:05:00Z,spot,interactive,")
        )
        assert json.loads(costs.as_json(rows))[0]["to"] == "2026-09-21T12:05:00Z"

    def test_the_table_downloads_as_csv(self) -> None:
        table = costs.cost_table(costs.pool_costs([use(Pool.SPOT)], PRICES))
        head, first, *_ = costs.as_csv(table).splitlines()
        assert head == 'pool,part,USD,share of the pool,"USD per 1,000 requests"'
        assert first.startswith("spot,interactive,0.6")
        assert costs.as_csv([]) == ""


class TestOverview:
    def tier(self, **changed: Any) -> TierNow:
        made = TierNow(
            *("topics", "interactive", 0.02, 0.08, 0.143, 10, 10, 10, 0, 0, 0, 0, 0.5),
            slo=Slo(0.2),
        )
        return replace(made, **changed)

    def test_only_tiers_that_generated_are_told_of_tokens(self) -> None:
        texts = self.tier(model="chat", tokens=TokenTimes(0.1, 2.0, 0.1, None), slo=Slo(10.0, 1.0))
        (row,) = overview.token_table([self.tier(), texts])
        assert row["tier"] == "chat/interactive"
        assert (row["first token SLO"], row["next tokens SLO"]) == ("10.00 s", "1.00 s")
        assert (row["first token p99 ms"], row["next tokens p99 ms"]) == (2000, None)
        assert overview.token_table([self.tier()]) == []
        slo = [each["SLO"] for each in overview.tier_table([self.tier(), texts])]
        assert slo == ["200 ms", "of tokens"]

    def test_whole_answers_have_an_slo_where_some_model_gives_them(self) -> None:
        texts = self.tier(model="chat", tokens=TokenTimes(0.1, 2.0, 0.1, 0.2))
        assert overview.answer_slos_s([texts]) == {}
        for tiers in ([self.tier()], [self.tier(), texts]):
            assert overview.answer_slos_s(tiers) == {"interactive": 0.2}
        texts = replace(texts, slo=Slo(10.0, 1.0))
        assert overview.token_slos_s([texts], Token.FIRST) == {"interactive": 10.0}
        assert overview.token_slos_s([texts], Token.NEXT) == {"interactive": 1.0}
        assert overview.token_slos_s([self.tier()], Token.NEXT) == {}
        assert overview.token_slos_s([], Token.FIRST) == {}

    def test_no_slo_is_not_an_unknown_one(self) -> None:
        tiers = [self.tier(), self.tier(slo=Slo(math.inf)), self.tier(slo=None)]
        assert [row["SLO"] for row in overview.tier_table(tiers)] == ["200 ms", "none", "unknown"]
        assert overview.slos_s(tiers[1:]) == {}

    def test_what_became_of_requests_is_a_share_of_all_that_were_asked_for(self) -> None:
        tier = self.tier(
            offered_per_s=20.0, answered_per_s=11.0, good_per_s=10.0, refused_per_s=4.0,
            failed_per_s=5.0,
        )  # fmt: skip
        (row,) = overview.tier_table([tier])
        shares = {name: row[name] for name in ("in time", "late", "refused", "failed", "given up")}
        assert shares == {
            "in time": "50%", "late": "5%", "refused": "20%", "failed": "25%", "given up": "0%",
        }  # fmt: skip
        tiles = overview.totals([tier, self.tier()])
        assert tiles["In time"] == ("67%", "20.0/s of 30.0/s")
        assert tiles["Failed"] == ("17%", "5.0/s")
        assert "Given up" not in tiles
        assert overview.totals([replace(tier, given_up_per_s=1.0)])["Given up"] == ("5%", "1.0/s")

    def test_failures_are_told_by_their_kind(self) -> None:
        failing = self.tier(failed_per_s=3.0, failures={"failed": 2.0, "expired": 1.0})
        first, other = latency.endings_table([failing, self.tier(tier="bulk")])
        assert first["errors of the model (500)"] == "20%"
        assert first["deadlines that passed (504)"] == "10%"
        assert other["errors of the model (500)"] == units.MISSING
        assert "no service (503)" not in first
        assert latency.endings_table([self.tier(offered_per_s=0.0)]) == []

    def test_shares_of_nothing_are_missing(self) -> None:
        (row,) = overview.tier_table([self.tier(offered_per_s=0.0, good_per_s=0.0)])
        assert row["in time"] == units.MISSING
        assert overview.totals([])["Queue"] == ("0 rows", "0 ms of work")

    def test_what_became_of_requests_over_time_is_of_all_tiers(self) -> None:
        two = tuple(Series(f"topics/{tier}", (1.0, 2.0), (3.0, math.nan)) for tier in "ab")
        traffic = Traffic(two, two, (), two[:1], (), (), ())
        lines = {line.name: line.values for line in overview.became_over_time(traffic)}
        assert lines["in time"] == (6.0, 0.0)
        assert lines["refused"] == (3.0, 0.0)
        assert set(lines) == {"in time", "late", "refused", "failed"}

    def test_each_tier_has_a_tile_the_most_urgent_first(self) -> None:
        bulk = self.tier(tier="bulk", slo=Slo(math.inf), p99_s=4.0)
        lost = self.tier(tier=UNREAD_TIER)
        tiles = overview.tier_tiles([bulk, lost, self.tier()])
        assert list(tiles.items()) == [
            ("interactive p99", ("143 ms", "of 200 ms, 10.0/s in time")),
            ("bulk p99", ("4.00 s", "10.0/s in time")),
        ]
        texts = self.tier(tokens=TokenTimes(0.1, 2.0, 0.1, None), slo=Slo(10.0, 1.0))
        assert overview.tier_tiles([texts]) == {
            "interactive first token p99": ("2.00 s", "of 10.00 s, 10.0/s in time")
        }

    def test_pools_say_how_many_do_not_answer(self) -> None:
        one, two = FakeMetrics().fleet
        assert overview.pool_counts([one, two]) == "1 on-demand, 1 spot"
        assert (
            overview.pool_counts([one, replace(two, up=False), two]) == "1 on-demand, 1 of 2 spot"
        )

    def test_several_models_are_told_apart_in_the_table(self) -> None:
        lost = self.tier(model="unknown", tier=UNREAD_TIER)
        rows = overview.tier_table([self.tier(), lost])
        assert [row["tier"] for row in rows] == ["interactive", "before its tier was known"]
        rows = overview.tier_table([self.tier(), replace(self.tier(), model="speech")])
        assert [row["tier"] for row in rows] == ["topics/interactive", "speech/interactive"]


class TestTakeHold:
    def test_one_of_two(self) -> None:
        metrics = FakeMetrics()
        metrics.move_to(2, replicas=1)
        assert tuning.take_hold(metrics.fleet, 2, NOW_S) == tuning.TakeHold(
            "Generation 2 is in force on 1 of 2 replicas. Waiting for 127.0.0.1:8090.", done=False
        )

    def test_a_refusal_after_the_edit_is_told(self) -> None:
        first, second = FakeMetrics().fleet
        fleet = [replace(first, generation=2), replace(second, refused_at_s=NOW_S + 1)]
        assert "Refused by 127.0.0.1:8090" in tuning.take_hold(fleet, 2, NOW_S).text
        assert "Refused" not in tuning.take_hold(fleet, 2, NOW_S + 2).text

    def test_no_replica_is_no_success(self) -> None:
        assert not tuning.take_hold([], 2, None).done

    def test_values_while_an_edit_takes_hold(self) -> None:
        metrics = FakeMetrics()
        metrics.move_to(2, replicas=1)
        size = Place("models", "topics", "max_batch_size")
        known = {1: DEFAULT_PARAMETERS, 2: checked(DEFAULT_PARAMETERS, {size: 32})}
        said = tuning.value_per_replica(size, metrics.fleet, known)
        assert said == "32 on 1 replica, 64 on 1 replica"
        said = tuning.value_per_replica(size, metrics.fleet, {2: known[2]})
        assert said == "32 on 1 replica, unknown on 1 replica"
        assert tuning.value_per_replica(size, [], known) == ""

    def test_the_history_is_asked_only_about_other_generations(self) -> None:
        metrics, store = FakeMetrics(), FakeStore()

        def unasked() -> list[HistoryEntry]:
            raise AssertionError

        assert tuning.known_parameters(DEFAULT_PARAMETERS, metrics.fleet, unasked) == {
            1: DEFAULT_PARAMETERS
        }
        size = Place("models", "topics", "max_batch_size")
        edit = edited(DEFAULT_PARAMETERS, {size: 32})
        now = store.apply(edit, expected=store.read(), who="ada", reason="smaller").parameters
        known = tuning.known_parameters(now, metrics.fleet, store.history)
        assert known == {1: DEFAULT_PARAMETERS, 2: now}

    def test_a_replica_that_is_away_is_named_and_not_counted_out(self) -> None:
        first, second = FakeMetrics().fleet
        for silent, what in (
            (True, "127.0.0.1:8090 silent: whether it has it is not known."),
            (False, "127.0.0.1:8090 gone: it takes it when it starts."),
        ):
            away = replace(second, up=False, generation=None, silent=silent)
            hold = tuning.take_hold([first, away], 1, None)
            assert hold.text == f"Generation 1 is in force on 1 of 2 replicas. {what}"
            assert not hold.done
        newer = replace(second, generation=5)
        assert tuning.take_hold([first, newer], 1, None).text.endswith("8090 on generation 5.")


class TestAbsoluteRanges:
    def test_ends_are_of_the_readers_zone_or_say_their_own(self) -> None:
        berlin = times.zone_of("Europe/Berlin")
        in_utc = times.absolute("2026-09-21T12:00:00Z", "2026-09-21T12:05:00Z", berlin, NOW_S)
        assert in_utc == Window(1_789_992_000.0, 1_789_992_300.0)
        assert in_utc == times.absolute(
            " 2026-09-21 14:00:00", "2026-09-21 14:05:00.0000", berlin, NOW_S
        )
        assert isinstance(in_utc, Window)
        assert not in_utc.moves
        assert times.written(in_utc.start_s) == "2026-09-21T12:00:00Z"
        assert times.span_of(in_utc, berlin, NOW_S) == "14:00:00 to 14:05:00"

    def test_what_lies_ahead_is_not_asked_for(self) -> None:
        found = times.absolute(times.written(NOW_S - 60), times.written(NOW_S + 60), UTC, NOW_S)
        assert found == Window(NOW_S - 60, NOW_S)

    @pytest.mark.parametrize(
        ("start", "end", "said"),
        [
            ("yesterday", "now", "both ends"),
            ("2026-09-21 12:00:00", "", "both ends"),
            ("2026-09-21 12:00:00", "2026-09-21 12:00:05", "10 s long"),
            ("2026-09-21 12:05:00", "2026-09-21 12:00:00", "10 s long"),
            ("2030-01-01 00:00:00", "2030-01-02 00:00:00", "begin in the past"),
            ("2020-01-01 00:00:00", "2026-01-02 00:00:00", "90 d long at most"),
        ],
    )
    def test_what_is_no_range_is_a_sentence(self, start: str, end: str, said: str) -> None:
        found = times.absolute(start, end, UTC, NOW_S)
        assert isinstance(found, str)
        assert said in found

    def test_without_ends_there_is_none(self) -> None:
        assert times.absolute("", " ", UTC, NOW_S) is None

    def test_ages_and_moments(self) -> None:
        assert [times.elapsed(each) for each in (0, 119, 120, 7200, 200_000)] == [
            *("0 s", "119 s", "2 min", "2 h", "2 d"),
        ]
        assert times.moment(NOW_S, UTC, NOW_S + 60) == "14:13:20"
        assert times.moment(NOW_S - 86_400, UTC, NOW_S) == "2026-09-20 14:13:20"


class TestHistory:
    """Two edits of the dashboard, and hands between them."""

    def document(self, generation: int, slo_ms: float) -> str:
        plain = edited(DEFAULT_PARAMETERS, {Place("tiers", "interactive", "slo_ms"): slo_ms})
        return document_of(parse_plain({**plain, "generation": generation}))

    def entry(self, generation: int, before: str, after: str) -> HistoryEntry:
        parsed = [history.parsed(each) for each in (before, after)]
        assert parsed[0] is not None
        assert parsed[1] is not None
        changes = changed(parsed[0], parsed[1])
        return HistoryEntry(generation, NOW_S, "ada", f"edit {generation}", changes, before, after)

    def stored(self, document: str) -> Stored:
        parameters = history.parsed(document)
        assert parameters is not None
        return Stored(parameters, document, document)

    def test_edits_follow_each_other(self) -> None:
        one, two, three = (self.document(*each) for each in ((1, 200), (2, 150), (3, 100)))
        entries = [self.entry(3, two, three), self.entry(2, one, two)]
        rows = history.rows(entries, self.stored(three), UTC)
        assert [(row.generation, row.can_return) for row in rows] == [
            (3, False), (2, True), (1, True),
        ]  # fmt: skip
        assert history.edited_by_hand(entries, self.stored(three), UTC) is None
        assert history.whose(three, entries) == "ada (edit 3)"

    @pytest.mark.parametrize("generation", [1, 2, 9])
    def test_an_edit_by_hand_is_a_row_under_whatever_number(self, generation: int) -> None:
        one, two = self.document(1, 200), self.document(2, 150)
        entries = [self.entry(2, one, two)]
        by_hand = self.document(generation, 120)
        row, *_ = history.rows(entries, self.stored(by_hand), UTC)
        assert row.heading.startswith(history.BY_HAND)
        assert ("is no new number" in row.heading) == (generation <= 2)
        assert "tiers.interactive.slo_ms: 150 → 120" in row.changes
        assert not row.can_return
        assert history.edited_by_hand(entries, self.stored(by_hand), UTC) == row
        assert history.whose(by_hand, entries) == ""

    def test_an_edit_by_hand_that_was_edited_since_stays_in_the_history(self) -> None:
        one, two, hand, three = (
            self.document(*each) for each in ((1, 200), (2, 150), (2, 120), (3, 100))
        )
        entries = [self.entry(3, hand, three), self.entry(2, one, two)]
        rows = history.rows(entries, self.stored(three), UTC)
        assert [row.heading.startswith(history.BY_HAND) for row in rows] == [
            False, True, False, False,
        ]  # fmt: skip
        # A roll back goes by the number, which two of them have: to the one that was made here.
        assert [(row.generation, row.can_return) for row in rows] == [
            (3, False), (2, False), (2, True), (1, True),
        ]  # fmt: skip

    def test_comments_are_no_edit(self) -> None:
        one, two = self.document(1, 200), self.document(2, 150)
        entries = [self.entry(2, one, two)]
        assert history.edited_by_hand(entries, self.stored(two + "\n"), UTC) is None
        assert history.edited_by_hand([], self.stored(two), UTC) is None

    def test_what_is_refused_or_missing_leaves_all_to_return_to(self) -> None:
        one, two = self.document(1, 200), self.document(2, 150)
        rows = history.rows([self.entry(2, one, two)], None, UTC)
        assert [row.can_return for row in rows] == [True, True]
        assert (
            history.rows([replace(self.entry(2, one, two), before="wrong")], None, UTC) == rows[:1]
        )
        assert history.rows([], None, UTC) == []

    def test_markers_say_who_and_why(self) -> None:
        entries = [self.entry(2, self.document(1, 200), self.document(2, 150))]
        edits = [Edit(NOW_S, 2), Edit(NOW_S, 7)]
        assert [edit.note for edit in history.with_notes(edits, entries)] == [
            "ada: edit 2", "by hand",
        ]  # fmt: skip
        assert [edit.note for edit in history.with_notes(edits, [])] == ["", ""]


class TestBatching:
    def shape(self) -> BatchShape:
        def flat(value: float) -> tuple[Series, ...]:
            return (Series("topics", (1.0, 2.0), (value, math.nan)),)

        return replace(
            FakeMetrics().batches(WINDOW),
            mean_rows=flat(10.0),
            mean_tokens=flat(800.0),
            padding_share=flat(0.2),
        )

    def test_a_padded_batch_is_predicted_from_its_area(self) -> None:
        (series,) = batching.predicted_service_s(self.shape())
        assert series.values[0] == pytest.approx(5e-3 + 1e-5 * 1000)
        assert math.isnan(series.values[1])

    def test_a_mean_between_two_sizes_is_predicted_between_them(self) -> None:
        between = replace(self.shape(), mean_rows=(Series("topics", (1.0,), (2.5,)),))
        (series,) = batching.predicted_service_s(between)
        assert list(series.values) == [pytest.approx(5e-3 + 1e-5 * 1000)]

    def test_a_formula_has_units(self) -> None:
        assert batching.formula({"area": 1e-5, "fixed": 5e-3, "area_longest": 0.0}) == (
            "5 ms a batch + 10 µs a token, padding included"
        )
        assert batching.formula({}) == units.MISSING

    def test_steps_of_a_model_that_generates_are_told_and_not_predicted(self) -> None:
        weights = {"fixed": 0.05, "rows": 1e-3, "tokens": 2e-3, "context": 3e-6}
        steps = ServiceModelFit("topics", "paged", weights, 0.03, 900)
        assert batching.predicted_service_s(replace(self.shape(), fits=(steps,))) == []
        (row,) = batching.fit_table([steps])
        assert row["formula"] == (
            "50 ms a batch + 1 ms a row + 2 ms a token + 3 µs a position that is looked back at"
        )

    @pytest.mark.parametrize("packing", Packing)
    def test_every_feature_has_a_meaning(self, packing: Packing) -> None:
        assert set(ServiceTimeModel(packing).names) <= set(batching.FEATURES)

    def test_captured_steps_are_counted(self) -> None:
        weights = {"fixed": 4e-3, "step_64_8": 0.67e-3, "step_128_8": 0.0, "step_256_8": 0.71e-3}
        assert batching.formula(weights) == (
            "2 captured steps of 0.67 ms to 0.71 ms, beyond them 4 ms a batch"
        )


class TestLoadTests:
    def test_only_settings_that_differ_are_compared(self) -> None:
        rows = load_tests.compared_settings([load_run("a", 80.0), load_run("b", 120.0)])
        assert rows == [{"setting": "SLO", "a": "80.0", "b": "120.0"}]

    def test_a_run_is_a_row_for_each_tier(self) -> None:
        (row,) = load_tests.run_table([load_run("a", 80.0)], UTC)
        assert row["sent /s"] == 100
        assert row["p99 ms"] == 80.0

    def test_a_sweep_is_lines_along_a_column(self) -> None:
        (sweep,) = results().sweeps
        assert load_tests.numeric_columns(sweep) == ["rate_per_s", "p99_ms"]  # one batch size
        lines = load_tests.sweep_groups(sweep, "rate_per_s", "p99_ms", ["policy"])
        assert lines["adaptive"] == ([100.0, 200.0, 300.0], [22.0, 32.0, 42.0])
        assert list(load_tests.sweep_groups(sweep, "rate_per_s", "p99_ms", [])) == [""]

    def sweep(self) -> Sweep:
        """Two settings of a policy at two rates, and one cell that was not sent as asked."""
        columns = ("policy", "max_wait_ms", "rate_per_s", "throughput_per_s", "p99_ms", "valid")
        rows = (
            ("adaptive", 0.0, 10.0, 10.0, 20.0, "True"),
            ("adaptive", 0.0, 20.0, 18.0, 40.0, "True"),
            ("constant", 5.0, 10.0, 9.0, 30.0, "True"),
            ("constant", 50.0, 20.0, 20.0, 90.0, "True"),
            ("constant", 5.0, 20.0, 40.0, 1.0, "False"),
        )
        return Sweep("s", columns, rows)

    def test_each_setting_is_a_line_of_its_own(self) -> None:
        sweep = self.sweep()
        by = load_tests.setting_columns(sweep, "rate_per_s")
        assert by == ["policy", "max_wait_ms"]
        lines = load_tests.sweep_groups(sweep, "rate_per_s", "p99_ms", by)
        assert "constant, max_wait_ms 50" in lines
        assert all(along == sorted(set(along)) for along, _ in lines.values())  # no zig-zag

    def test_the_front_is_what_nothing_beats(self) -> None:
        sweep = self.sweep()
        assert load_tests.front_axes(sweep) == ("throughput_per_s", "p99_ms")
        assert load_tests.front(sweep, "throughput_per_s", "p99_ms") == (
            [10.0, 18.0, 20.0], [20.0, 40.0, 90.0],
        )  # fmt: skip
        without = replace(sweep, columns=("policy", "max_wait_ms", "a", "b", "c", "valid"))
        assert load_tests.front_axes(without) is None

    def test_probes_of_a_search_come_behind_and_those_that_failed_last(self) -> None:
        failed = replace(load_run("capacity/9", 1.0), missed=("p99 under 50 ms; seen 80 ms.",))
        runs = [
            replace(failed, name="capacity/9"),
            load_run("capacity/1", 1.0),
            load_run("20261125-steady", 1.0),
            replace(load_run("20261124-steady", 1.0), valid=False),
        ]
        assert [run.name for run in load_tests.in_order(runs)] == [
            "20261125-steady", "20261124-steady", "capacity/1", "capacity/9",
        ]  # fmt: skip


class TestUnits:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.0042, "4.2 ms"), (0.143, "143 ms"), (2.5, "2.50 s"), (600.0, "10 min"), (None, "-")],
    )
    def test_durations(self, seconds: float | None, text: str) -> None:
        assert units.duration(seconds) == text

    @pytest.mark.parametrize(
        ("amount", "text"),
        [(1234.5, "$1,234.50"), (0.00115, "$0.00115"), (0.0, "$0.00"), (math.nan, "-")],
    )
    def test_money(self, amount: float, text: str) -> None:
        assert units.usd(amount) == text

    def test_the_rest(self) -> None:
        assert units.listed(list("abcde")) == "a, b, c and 2 more"
        assert units.share(0.714) == "71%"
        assert [units.share(part) for part in (0.0, 0.0001, 0.003, -0.003)] == [
            *("0%", "<0.1%", "0.3%", "-0.3%")
        ]
        assert units.rate(12.34) == "12.3/s"
        assert units.rate(1234.5) == "1,234/s"
        assert units.count(math.inf) == units.MISSING
        assert units.milliseconds(0.5) == 500


class TestTimes:
    def test_readers_within_a_step_ask_the_same(self) -> None:
        assert times.window_of("1 h", NOW_S) == times.window_of("1 h", NOW_S + 1)
        assert times.window_of("7 d", NOW_S).duration_s == 604_800

    def test_a_range_that_nobody_knows_is_the_default(self) -> None:
        assert times.window_of("for ever", NOW_S).duration_s == 900

    def test_a_zone_that_nobody_knows_is_utc(self) -> None:
        assert times.zone_of("Middle/Earth") is UTC
        assert times.zone_of(None) is UTC
        assert times.clock(0.0, UTC) == "1970-01-01 00:00:00 UTC"


class TestIdentity:
    @staticmethod
    def of(
        trusted_header: str | None = None,
        os_user: str | None = None,
        login: Login | None = None,
        here: bool = True,
    ) -> Callable[[Reader], str | None]:
        return identity(
            trusted_header=trusted_header,
            os_user=os_user,
            login=lambda: login or Login(is_set_up=False),
            at_this_machine=lambda _: here,
        )

    def test_a_login_goes_first_then_a_trusted_header_then_the_os_user(self) -> None:
        headers = {"X-Forwarded-User": "bob\n"}
        behind_proxy = self.of(trusted_header="x-forwarded-user")
        assert behind_proxy(Reader("ada@example.org", headers)) == "ada@example.org"
        assert behind_proxy(Reader(None, headers)) == "bob"
        assert behind_proxy(Reader(None, {})) is None
        alone = self.of(os_user="carol")
        assert alone(Reader(None, headers)) == "carol"
        assert alone(Reader(None, headers, must_log_in=True)) is None

    def test_the_os_user_signs_only_for_a_page_of_this_machine(self) -> None:
        assert self.of(os_user="carol", here=False)(Reader(None, {})) is None

    def test_a_login_that_is_set_up_wrong_lets_nobody_sign(self) -> None:
        wrong = Login(is_set_up=True, problem="It is empty.")
        headers = {"X-Forwarded-User": "bob"}
        assert self.of(os_user="carol", login=wrong)(Reader("ada", headers)) is None
        assert self.of("x-forwarded-user", login=wrong)(Reader(None, headers)) is None

    def test_a_login_that_streamlit_has_not_read_yet_counts(self) -> None:
        assert self.of(os_user="carol", login=Login(is_set_up=True))(Reader(None, {})) is None
