"""The Tuning page as an operator uses it: edit, preview, apply, follow, roll back."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import TextInput

from dashboard.ports import Conflict, Refused
from dashboard.views.draft import Place, edited
from predictor.core.parameters import DEFAULT_PARAMETERS, parse_plain
from tests.dashboard.fakes import DOWN, EMPTY, FakeParts, down, empty
from tests.dashboard.nasty import drawn
from tests.dashboard.test_pages import assert_sound, sentences

Open = Callable[[str], AppTest]
SIZE = Place("models", "topics", "max_batch_size")
SLO = Place("tiers", "interactive", "slo_ms")


def field(app: AppTest, place: Place, version: str = "v1", number: int = 0) -> TextInput:
    return app.text_input(key=f"knob:{number}:{version}:{place}")


def type_into(app: AppTest, place: Place, text: str) -> AppTest:
    return field(app, place).set_value(text).run()


def give_reason(app: AppTest, reason: str) -> AppTest:
    return app.text_input(key="tuning-reason:0").set_value(reason).run()


def apply(app: AppTest) -> AppTest:
    return app.button(key="tuning-apply").click().run()


def test_every_knob_has_a_field_with_what_is_in_force(open_page: Open) -> None:
    app = open_page("tuning")
    assert field(app, SIZE).value == "64"
    assert field(app, SLO).value == "200"
    assert app.selectbox(key=f"knob:0:v1:{Place('models', 'topics', 'policy')}").value == "adaptive"
    assert "Range: ≥ 1 and ≤ 4,096." in field(app, SIZE).help
    assert "In force: 64 on 2 replicas" in [drawn(each.value)[0] for each in app.caption]


def test_a_bad_value_is_told_as_typed_and_cannot_be_applied(open_page: Open) -> None:
    app = type_into(open_page("tuning"), SIZE, "5000")
    assert (
        "max_batch_size: must be a whole number, at most 4096. Range: ≥ 1 and ≤ 4,096."
        in sentences(app)
    )
    assert app.button(key="tuning-apply").disabled
    assert app.button(key="tuning-preview").disabled
    app = type_into(app, SIZE, "32")
    assert not app.error
    assert not app.button(key="tuning-preview").disabled


def test_an_edit_is_applied_with_who_and_why_and_followed(
    open_page: Open, fakes: FakeParts
) -> None:
    app = type_into(open_page("tuning"), SIZE, "32")
    assert app.button(key="tuning-apply").disabled  # no reason yet
    app = apply(give_reason(app, "smaller batches"))
    assert_sound(app)
    (entry,) = fakes.store.entries
    assert (entry.who, entry.reason) == ("ada", "smaller batches")
    assert fakes.store.parameters.for_model("topics").max_batch_size == 32
    assert "Generation 2 is in force on 0 of 2 replicas." in app.info[0].value
    fakes.metrics.move_to(2, replicas=1)
    app.run()
    assert drawn(app.info[0].value)[0] == (
        "Generation 2 is in force on 1 of 2 replicas. Waiting for 127.0.0.1:8090."
    )
    fakes.metrics.move_to(2, replicas=2)
    app.run()
    assert app.success[0].value == "Generation 2 is in force on 2 of 2 replicas."
    assert field(app, SIZE, "v2", 1).value == "32"


def test_the_preview_asks_about_the_edit_and_about_what_is_in_force(
    open_page: Open, fakes: FakeParts
) -> None:
    app = type_into(open_page("tuning"), SIZE, "32")
    app.button(key="tuning-preview").click().run()
    assert_sound(app)
    in_force, edit = fakes.preview.questions
    assert in_force.parameters == DEFAULT_PARAMETERS
    assert edit.parameters.for_model("topics").max_batch_size == 32
    assert edit == replace(in_force, parameters=edit.parameters)
    assert in_force.replicas == 2
    assert in_force.usd_per_replica_hour == pytest.approx(1.62)
    busy = next(metric for metric in app.metric if metric.label == "Device busy")
    assert (busy.value, busy.delta) == ("66%", "in force 66%, measured 71%")
    app = type_into(app, SIZE, "16")
    assert "The edits have changed since this preview; press Preview again." in sentences(app)
    assert fakes.store.parameters == DEFAULT_PARAMETERS


def test_a_preview_of_nothing_edited_is_asked_once(open_page: Open, fakes: FakeParts) -> None:
    app = open_page("tuning")
    app.button(key="tuning-preview").click().run()
    assert_sound(app)
    (question,) = fakes.preview.questions
    assert question.parameters == DEFAULT_PARAMETERS
    changes = [table.value for table in app.dataframe if "change by the edit" in table.value]
    assert [set(table["change by the edit"]) for table in changes] == [{"none"}]


def test_a_simulator_that_is_far_off_says_so(open_page: Open, fakes: FakeParts) -> None:
    fakes.preview.p99_s = 0.053  # 143 ms are measured
    app = open_page("tuning")
    app.button(key="tuning-preview").click().run()
    assert_sound(app)
    (said,) = [each for each in sentences(app) if "simulator" in each]
    assert said.startswith(
        "The simulator is 63% off in p99 of topics/interactive: 53 ms simulated, 143 ms measured."
    )


def test_a_preview_without_traffic_says_so(open_page: Open, fakes: FakeParts) -> None:
    fakes.preview.trouble = empty()
    app = open_page("tuning")
    app.button(key="tuning-preview").click().run()
    assert_sound(app)
    assert EMPTY in sentences(app)


def test_a_conflict_is_shown_and_nothing_overwritten(open_page: Open, fakes: FakeParts) -> None:
    app = give_reason(type_into(open_page("tuning"), SIZE, "32"), "mine")
    theirs = edited(DEFAULT_PARAMETERS, {SIZE: 48, SLO: 150.0})
    fakes.store.apply(theirs, expected=fakes.store.read(), who="bob", reason="theirs")
    app = apply(app)
    assert_sound(app)
    (entry,) = fakes.store.entries
    assert entry.who == "bob"
    told = "\n".join([*sentences(app), *(each.value for each in app.text)])
    assert "Generation 2 was applied by bob (theirs) while you edited generation 1" in told
    assert app.button(key="tuning-apply").disabled
    assert [each for each in app.caption if each.value.startswith("Someone else edited")]
    assert "Theirs: tiers.interactive.slo_ms: 200 → 150" in told
    assert "Both of you changed models.topics.max_batch_size." in told
    # On top of theirs: mine wins where both changed, theirs stays elsewhere.
    app.button(key="tuning-rebase").click().run()
    assert field(app, SIZE, "v2").value == "32"
    assert field(app, SLO, "v2").value == "150"
    apply(give_reason(app, "mine, on top"))
    assert fakes.store.parameters.for_model("topics").max_batch_size == 32
    assert fakes.store.parameters.tiers["interactive"].slo_ms == 150


def test_what_is_typed_just_as_another_edits_is_kept(open_page: Open, fakes: FakeParts) -> None:
    app = open_page("tuning")
    theirs = edited(DEFAULT_PARAMETERS, {SLO: 150})
    fakes.store.apply(theirs, expected=fakes.store.read(), who="bob", reason="theirs")
    app = type_into(app, SIZE, "32")
    app.button(key="tuning-rebase").click().run()
    assert field(app, SIZE, "v2").value == "32"
    assert field(app, SLO, "v2").value == "150"


def test_edits_can_be_dropped_for_those_of_another(open_page: Open, fakes: FakeParts) -> None:
    app = type_into(open_page("tuning"), SIZE, "32")
    theirs = edited(DEFAULT_PARAMETERS, {SIZE: 48})
    fakes.store.apply(theirs, expected=fakes.store.read(), who="bob", reason="theirs")
    app.run()
    app.button(key="tuning-restart").click().run()
    assert field(app, SIZE, "v2", 1).value == "48"
    assert not app.warning


def test_a_store_that_is_faster_than_the_page_is_a_sentence(
    open_page: Open, fakes: FakeParts
) -> None:
    fakes.store.refusal = Conflict("Someone else was faster; look at their edit first.")
    app = apply(give_reason(type_into(open_page("tuning"), SIZE, "32"), "mine"))
    assert_sound(app)
    assert "Not applied. Someone else was faster; look at their edit first." in sentences(app)
    assert field(app, SIZE).value == "32"


def test_a_store_that_refuses_keeps_the_edit(open_page: Open, fakes: FakeParts) -> None:
    fakes.store.refusal = Refused("tiers: at least one tier is needed", "tiers")
    app = apply(give_reason(type_into(open_page("tuning"), SIZE, "32"), "mine"))
    assert_sound(app)
    assert "Not applied. tiers: at least one tier is needed" in sentences(app)
    assert field(app, SIZE).value == "32"


def test_an_edit_outlives_refreshes_and_other_pages(open_page: Open, fakes: FakeParts) -> None:
    app = type_into(open_page("tuning"), SIZE, "32")
    fakes.now_s += 600
    app.run()
    app.switch_page("app_pages/latency.py").run()
    app.switch_page("app_pages/tuning.py").run()
    assert field(app, SIZE).value == "32"
    assert not app.button(key="tuning-drop").disabled


def test_edits_can_be_dropped(open_page: Open) -> None:
    app = type_into(open_page("tuning"), SIZE, "32")
    app.button(key="tuning-drop").click().run()
    assert_sound(app)
    assert field(app, SIZE, number=1).value == "64"


def test_read_only_shows_all_and_changes_nothing(open_page: Open, fakes: FakeParts) -> None:
    fakes.store.editable = False
    app = give_reason(type_into(open_page("tuning"), SIZE, "32"), "mine")
    assert_sound(app)
    assert app.button(key="tuning-apply").disabled
    assert [each for each in app.caption if each.value.startswith("Read-only")]
    assert not app.button(key="tuning-preview").disabled


def test_nobody_edits_without_a_name(open_page: Open, fakes: FakeParts) -> None:
    fakes.name = None
    app = give_reason(type_into(open_page("tuning"), SIZE, "32"), "mine")
    assert_sound(app)
    assert app.button(key="tuning-apply").disabled
    assert [each for each in app.caption if "log in" in each.value]


def test_a_roll_back_asks_why(open_page: Open, fakes: FakeParts) -> None:
    app = apply(give_reason(type_into(open_page("tuning"), SIZE, "32"), "smaller"))
    fakes.metrics.move_to(2, replicas=2)
    app.run()
    app.button(key="roll-back-1").click().run()
    assert fakes.store.parameters.generation == 2
    assert app.button(key="roll-back-1-do").disabled
    app.button(key="roll-back-1-leave").click().run()
    assert not [each for each in app.button if each.key == "roll-back-1-do"]
    app.button(key="roll-back-1").click().run()
    app.text_input(key="roll-back-1-reason").set_value("it was worse").run()
    app.button(key="roll-back-1-do").click().run()
    assert_sound(app)
    assert fakes.store.parameters.generation == 3
    assert fakes.store.parameters.for_model("topics").max_batch_size == 64
    assert fakes.store.entries[0].reason == "Roll back to generation 1: it was worse"
    assert [each for each in app.text if "ada: Roll back to generation 1" in each.value]


def test_who_cannot_roll_back_reads_why(open_page: Open, fakes: FakeParts) -> None:
    app = apply(give_reason(type_into(open_page("tuning"), SIZE, "32"), "smaller"))
    fakes.store.editable = False
    app.run()
    button = app.button(key="roll-back-1")
    assert button.disabled
    assert button.help.startswith("Read-only")


def test_an_edit_of_another_tab_shows_in_the_history(open_page: Open, fakes: FakeParts) -> None:
    app = open_page("tuning")
    theirs = edited(DEFAULT_PARAMETERS, {SLO: 150})
    fakes.store.apply(theirs, expected=fakes.store.read(), who="bob", reason="theirs")
    app.run()
    assert [each for each in app.text if "bob: theirs" in each.value]


def test_an_edit_by_hand_is_said_and_stands_in_the_history(
    open_page: Open, fakes: FakeParts
) -> None:
    app = apply(give_reason(type_into(open_page("tuning"), SIZE, "32"), "smaller"))
    fakes.metrics.move_to(2, replicas=2)
    fakes.store.parameters = parse_plain(
        {**edited(fakes.store.parameters, {SLO: 150}), "generation": 1}
    )
    app.run()
    assert_sound(app)
    (warning,) = app.warning
    assert drawn(warning.value)[0].startswith("Edited by hand: nobody and nothing says who and why")
    assert "generation 1 is no new number" in drawn(warning.value)[0]
    assert "tiers.interactive.slo_ms: 200 → 150" in drawn(warning.value)[0]
    assert [each for each in app.text if each.value.startswith("Generation 1. Edited by hand")]


def test_an_edited_field_is_marked_and_what_has_no_effect_looks_so(open_page: Open) -> None:
    wait = Place("models", "topics", "max_wait_ms")
    app = open_page("tuning")
    assert field(app, wait).disabled
    assert not field(app, SIZE).disabled
    idle = [drawn(each.value)[0] for each in app.caption if "No effect" in each.value]
    assert idle == ["In force: 10 on 2 replicas. No effect under the adaptive policy."]
    app = type_into(app, SIZE, "32")
    (marked,) = [each.value for each in app.caption if each.value.startswith(":orange-badge")]
    assert "64 on 2 replicas" in marked
    policy = f"knob:0:v1:{Place('models', 'topics', 'policy')}"
    app.selectbox(key=policy).set_value("constant").run()
    assert not field(app, wait).disabled
    assert field(app, Place("tiers", "bulk", "max_slice_ms")).disabled
    app = type_into(app, wait, "20")
    app.selectbox(key=policy).set_value("adaptive").run()
    assert not field(app, wait).disabled  # so that the edit can be taken back


def test_a_replica_that_hangs_is_named_and_counts(open_page: Open, fakes: FakeParts) -> None:
    first, second = fakes.metrics.fleet
    fakes.metrics.fleet = (first, replace(second, up=False, silent=True))
    app = open_page("tuning")
    (said,) = app.info
    assert drawn(said.value)[0] == (
        "Generation 1 is in force on 1 of 2 replicas."
        " 127.0.0.1:8090 silent: whether it has it is not known."
    )
    assert "In force: 64 on 1 replica" in [drawn(each.value)[0] for each in app.caption]


def test_prometheus_away_is_said_once_and_not_at_each_field(
    open_page: Open, fakes: FakeParts
) -> None:
    fakes.metrics.trouble = down()
    app = open_page("tuning")
    assert sentences(app) == [DOWN]
    assert "In the document: 200" in [drawn(each.value)[0] for each in app.caption]
    assert not [each for each in app.caption if "no replica" in each.value]


def test_the_store_down_is_said_and_the_page_stands(open_page: Open, fakes: FakeParts) -> None:
    fakes.store.trouble = down()
    app = open_page("tuning")
    assert_sound(app)
    assert DOWN in sentences(app)
