"""The parameter file behind the dashboard: a real folder, and other hands in it."""

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dashboard.changes import changed
from dashboard.ports import Conflict, Missing, NoData, NotAllowed, Refused, SourceDown, Stored
from dashboard.stores.editing import EditedStore
from dashboard.stores.file import FileParameterStore
from dashboard.stores.history import MOST_ENTRIES
from predictor.core.document import commented_document
from predictor.core.parameters import Parameters, parse_document, parse_plain
from predictor.small_files import locked
from predictor.stores.file import FileStore

PLAIN: dict[str, Any] = {
    "generation": 7,
    "models": {"topics": {"max_batch_size": 64}},
    "tiers": {"interactive": {"priority": 1, "slo_ms": 200}, "bulk": {"priority": 2}},
}
NOW_S = 1_700_000_000.0
WHO = {"who": "ada", "reason": "p99 is too high"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "parameters.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    return path


def store(path: Path, *, editable: bool = True) -> FileParameterStore:
    return FileParameterStore(path, editable=editable, clock=lambda: NOW_S)


def proposal(max_batch_size: int = 32, **tiers: Any) -> dict[str, Any]:
    return {
        "models": {"topics": {"max_batch_size": max_batch_size}},
        "tiers": {**PLAIN["tiers"], **tiers},
    }


def test_what_is_refused_is_replaced_by_a_generation_of_the_history(path: Path) -> None:
    subject = store(path)
    subject.apply(proposal(), expected=subject.read(), **WHO)
    path.write_text("generation: 12\nmodels: {topics: {max_batch_size: many}}\n")
    with pytest.raises(Refused, match=r"are wrong: models\.topics\.max_batch_size"):
        subject.read()
    after = subject.roll_back(8, expected=None, **WHO)
    assert after == subject.read()
    assert after.parameters.generation == 13
    assert after.parameters.for_model("topics").max_batch_size == 32
    newest, _ = subject.history()
    assert (newest.generation, newest.changes) == (13, ())
    assert "many" in newest.before


@pytest.mark.parametrize("wrong", [b"{generation: 7", b"\xff\xfe", b"generation: 1e999", b""])
def test_whatever_is_refused_can_be_replaced(path: Path, wrong: bytes) -> None:
    subject = store(path)
    subject.apply(proposal(), expected=subject.read(), **WHO)
    path.write_bytes(wrong)
    assert subject.roll_back(7, expected=None, **WHO).parameters.generation == 9


def test_a_deleted_file_is_put_back_from_the_history(path: Path) -> None:
    subject = store(path)
    before = subject.read()
    edit = subject.apply(proposal(), expected=before, **WHO)
    path.unlink()
    with pytest.raises(Missing, match="is not there"):
        subject.read()
    with pytest.raises(Conflict, match="deleted meanwhile"):
        subject.apply(proposal(16), expected=edit, **WHO)
    assert not path.exists()
    after = subject.roll_back(8, expected=None, **WHO)
    assert after == subject.read()
    assert after.parameters.generation == 9
    assert after.parameters.for_model("topics").max_batch_size == 32
    path.unlink()
    with pytest.raises(NoData):
        subject.roll_back(5, expected=None, **WHO)


def test_a_number_that_the_history_has_given_is_given_to_no_other_edit(path: Path) -> None:
    subject = store(path)
    for size in (32, 16, 8):
        subject.apply(proposal(size), expected=subject.read(), **WHO)  # 8, 9, 10
    path.write_text(yaml.safe_dump({**PLAIN, "generation": 8}))
    after = subject.apply(proposal(4), expected=subject.read(), **WHO)
    assert after.parameters.generation == 11
    generations = [entry.generation for entry in subject.history()]
    assert len(set(generations)) == len(generations)


def test_what_is_right_again_is_not_replaced_as_wrong(path: Path) -> None:
    subject = store(path)
    after = subject.apply(proposal(), expected=subject.read(), **WHO)
    with pytest.raises(Conflict, match="right by now"):
        subject.roll_back(7, expected=None, **WHO)
    with pytest.raises(NotAllowed):
        store(path, editable=False).roll_back(7, expected=None, **WHO)
    assert subject.read() == after


def test_an_edit_is_in_place_one_generation_later_and_says_who_and_why(path: Path) -> None:
    subject = store(path)
    before = subject.read()
    after = subject.apply(proposal(), expected=before, **WHO)
    assert after == subject.read()
    assert after.parameters.generation == 8
    assert after.parameters.for_model("topics").max_batch_size == 32
    (entry,) = subject.history()
    assert (entry.generation, entry.time_s, entry.who, entry.reason) == (
        8,
        NOW_S,
        "ada",
        "p99 is too high",
    )
    (change,) = entry.changes
    assert (change.field, change.before, change.after) == ("models.topics.max_batch_size", 64, 32)
    assert (entry.before, entry.after) == (before.document, after.document)


def test_the_predictor_reads_what_was_written(path: Path) -> None:
    subject = store(path)
    written = subject.apply(proposal(), expected=subject.read(), **WHO)
    assert FileStore(path).load() == written.parameters
    assert "# Most rows in a batch." in path.read_text()


def test_json_stays_json(path: Path) -> None:
    path.write_text(json.dumps(PLAIN))
    subject = store(path)
    subject.apply(proposal(), expected=subject.read(), **WHO)
    assert json.loads(path.read_text())["generation"] == 8


def test_two_editors_of_one_generation_conflict_and_nothing_is_lost(path: Path) -> None:
    one, other = store(path), store(path)
    seen = other.read()
    one.apply(proposal(32), expected=one.read(), **WHO)
    in_place = path.read_bytes()
    with pytest.raises(Conflict, match="You edited generation 7, but 8 is in place"):
        other.apply(proposal(16), expected=seen, **WHO)
    assert path.read_bytes() == in_place
    assert len(other.history()) == 1


def test_an_edit_by_hand_that_kept_the_generation_conflicts(path: Path) -> None:
    subject = store(path)
    seen = subject.read()
    path.write_text(path.read_text() + "# by hand\n")
    with pytest.raises(Conflict, match="Generation 7 was changed in place"):
        subject.apply(proposal(), expected=seen, **WHO)
    path.write_text("tiers: {")
    with pytest.raises(Conflict, match="are wrong"):
        subject.apply(proposal(), expected=seen, **WHO)


def test_the_lock_is_the_one_that_the_predictors_tools_take(path: Path) -> None:
    subject = store(path)
    with locked(path.parent), pytest.raises(Conflict, match="Another edit is being written"):
        subject.apply(proposal(), expected=subject.read(), **WHO)
    assert subject.history() == []


def test_what_the_predictor_would_refuse_is_refused_with_its_field(path: Path) -> None:
    subject = store(path)
    with pytest.raises(Refused) as refused:
        subject.check(proposal(0))
    assert refused.value.field == "models.topics.max_batch_size"
    with pytest.raises(Refused):
        subject.apply(proposal(0), expected=subject.read(), **WHO)
    assert subject.check(proposal(1)).for_model("topics").max_batch_size == 1
    assert subject.read().parameters.generation == 7


def test_an_edit_that_changes_nothing_or_has_no_reason_is_refused(path: Path) -> None:
    subject = store(path)
    seen = subject.read()
    with pytest.raises(Refused, match="Nothing differs"):
        subject.apply(proposal(64), expected=seen, **WHO)
    with pytest.raises(Refused) as refused:
        subject.apply(proposal(), expected=seen, who="ada", reason="  ")
    assert refused.value.field == "reason"


def test_who_may_not_edit_does_not(path: Path) -> None:
    reader = store(path, editable=False)
    seen = reader.read()
    with pytest.raises(NotAllowed, match="only reads"):
        reader.apply(proposal(), expected=seen, **WHO)
    with pytest.raises(NotAllowed, match="sign in"):
        store(path).apply(proposal(), expected=seen, who="", reason="why")
    assert reader.read() == seen


def test_a_roll_back_is_a_new_edit(path: Path) -> None:
    subject = store(path)
    original = subject.read().parameters
    subject.apply(proposal(32), expected=subject.read(), **WHO)
    subject.apply(proposal(16), expected=subject.read(), **WHO)
    for generation, size in ((8, 32), (7, 64)):
        rolled = subject.roll_back(generation, expected=subject.read(), **WHO)
        assert rolled.parameters.for_model("topics").max_batch_size == size
    assert rolled.parameters.generation == 11
    assert changed(original, rolled.parameters) == ()
    with pytest.raises(NoData, match="generation 3"):
        subject.roll_back(3, expected=rolled, **WHO)


def test_history_is_bounded_and_survives_a_broken_line(path: Path) -> None:
    subject = store(path)
    history = path.with_name(path.name + ".history.jsonl")
    stored = subject.apply(proposal(1), expected=subject.read(), **WHO)
    line = history.read_bytes()
    history.write_bytes(b"broken\n" + line * (MOST_ENTRIES + 5))
    subject.apply(proposal(2), expected=stored, **WHO)
    assert len(history.read_bytes().splitlines()) == MOST_ENTRIES
    assert subject.history(1)[0].changes[0].after == 2


def test_a_missing_or_wrong_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    subject = store(tmp_path / "none.yaml")
    with pytest.raises(SourceDown, match="is not there"):
        subject.read()
    subject = store(tmp_path)
    with pytest.raises(SourceDown, match="no regular file"):
        subject.read()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("generation: 1\ntiers: {a: {}}")
    with pytest.raises(Refused, match="in place are wrong"):
        store(wrong).read()


def test_a_file_that_is_one_byte_too_long_is_refused(path: Path) -> None:
    path.write_text(yaml.safe_dump(PLAIN) + "#" * (1 << 17))
    with pytest.raises(SourceDown, match="is over"):
        store(path).read()


NAMES = st.text(min_size=1, max_size=12).filter(str.isprintable)
MODELS = st.fixed_dictionaries(
    {},
    optional={
        "max_batch_size": st.integers(1, 4096),
        "max_wait_ms": st.floats(0, 60_000),
        "policy": st.sampled_from(["adaptive", "constant"]),
    },
)
TIERS = st.fixed_dictionaries(
    {"weight": st.floats(1e-12, 1e6), "slo_ms": st.none() | st.floats(1e-9, 3_600_000)}
)


@st.composite
def documents(draw: st.DrawFn) -> Parameters:
    tiers = draw(st.dictionaries(NAMES, TIERS, min_size=1, max_size=4))
    plain = {
        "generation": draw(st.integers(0, 1 << 53)),
        "models": draw(st.dictionaries(NAMES, MODELS, max_size=4)),
        "tiers": {
            name: {"priority": place + 1, **tier}
            for place, (name, tier) in enumerate(tiers.items())
        },
    }
    return parse_plain(plain)


@given(documents())
def test_any_parameters_survive_being_written_as_text(parameters: Parameters) -> None:
    assert parse_document(commented_document(parameters).encode()) == parameters


class Editors(RuleBasedStateMachine):
    """Two people and a hand in one place: whoever saw the newest bytes wins, nobody else."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()
        self.put(yaml.safe_dump(PLAIN))
        self.stores = [self.store(), self.store()]
        self.seen: list[Stored] = [each.read() for each in self.stores]
        self.edits = 0

    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "parameters.yaml"

    def store(self) -> EditedStore:
        return store(self.path)

    def put(self, text: str) -> None:
        self.path.write_text(text)

    def lies_there(self) -> str:
        return self.path.read_text()

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(who=st.integers(0, 1))
    def looks(self, who: int) -> None:
        self.seen[who] = self.stores[who].read()

    @rule(who=st.integers(0, 1), size=st.integers(1, 99))
    def edits_what_was_seen(self, who: int, size: int) -> None:
        seen, in_place = self.seen[who], self.lies_there()
        same = seen.parameters.for_model("topics").max_batch_size == size
        try:
            self.seen[who] = self.stores[who].apply(proposal(size), expected=seen, **WHO)
        except Conflict:
            assert in_place != seen.document
            assert self.lies_there() == in_place
        except Refused:
            assert same
        else:
            assert in_place == seen.document
            self.edits += 1

    @rule(size=st.integers(1, 99))
    def is_edited_by_hand(self, size: int) -> None:
        plain = msgspec.to_builtins(parse_document(self.lies_there().encode()))
        plain["models"]["topics"]["max_batch_size"] = size
        self.put(yaml.safe_dump(plain))

    @invariant()
    def the_document_is_whole_and_every_edit_is_in_the_history(self) -> None:
        parse_document(self.lies_there().encode())
        assert len(self.stores[0].history(MOST_ENTRIES)) == self.edits


TestEditors = Editors.TestCase
TestEditors.settings = settings(
    max_examples=20, stateful_step_count=15, suppress_health_check=list(HealthCheck), deadline=None
)
