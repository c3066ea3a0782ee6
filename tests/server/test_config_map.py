"""A predictor that follows a ConfigMap, and the dashboard's store that edits it."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dashboard.stores.config_map import ConfigMapParameterStore
from predictor.config_maps import NAMESPACE_VARIABLE
from tests.edge.server_process import Server, running
from tests.kubernetes_api.access import PLACE, write_kubeconfig
from tests.kubernetes_api.server import DASHBOARD, PREDICTOR, ApiServer, Drop
from tests.server.process import document, metrics, simulated

GENERATION = "headway_parameters_generation"
REFUSED = "headway_parameters_refused_total"
ACCEPTED = "headway_parameters_accepted_total"
SOURCE = ("--parameters", f"configmap:{PLACE.name}")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with ApiServer().serving() as api:
        path = write_kubeconfig(tmp_path / "kubeconfig", api.url, PREDICTOR)
        monkeypatch.setenv("KUBECONFIG", str(path))
        monkeypatch.setenv(NAMESPACE_VARIABLE, PLACE.namespace)
        api.put(parameters_yaml=document())
        yield api


def dashboard(api: ApiServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is the dashboard's pod."""
    path = write_kubeconfig(folder / "dashboard-kubeconfig", api.url, DASHBOARD)
    monkeypatch.setenv("KUBECONFIG", str(path))


def test_an_edit_in_the_dashboard_is_in_force_in_the_predictor(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--host", "127.0.0.1", *SOURCE, *simulated("sim", 1))
    with running(*flags, module="predictor") as server:
        assert metrics(server)[GENERATION] == 1
        dashboard(api, tmp_path, monkeypatch)
        store = ConfigMapParameterStore(PLACE, editable=True)
        proposal = msgspec.to_builtins(store.read().parameters)
        proposal["models"]["sim"] = {"max_batch_size": 7}
        store.apply(proposal, expected=store.read(), who="ada", reason="smaller batches")
        server.wait_for_line("parameters of generation 2 are in force")
        assert metrics(server)[GENERATION] == 2
        _survives_broken_inputs(api, server)
        told = metrics(server)
        assert (told[GENERATION], told[ACCEPTED], told[REFUSED]) == (6, 5, 3)
        assert server.stop() == 0


def _survives_broken_inputs(api: ApiServer, server: Server) -> None:
    api.put(parameters_yaml=document(3, {"sim": {"max_batch_size": "many"}}))
    server.wait_for_line("the last good ones stay: models.sim.max_batch_size")
    api.put()
    server.wait_for_line(f"the last good ones stay: {PLACE} has no key parameters.yaml")
    api.put(parameters_yaml=document(4))
    server.wait_for_line("parameters of generation 4 are in force")
    api.delete()
    server.wait_for_line("does not exist; create it, with the key parameters.yaml")
    assert metrics(server)[GENERATION] == 4
    api.wait_for(lambda: api.watches == 1)
    api.drop_watches(Drop.RESET)
    api.put(parameters_yaml=document(5), parameters_yaml_history_jsonl="{}")
    server.wait_for_line("parameters of generation 5 are in force")
    api.put(parameters_yaml=document(5), parameters_yaml_history_jsonl="{}\n{}")
    api.put(parameters_yaml=document(6), parameters_yaml_history_jsonl="{}\n{}\n{}")
    server.wait_for_line("parameters of generation 6 are in force")


def test_each_engine_watches_and_a_replica_without_the_api_server_starts_by_the_fallback(
    api: ApiServer, tmp_path: Path
) -> None:
    api.down = True
    mounted = tmp_path / "parameters.yaml"
    mounted.write_text(document(3))
    flags = (*SOURCE, "--parameters_fallback", str(mounted), *simulated("sim", 1))
    common = ("--host", "127.0.0.1", "--engines", "2")
    with running(*common, *flags, module="predictor", models=4) as server:  # edge and engines
        api.put(parameters_yaml=document(8))
        api.down = False
        for _ in range(2):
            server.wait_for_line("parameters of generation 8 are in force")
        told = metrics(server)
        assert [told[f'{GENERATION}{{engine="{engine}"}}'] for engine in (0, 1)] == [8, 8]
        api.wait_for(lambda: api.watches == 2)
