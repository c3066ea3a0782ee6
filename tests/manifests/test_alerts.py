"""Prometheus itself takes the rules, and alerts fire when they should and end when they should."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.dashboard.prometheus_process import WHY
from tests.manifests.conftest import Worlds

HERE = Path(__file__).parent
LIMIT_S = 100

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason=WHY)


def promtool(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        ["promtool", *arguments],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def folder(built: Worlds, tmp_path: Path) -> Path:
    """With the rules as files of Prometheus; `long.yml` has what burns, evaluated rarely."""
    alerts, recording = built["overlays/monitoring"].of("PrometheusRule")
    groups = alerts.get("spec", "groups")
    burning = [rule for rule in groups[0]["rules"] if "alert" in rule]
    for name, content in (
        ("rules.yml", groups),
        ("recording.yml", recording.get("spec", "groups")),
        ("long.yml", [{"name": "long", "interval": "15m", "rules": burning}]),
    ):
        (tmp_path / name).write_text(yaml.safe_dump({"groups": content}))
    return tmp_path


def test_prometheus_takes_the_rules(folder: Path) -> None:
    promtool("check", "rules", "rules.yml", "recording.yml", folder=folder)


@pytest.mark.parametrize("tests", ["alerts.yml", "alerts_long.yml"])
def test_alerts_fire_and_end(folder: Path, tests: str) -> None:
    shutil.copy(HERE / tests, folder)
    promtool("test", "rules", tests, folder=folder)
