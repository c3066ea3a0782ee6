"""The ConfigMap: the real client of Kubernetes against a server that speaks its protocol."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from predictor.core.errors import StartupError
from predictor.core.parameters import MAX_DOCUMENT_BYTES
from predictor.stores.config_map import ConfigMapStore
from predictor.stores.config_map_api import _probing_socket
from predictor.stores.pauses import FIRST_S, LONGEST_S, STEADY_S, Pauses
from tests.kubernetes_api.access import PLACE, write_kubeconfig
from tests.kubernetes_api.server import PREDICTOR, ApiServer, Drop
from tests.stores.watching import BOUND_S, Watch, accepted, document, refused


def text(generation: int) -> str:
    return document(generation).decode()


def store(fallback: Path | None = None) -> ConfigMapStore:
    return ConfigMapStore(
        PLACE, fallback, load_within_s=0.0, pauses=Pauses(first_s=0.001, longest_s=0.008)
    )


@asynccontextmanager
async def watching(api: ApiServer, subject: ConfigMapStore | None = None) -> AsyncIterator[Watch]:
    """A watch that has told generation 1."""
    api.put(parameters_yaml=text(1))
    async with aclosing((subject or store()).watch()) as watch:
        assert await accepted(watch) == 1
        yield watch


async def next_of(watch: Watch, api: ApiServer, generation: int) -> None:
    """Whatever came between, an edit is seen."""
    seen = asyncio.ensure_future(accepted(watch))
    await asyncio.to_thread(api.put, parameters_yaml=text(generation))
    assert await seen == generation


async def opened(api: ApiServer) -> None:
    await asyncio.to_thread(api.wait_for, lambda: api.watches == 1)


async def test_edits_are_told_as_they_happen(api: ApiServer) -> None:
    async with watching(api) as watch:
        for generation in (2, 3, 4):
            await next_of(watch, api, generation)
    assert api.asked == ["list", "watch"]


async def test_load_sees_the_document_and_the_watch_only_what_came_later(api: ApiServer) -> None:
    api.put(parameters_yaml=text(1))
    subject = store()
    assert (await asyncio.to_thread(subject.load)).generation == 1
    async with aclosing(subject.watch()) as watch:
        await next_of(watch, api, 2)


async def test_an_edit_between_load_and_watch_is_seen(api: ApiServer) -> None:
    api.put(parameters_yaml=text(1))
    subject = store()
    await asyncio.to_thread(subject.load)
    api.put(parameters_yaml=text(2))
    async with aclosing(subject.watch()) as watch:
        assert await accepted(watch) == 2


async def test_history_and_labels_are_no_news(api: ApiServer) -> None:
    async with watching(api) as watch:
        seen = asyncio.ensure_future(accepted(watch))
        await opened(api)
        api.put(parameters_yaml=text(1), parameters_yaml_history_jsonl="{}\n" * 100_000)
        api.label(team="search")
        api.put(parameters_yaml=text(2), parameters_yaml_history_jsonl="{}\n" * 200_000)
        assert await seen == 2


@pytest.mark.parametrize("how", Drop)
async def test_a_watch_that_ends_goes_on_where_it_was(api: ApiServer, how: Drop) -> None:
    async with watching(api) as watch:
        seen = asyncio.ensure_future(accepted(watch))
        for _ in range(3):
            await opened(api)
            await asyncio.to_thread(api.drop_watches, how)
        api.put(parameters_yaml=text(2))
        assert await seen == 2
    assert api.asked == ["list", *4 * ["watch"]]


async def test_an_edit_while_no_watch_is_open_is_not_lost(api: ApiServer) -> None:
    async with watching(api) as watch:
        seen = asyncio.ensure_future(accepted(watch))
        await opened(api)
        await asyncio.to_thread(api.go_down)
        api.put(parameters_yaml=text(2))
        api.down = False
        assert await seen == 2
    assert api.asked.count("list") == 1


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_version_that_is_too_old_is_listed_anew(api: ApiServer, at_once: bool) -> None:
    api.gone_at_once = at_once
    async with watching(api) as watch:
        seen = asyncio.ensure_future(accepted(watch))
        await opened(api)
        await asyncio.to_thread(api.go_down)
        api.put(parameters_yaml=text(2))
        api.compact()
        api.down = False
        assert await seen == 2
        await next_of(watch, api, 3)
    assert api.asked.count("list") == 2


async def test_bookmarks_move_the_version_on(api: ApiServer) -> None:
    async with watching(api) as watch:
        seen = asyncio.ensure_future(accepted(watch))
        await opened(api)
        api.bookmark()
        api.compact()
        await asyncio.to_thread(api.drop_watches, Drop.ENDED)
        api.put(parameters_yaml=text(2))
        assert await seen == 2
    assert api.asked.count("list") == 1


# What is wrong with the ConfigMap


BAD_FIELD = text(2).replace("slo_ms: 200", "slo_ms: soon")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"parameters_yaml": BAD_FIELD}, "tiers.interactive.slo_ms"),
        ({"parameters_yaml": ""}, "must be a mapping"),
        ({"parameters_yaml": "#" * (MAX_DOCUMENT_BYTES + 1)}, f"over {MAX_DOCUMENT_BYTES} bytes"),
        ({}, "ConfigMap headway/headway-parameters has no key parameters.yaml"),
        ({"parameters.yml": text(2)}, "has no key parameters.yaml"),
    ],
)
async def test_a_broken_edit_is_refused_once_and_its_repair_is_seen(
    api: ApiServer, data: dict[str, str], problem: str
) -> None:
    async with watching(api) as watch:
        api.put(**data)
        assert problem in await refused(watch)
        api.label(still="broken")
        await next_of(watch, api, 1)  # what it was: the refusal is taken back


async def test_one_that_was_deleted_is_seen_again_when_it_comes_back(api: ApiServer) -> None:
    async with watching(api) as watch:
        api.delete()
        assert "does not exist; create it, with the key parameters.yaml" in await refused(watch)
        await next_of(watch, api, 1)
    assert api.asked == ["list", "watch"]


async def test_one_that_was_deleted_while_no_watch_was_open(api: ApiServer) -> None:
    async with watching(api) as watch:
        told = asyncio.ensure_future(refused(watch))
        await opened(api)
        await asyncio.to_thread(api.go_down)
        api.delete()
        api.compact()
        api.down = False
        assert "does not exist" in await told


# What is wrong on the way there


@pytest.mark.parametrize(
    ("rights", "problem"),
    [
        ({}, "does not know who asks (401)"),
        ({PREDICTOR: {"list"}}, "give it a Role with get, list and watch on configmaps and"),
    ],
)
async def test_rights_that_are_taken_are_told_once_until_they_are_back(
    api: ApiServer, rights: dict[str, set[str]], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headway.parameters")
    async with watching(api) as watch:
        told = asyncio.ensure_future(refused(watch))
        await opened(api)
        before, api.rights = api.rights, rights
        await asyncio.to_thread(api.drop_watches, Drop.ENDED)
        assert problem in await told
        seen = asyncio.ensure_future(accepted(watch))
        tries = len(api.asked)
        await asyncio.to_thread(api.wait_for, lambda: len(api.asked) > tries + 2)
        api.rights = before
        await opened(api)
        api.put(parameters_yaml=text(2))
        assert await seen == 2
    assert "is watched again" in caplog.text


async def test_an_outage_is_logged_once_and_is_no_refusal(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headway.parameters")
    async with watching(api) as watch:
        seen = asyncio.ensure_future(accepted(watch))
        await opened(api)
        api.page = (502, b"<html>Bad gateway</html>")
        await asyncio.to_thread(api.drop_watches, Drop.RESET)
        tries = len(api.asked)
        await asyncio.to_thread(api.wait_for, lambda: len(api.asked) > tries + 6)
        api.page = None
        await opened(api)
        api.put(parameters_yaml=text(2))
        assert await seen == 2
    said = [record.message for record in caplog.records]
    assert len(said) == 2, said
    assert "answers 502" in said[0]
    assert said[1] == "ConfigMap headway/headway-parameters is watched again"


async def test_a_waiting_watch_can_be_cancelled(api: ApiServer) -> None:
    api.put(parameters_yaml=text(1))
    watch = store().watch()
    assert await accepted(watch) == 1
    waiting = asyncio.ensure_future(accepted(watch))
    await opened(api)
    waiting.cancel()
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await watch.aclose()
    await asyncio.to_thread(api.find_nobody_watching)


# The start


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there once it is closed
    url = f"http://127.0.0.1:{port}"
    path = write_kubeconfig(tmp_path / "kubeconfig", url, PREDICTOR)
    monkeypatch.setenv("KUBECONFIG", str(path))


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    path = tmp_path / "parameters.yaml"
    path.write_bytes(document(7))
    return path


def test_a_start_without_the_api_server_says_so(nobody: None) -> None:
    with pytest.raises(StartupError, match=r"ConfigMap .* the API server cannot be reached"):
        store().load()


def test_a_start_waits_a_while_for_an_api_server_that_is_busy(api: ApiServer) -> None:
    api.put(parameters_yaml=text(1))
    api.page = (503, b"busy")

    class Recovering(Pauses):
        def after_s(self, lasted_s: float) -> float:
            api.page = None
            return 0.0

    subject = ConfigMapStore(PLACE, pauses=Recovering())
    assert subject.load().generation == 1


@pytest.mark.parametrize(
    ("rights", "data", "problem"),
    [
        ({PREDICTOR: {"watch"}}, None, r"Role with get, list and watch .* cannot list resource"),
        (None, None, "does not exist"),
        (None, {}, "has no key"),
        (None, {"parameters_yaml": BAD_FIELD}, "tiers.interactive.slo_ms"),
    ],
)
def test_a_start_that_the_api_server_gives_no_parameters_says_why(
    api: ApiServer, rights: dict[str, set[str]] | None, data: dict[str, str] | None, problem: str
) -> None:
    api.rights = rights or api.rights
    if data is not None:
        api.put(**data)
    with pytest.raises(StartupError, match=problem):
        store().load()


async def test_the_fallback_serves_until_the_api_server_answers(
    api: ApiServer, mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(parameters_yaml=text(8))
    api.down = True
    subject = store(mounted)
    assert (await asyncio.to_thread(subject.load)).generation == 7
    assert f"until then the parameters are those of {mounted}" in caplog.text
    async with aclosing(subject.watch()) as watch:
        seen = asyncio.ensure_future(accepted(watch))
        api.down = False
        assert await seen == 8
        await next_of(watch, api, 9)


async def test_the_fallback_serves_where_a_right_is_missing_and_it_is_told(
    api: ApiServer, mounted: Path
) -> None:
    api.rights = {PREDICTOR: set()}
    subject = store(mounted)
    assert (await asyncio.to_thread(subject.load)).generation == 7
    async with aclosing(subject.watch()) as watch:
        assert "(403)" in await refused(watch)


def test_without_any_parameters_both_reasons_are_told(nobody: None, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot be reached .*; parameters file .*No such file"):
        store(tmp_path / "missing.yaml").load()


@pytest.mark.parametrize("content", ["", "not: a kubeconfig"])
def test_a_kubeconfig_that_leads_nowhere_is_told(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(StartupError, match="the API server cannot be reached"):
        store().load()


def test_a_server_that_is_gone_without_a_word_is_noticed() -> None:
    with _probing_socket((socket.AF_INET, socket.SOCK_STREAM, 0)) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 10


# Pauses


def test_pauses_grow_to_a_bound_and_never_by_less_than_half() -> None:
    pauses = Pauses(seed=1)
    steps = [pauses.after_s(0.0) for _ in range(12)]
    bounds = [min(FIRST_S * 2**number, LONGEST_S) for number in range(12)]
    assert all(b / 2 <= step <= b for step, b in zip(steps, bounds, strict=True))
    assert pauses.at_longest
    assert pauses.after_s(STEADY_S) <= FIRST_S
    assert not pauses.at_longest


def test_replicas_do_not_come_back_together() -> None:
    assert len({Pauses(seed=seed).after_s(0.0) for seed in range(50)}) == 50
