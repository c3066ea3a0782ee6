"""What took hold last, kept for a restart."""

from pathlib import Path

import pytest

from predictor.core.parameters import DEFAULT_PARAMETERS
from predictor.stores.choice import last_good_of
from predictor.stores.last_good import LastGood


def test_what_was_kept_is_read_by_the_next_process(tmp_path: Path) -> None:
    parameters = str(tmp_path / "parameters.yaml")
    last_good_of(parameters).keep(DEFAULT_PARAMETERS)
    kept = last_good_of(parameters)
    assert kept.read() == DEFAULT_PARAMETERS
    assert kept.path == tmp_path / ".parameters.yaml.last-good"
    assert kept.path.stat().st_mode & 0o777 == 0o600


def test_nothing_usable_is_nothing(tmp_path: Path) -> None:
    kept = LastGood.beside(tmp_path / "parameters.yaml")
    assert kept.read() is None
    kept.path.write_text("tiers: [")
    assert kept.read() is None
    kept.path.unlink()
    kept.path.mkdir()
    assert kept.read() is None


def test_what_others_may_have_written_is_not_trusted(tmp_path: Path) -> None:
    kept = LastGood.beside(tmp_path / "parameters.yaml")
    kept.keep(DEFAULT_PARAMETERS)
    kept.path.chmod(0o666)
    assert kept.read() is None
    kept.path.chmod(0o644)
    assert kept.read() == DEFAULT_PARAMETERS
    target = kept.path.rename(tmp_path / "elsewhere")
    kept.path.symlink_to(target)
    assert kept.read() is None


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    kept = LastGood(tmp_path / "file" / "last-good")
    kept.keep(DEFAULT_PARAMETERS)
    kept.keep(DEFAULT_PARAMETERS)
    assert caplog.text.count("cannot be written") == 1
    assert kept.read() is None


def test_that_of_a_config_map_lies_in_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HEADWAY_NAMESPACE", "models")
    kept = last_good_of("configmap:headway")
    kept.keep(DEFAULT_PARAMETERS)
    assert kept.read() == DEFAULT_PARAMETERS
    assert kept.path.name == "models.headway.last-good"
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
