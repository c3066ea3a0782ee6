"""What pages say, from facts alone: verdicts, money, take-hold, tables."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest

from dashboard.identity import identity
from dashboard.login import Login
from dashboard.parts import Reader
from dashboard.ports import (
    BatchShape,
    HistoryEntry,
    Pool,
    PoolUse,
    Price,
    Series,
    ServiceModelFit,
    TierNow,
    Token,
    TokenTimes,
)
from dashboard.views import batching, costs, load_tests, overview, times, tuning, units
from dashboard.views.draft import Place, checked, edited
from predictor.core.parameters import DEFAULT_PARAMETERS, GENERATING_PARAMETERS
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

    def test_the_table_downloads_as_csv(self) -> None:
        table = costs.cost_table(costs.pool_costs([use(Pool.SPOT)], PRICES))
        head, first, *_ = costs.as_csv(table).splitlines()
        assert head == 'pool,part,USD,share of the pool,"USD per 1,000 requests"'
        assert first.startswith("spot,interactive,0.6")
        assert costs.as_csv([]) == ""


class TestOverview:
    def tier(self, **changed: Any) -> TierNow:
        made = TierNow("topics", "interactive", 0.02, 0.08, 0.143, 10, 10, 10, 0, 0, 0, 0, 0.5)
        return replace(made, **changed)

    def test_a_late_tier_is_not_well(self) -> None:
        said = overview.verdict([self.tier(p99_s=0.25)], DEFAULT_PARAMETERS, [], [])
        assert said == overview.Verdict("Interactive p99 is 250 ms of 200 ms.", well=False)

    def test_tokens_are_judged_instead_of_whole_texts(self) -> None:
        times = TokenTimes(0.1, 2.0, 0.1, 1.5)
        tier = self.tier(p99_s=40.0, tokens=times)
        said = overview.verdict([tier], GENERATING_PARAMETERS, [], [])
        assert said == overview.Verdict(
            "Interactive first token p99 is 2.00 s of 10.00 s;"
            " interactive next tokens p99 is 1.50 s of 1.00 s.",
            well=False,
        )
        kept = replace(tier, tokens=replace(times, next_p99_s=0.9))
        assert overview.verdict([kept], GENERATING_PARAMETERS, [], []).well

    def test_only_tiers_that_generated_are_told_of_tokens(self) -> None:
        texts = self.tier(model="chat", tokens=TokenTimes(0.1, 2.0, 0.1, None))
        (row,) = overview.token_table([self.tier(), texts], GENERATING_PARAMETERS)
        assert row["tier"] == "chat/interactive"
        assert (row["first token SLO ms"], row["next tokens SLO ms"]) == (10_000, 1000)
        assert (row["first token p99 ms"], row["next tokens p99 ms"]) == (2000, None)
        assert overview.token_table([self.tier()], GENERATING_PARAMETERS) == []
        slo = [
            each["SLO ms"] for each in overview.tier_table([self.tier(), texts], DEFAULT_PARAMETERS)
        ]
        assert slo == [200, None]

    def test_whole_answers_have_an_slo_where_some_model_gives_them(self) -> None:
        texts = self.tier(model="chat", tokens=TokenTimes(0.1, 2.0, 0.1, 0.2))
        assert overview.answer_slos_s([texts], DEFAULT_PARAMETERS) == {}
        for tiers in ([], [self.tier()], [self.tier(), texts]):
            assert overview.answer_slos_s(tiers, DEFAULT_PARAMETERS) == {"interactive": 0.2}
        assert overview.token_slos_s(GENERATING_PARAMETERS, Token.NEXT) == {"interactive": 1.0}
        assert overview.token_slos_s(DEFAULT_PARAMETERS, Token.NEXT) == {}
        assert overview.token_slos_s(None, Token.FIRST) == {}

    def test_refusals_are_said(self) -> None:
        said = overview.verdict([self.tier(refused_per_s=2.0)], DEFAULT_PARAMETERS, [], [])
        assert "20% of interactive is refused" in said.text
        assert not said.well

    def test_a_dearer_spot_pool_is_said(self) -> None:
        uses = [use(Pool.SPOT, completed=250.0), use(Pool.ON_DEMAND)]
        said = overview.verdict([], DEFAULT_PARAMETERS, costs.pool_costs(uses, PRICES), [])
        assert said.text == "The spot pool is 100% dearer per request."

    def test_nothing_known_is_no_good_news(self) -> None:
        said = overview.verdict([], None, [], [])
        assert said == overview.Verdict("Nothing was measured in this time range.", well=False)

    def test_replicas_on_two_generations_are_not_well(self) -> None:
        metrics = FakeMetrics()
        metrics.move_to(2, replicas=1)
        said = overview.verdict([], None, [], metrics.fleet)
        assert said == overview.Verdict("1 of 2 replicas on generation 2.", well=False)

    def test_several_models_are_told_apart_in_the_table(self) -> None:
        rows = overview.tier_table(
            [self.tier(), replace(self.tier(), model="speech")], DEFAULT_PARAMETERS
        )
        assert [row["tier"] for row in rows] == ["topics/interactive", "speech/interactive"]
        assert rows[0]["SLO ms"] == 200

    def test_tiers_without_an_slo_have_none(self) -> None:
        assert overview.slos_s(DEFAULT_PARAMETERS) == {"interactive": 0.2}
        assert overview.slos_s(None) == {}


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
        assert tuning.value_per_replica(size, [], known) == "no replica answers"

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

    def test_a_document_that_cannot_be_read_has_no_generation(self) -> None:
        assert tuning.generation_of(document_of(DEFAULT_PARAMETERS)) == 1
        assert tuning.generation_of("") is None


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
        assert load_tests.numeric_columns(sweep) == ["max_batch_size", "rate_per_s", "p99_ms"]
        lines = load_tests.sweep_groups(sweep, "rate_per_s", "p99_ms", "policy")
        assert lines["adaptive"] == ([100.0, 200.0, 300.0], [22.0, 32.0, 42.0])
        assert list(load_tests.sweep_groups(sweep, "rate_per_s", "p99_ms", None)) == [""]


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
