"""In a pod the way to the API server is the service account: its files, over TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.aio.config import incluster_config as aio_config
from kubernetes.config import incluster_config

from dashboard.ports import SourceDown
from dashboard.settings import PARAMETERS, read_settings
from dashboard.stores.config_map import ConfigMapParameterStore
from predictor import config_maps
from predictor.core.errors import StartupError
from predictor.stores.choice import store_of
from tests.kubernetes_api.access import PLACE, write_certificate
from tests.kubernetes_api.server import DASHBOARD, PREDICTOR, ApiServer
from tests.stores.watching import document

SOURCE = f"configmap:{PLACE.name}"


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "namespace").write_text(PLACE.namespace)
    return tmp_path


@pytest.fixture
def api(account: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with ApiServer(write_certificate(account)).serving() as api:
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.delenv(config_maps.NAMESPACE_VARIABLE, raising=False)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        monkeypatch.setattr(config_maps, "NAMESPACE_FILE", account / "namespace")
        for each in (aio_config, incluster_config):
            monkeypatch.setattr(each, "SERVICE_TOKEN_FILENAME", str(account / "token"))
            monkeypatch.setattr(each, "SERVICE_CERT_FILENAME", str(account / "ca.crt"))
        api.put(parameters_yaml=document(3).decode())
        yield api


def test_a_predictor_loads_with_its_service_account(api: ApiServer, account: Path) -> None:
    (account / "token").write_text(PREDICTOR)
    store = store_of(SOURCE, "")
    assert store is not None
    assert store.load().generation == 3


def test_the_dashboard_reads_with_its_service_account(api: ApiServer, account: Path) -> None:
    (account / "token").write_text(DASHBOARD)
    place = read_settings({PARAMETERS.name: SOURCE}).parameters
    assert place == PLACE
    assert ConfigMapParameterStore(PLACE, editable=False).read().parameters.generation == 3


def test_a_certificate_of_someone_else_is_not_trusted(
    api: ApiServer, account: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (account / "token").write_text(PREDICTOR)
    other, _ = write_certificate(tmp_path_factory.mktemp("other"))
    (account / "ca.crt").write_bytes(Path(other).read_bytes())
    store = store_of(SOURCE, str(account / "none.yaml"))
    assert store is not None
    with pytest.raises(StartupError, match=r"cannot be reached \(.*certificate"):
        store.load()
    with pytest.raises(SourceDown, match=r"cannot be reached \(.*certificate"):
        ConfigMapParameterStore(PLACE, editable=False).read()
    assert api.asked == []


def test_a_pod_without_a_token_is_told(api: ApiServer, account: Path) -> None:
    fallback = account / "mounted.yaml"
    fallback.write_bytes(document(2))
    store = store_of(SOURCE, str(fallback))
    assert store is not None
    assert store.load().generation == 2
    with pytest.raises(SourceDown, match="token file does not exist"):
        ConfigMapParameterStore(PLACE, editable=False).read()


def test_the_namespace_is_told_by_the_variable_or_else_the_account(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_maps, "NAMESPACE_FILE", account / "namespace")
    told = {config_maps.NAMESPACE_VARIABLE: "elsewhere"}
    assert config_maps.config_map_place("a", told).namespace == "elsewhere"
    assert config_maps.config_map_place("a", {}).namespace == PLACE.namespace
    (account / "namespace").unlink()
    with pytest.raises(StartupError, match="set HEADWAY_NAMESPACE"):
        config_maps.config_map_place("a", {})


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "a" * 254, "a\n"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(StartupError, match="write configmap:NAME"):
        config_maps.config_map_name(f"configmap:{name}")


def test_a_path_is_no_config_map() -> None:
    assert config_maps.config_map_name("run/parameters.yaml") is None
