"""An API server for the stores that need one, reached as by a person with a kubeconfig."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes_api.access import write_kubeconfig
from tests.kubernetes_api.server import PREDICTOR, ApiServer


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with ApiServer().serving() as api:
        monkeypatch.setenv(
            "KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", api.url, PREDICTOR))
        )
        yield api
