"""The ConfigMap behind the dashboard: a real client, a server that speaks the protocol, others."""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from dashboard.ports import Conflict, NotAllowed, Refused, SourceDown, Stored
from dashboard.stores.config_map import HISTORY_KEY, MOST_HISTORY_BYTES, ConfigMapParameterStore
from predictor.core.parameters import MAX_DOCUMENT_BYTES, parse_document
from tests.dashboard.test_store import NOW_S, PLAIN, WHO, Editors, proposal
from tests.kubernetes_api.access import PLACE, write_kubeconfig
from tests.kubernetes_api.server import DASHBOARD, ApiServer

DOCUMENT = yaml.safe_dump(PLAIN)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer().serving() as api, pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("access") / "kubeconfig"
        patch.setenv("KUBECONFIG", str(write_kubeconfig(path, api.url, DASHBOARD)))
        yield api


@pytest.fixture
def api(server: ApiServer) -> ApiServer:
    server.renew()
    server.put(parameters_yaml=DOCUMENT)
    return server


def store(*, editable: bool = True) -> ConfigMapParameterStore:
    return ConfigMapParameterStore(PLACE, editable=editable, clock=lambda: NOW_S)


def test_an_edit_and_its_record_are_one_patch(api: ApiServer) -> None:
    api.put(parameters_yaml=DOCUMENT, other_key="stays")
    subject = store()
    before = subject.read()
    version = api.version
    after = subject.apply(proposal(), expected=before, **WHO)
    assert api.version == version + 1
    assert after == subject.read()
    assert after.parameters.generation == 8
    (entry,) = subject.history()
    assert (entry.generation, entry.time_s, entry.who, entry.reason) == (
        *(8, NOW_S, "ada"),
        "p99 is too high",
    )
    assert (entry.before, entry.after) == (before.document, after.document)
    assert parse_document(api.data["parameters.yaml"].encode()) == after.parameters
    assert api.data["other.key"] == "stays"
    assert set(api.asked) == {"get", "patch"}  # the rights that it needs
    assert subject.place == "ConfigMap headway/headway-parameters"


def test_a_roll_back_is_a_new_edit(api: ApiServer) -> None:
    subject = store()
    subject.apply(proposal(32), expected=subject.read(), **WHO)
    rolled = subject.roll_back(7, expected=subject.read(), **WHO)
    assert rolled.parameters.generation == 9
    assert rolled.parameters.for_model("topics").max_batch_size == 64


# Others


def test_two_editors_of_one_generation_conflict_and_nothing_is_lost(api: ApiServer) -> None:
    one, other = store(), store()
    seen = other.read()
    one.apply(proposal(32), expected=one.read(), **WHO)
    in_place = api.data
    with pytest.raises(Conflict, match="You edited generation 7, but 8 is in place"):
        other.apply(proposal(16), expected=seen, **WHO)
    assert api.data == in_place


def test_of_many_who_edit_at_the_same_moment_one_does(api: ApiServer) -> None:
    subject, together = store(), Barrier(8)
    seen = subject.read()

    def edit(number: int) -> Stored | None:
        together.wait(30)
        with contextlib.suppress(Conflict):
            return subject.apply(proposal(number + 1), expected=seen, **WHO)
        return None

    with ThreadPoolExecutor(8) as people:
        (winner,) = [each for each in people.map(edit, range(8)) if each]
    assert subject.read() == winner
    assert len(subject.history()) == 1


def test_an_edit_by_hand_between_reading_and_writing_is_not_overwritten(api: ApiServer) -> None:
    subject = store()
    seen = subject.read()
    by_hand = DOCUMENT + "# by hand\n"
    api.before_patch = lambda: api.put(parameters_yaml=by_hand)
    with pytest.raises(Conflict, match="Generation 7 was changed in place"):
        subject.apply(proposal(), expected=seen, **WHO)
    assert api.data == {"parameters.yaml": by_hand}


def test_who_writes_a_label_meanwhile_is_in_nobodys_way(api: ApiServer) -> None:
    subject = store()
    api.before_patch = lambda: api.label(team="search")
    subject.apply(proposal(), expected=subject.read(), **WHO)
    assert subject.read().parameters.generation == 8
    assert api.found()["metadata"]["labels"] == {"team": "search"}
    assert api.asked.count("patch") == 2


def test_where_others_never_stop_writing_it_is_told(api: ApiServer) -> None:
    def label() -> None:
        api.label(at=str(api.version))
        api.before_patch = label

    api.before_patch = label
    with pytest.raises(Conflict, match="Others write ConfigMap headway/headway-parameters"):
        store().apply(proposal(), expected=store().read(), **WHO)
    assert api.data == {"parameters.yaml": DOCUMENT}


# What is wrong


def test_a_missing_right_to_read_is_told(api: ApiServer) -> None:
    api.rights = {DASHBOARD: {"patch"}}
    with pytest.raises(SourceDown, match=r"\(403\); give it a Role with get and patch on config"):
        store().read()
    api.rights = {}
    with pytest.raises(SourceDown, match=r"does not know who asks \(401\)"):
        store().history()


def test_a_missing_right_to_write_is_told(api: ApiServer) -> None:
    api.rights = {DASHBOARD: {"get"}}
    subject = store()
    with pytest.raises(NotAllowed, match=r"Role with get and patch .* cannot patch resource"):
        subject.apply(proposal(), expected=subject.read(), **WHO)
    with pytest.raises(NotAllowed, match="only reads"):
        store(editable=False).apply(proposal(), expected=subject.read(), **WHO)
    assert api.asked.count("patch") == 1
    assert api.data == {"parameters.yaml": DOCUMENT}


def test_one_that_is_missing_is_told(api: ApiServer) -> None:
    subject = store()
    seen = subject.read()
    api.delete()
    with pytest.raises(SourceDown, match=r"does not exist; create it, with the key param"):
        subject.read()
    with pytest.raises(SourceDown, match="does not exist"):
        subject.apply(proposal(), expected=seen, **WHO)


@pytest.mark.parametrize("wrong", [{}, {"parameters_yaml": "generation: 9\ntiers: ["}])
def test_one_without_a_good_document_goes_back_to_the_history(
    api: ApiServer, wrong: dict[str, str]
) -> None:
    subject = store()
    subject.apply(proposal(), expected=subject.read(), **WHO)
    api.put(**wrong, parameters_yaml_history_jsonl=api.data[HISTORY_KEY])
    with pytest.raises(Refused, match="The parameters in place are wrong"):
        subject.read()
    mended = subject.roll_back(8, expected=None, **WHO)
    assert mended == subject.read()
    assert mended.parameters.generation == (10 if wrong else 9)


def test_an_api_server_that_does_not_answer_is_told(api: ApiServer) -> None:
    subject = store()
    seen = subject.read()
    api.page = (502, b"<html>Bad gateway</html>")
    with pytest.raises(SourceDown, match="answers 502"):
        subject.read()
    api.page, api.down = None, True
    with pytest.raises(SourceDown, match="cannot be reached"):
        subject.apply(proposal(), expected=seen, **WHO)
    api.down = False
    assert subject.read() == seen


def test_a_write_whose_answer_is_lost_is_never_sent_twice(api: ApiServer) -> None:
    subject = store()
    seen = subject.read()
    api.loses_answers = True
    with pytest.raises(SourceDown, match="cannot be reached"):
        subject.apply(proposal(), expected=seen, **WHO)
    api.loses_answers = False
    assert api.asked.count("patch") == 1
    with pytest.raises(Conflict, match="8 is in place"):
        subject.apply(proposal(), expected=seen, **WHO)
    assert len(subject.history()) == 1


# Bounds


def long_proposal(size: int) -> dict[str, Any]:
    models = {f"model-{number}": {"max_batch_size": size} for number in range(100)}
    return {"models": models, "tiers": PLAIN["tiers"]}


def test_the_history_is_bounded_and_keeps_the_newest(api: ApiServer) -> None:
    subject = store()
    stored = subject.read()
    for size in range(1, 15):
        stored = subject.apply(long_proposal(size), expected=stored, **WHO)
    assert len(api.data[HISTORY_KEY].encode()) <= MOST_HISTORY_BYTES
    kept = [entry.generation for entry in subject.history()]
    assert kept == list(range(21, 21 - len(kept), -1))
    assert 1 < len(kept) < 14


def test_the_largest_documents_are_recorded_whole(api: ApiServer) -> None:
    plain = msgspec.to_builtins(parse_document(DOCUMENT.encode())) | {"generation": 7}
    document = json.dumps(plain)
    api.put(parameters_yaml=document + " " * (MAX_DOCUMENT_BYTES - len(document)))
    subject = store()
    after = subject.apply(proposal(), expected=subject.read(), **WHO)
    (entry,) = subject.history()
    assert len(entry.before) == MAX_DOCUMENT_BYTES
    assert entry.after == after.document


def test_an_edit_without_room_for_its_record_is_refused(api: ApiServer) -> None:
    api.put(parameters_yaml=DOCUMENT, other="x" * ((1 << 20) - len(DOCUMENT)))
    subject = store()
    with pytest.raises(Refused, match="has no room for this edit and its history"):
        subject.apply(proposal(), expected=subject.read(), **WHO)
    assert api.data["parameters.yaml"] == DOCUMENT


class ConfigMapEditors(Editors):
    """The same people, and a hand with kubectl."""

    server: ApiServer

    def begin(self) -> None:
        self.server.renew()

    def store(self) -> ConfigMapParameterStore:
        return store()

    def put(self, text: str) -> None:
        history = self.server.data.get(HISTORY_KEY, "") if self.server.exists else ""
        self.server.put(parameters_yaml=text, parameters_yaml_history_jsonl=history)

    def lies_there(self) -> str:
        return self.server.data["parameters.yaml"]

    def teardown(self) -> None: ...


def test_editors_of_one_config_map(server: ApiServer) -> None:
    ConfigMapEditors.server = server
    run_state_machine_as_test(
        ConfigMapEditors,
        settings=settings(
            max_examples=8,
            stateful_step_count=12,
            suppress_health_check=list(HealthCheck),
            deadline=None,
        ),
    )
