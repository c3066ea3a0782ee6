"""A restart beside a document that is refused goes on with what was in force."""

from pathlib import Path

import pytest

from tests.server.process import document, failed_start, metrics, replace, serving, simulated

BROKEN = {
    "brackets": "[" * 60_000,
    "a tier too few": '{"generation": 9, "tiers": {}}',
    "a model that is not served": document(9, models={"other": {}}),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_restart_goes_on_with_what_was_in_force(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "parameters.yaml"
    path.write_text(document(4))
    with serving(path, *simulated("sim", 1)) as server:
        replace(path, document(5))
        while metrics(server)["headway_parameters_generation"] != 5:
            pass  # each scrape is a round trip
        replace(path, broken)
        while not metrics(server)["headway_parameters_refused_total"]:
            pass
        assert metrics(server)["headway_parameters_generation"] == 5
    with serving(path, *simulated("sim", 1)) as server:
        assert metrics(server)["headway_parameters_generation"] == 5
        assert metrics(server)["headway_parameters_refused_total"] == 1
        replace(path, document(6))
        while metrics(server)["headway_parameters_generation"] != 6:
            pass
    path.write_text(broken)
    (tmp_path / ".parameters.yaml.last-good").unlink()
    code, stderr = failed_start("--parameters", str(path), *simulated("sim", 1))
    assert code == 2
    assert "parameters.yaml" in stderr
    assert "Traceback" not in stderr
