"""Which store is meant, and what it costs to name none of Kubernetes."""

import subprocess
import sys
from pathlib import Path

import pytest

from dashboard import wiring
from dashboard.ports import Refused
from dashboard.settings import NAMESPACE, PARAMETERS, read_settings
from predictor.core.errors import StartupError
from predictor.stores.choice import store_of
from predictor.stores.file import FileStore

ROOT = Path(__file__).parents[2]
LAZY = """
import sys
import dashboard.wiring
import predictor.__main__
from predictor.stores.choice import store_of
store_of("parameters.yaml", "")
assert not [name for name in sys.modules if name.split(".")[0] in ("aiohttp", "kubernetes")]
"""


def test_a_file_a_config_map_or_nothing() -> None:
    assert store_of("", "") is None
    assert isinstance(store_of("run/parameters.yaml", ""), FileStore)


def test_nobody_pays_for_a_client_that_is_not_used() -> None:
    subprocess.run([sys.executable, "-c", LAZY], cwd=ROOT, check=True, timeout=60)


def test_without_the_client_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for store in ("predictor.stores.config_map", "dashboard.stores.config_map"):
        monkeypatch.setitem(sys.modules, store, None)
    monkeypatch.setenv(NAMESPACE.name, "headway")
    with pytest.raises(StartupError, match=r"pip install 'headway\[kubernetes\]'"):
        store_of("configmap:headway-parameters", "")
    found = read_settings({PARAMETERS.name: "configmap:a", NAMESPACE.name: "b"})
    with pytest.raises(Refused, match=r"pip install 'headway\[kubernetes\]'"):
        wiring._store(found)
