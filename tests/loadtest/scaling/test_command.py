"""The command of a simulated day, from options to table and picture."""

from pathlib import Path

import pytest

from loadtest.scaling.__main__ import main


def test_some_minutes_of_a_day_make_a_table_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "made" / "day.png"
    minutes = ("--hours", "0.02", "--begins", "3", "--slower", "40", "--queue_alone", "64")
    assert main(["day", *minutes, "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "as applied" in said
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["day", "--hours", "25"], "'25' is not a number"),
        (["day", "--queue_alone", "64,many"], "'many' is not a number"),
        (["year"], "invalid choice"),
    ],
)
def test_wrong_options_are_said(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(wrong)
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_manifest_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scaledobject.yaml"
    for text, named in (("spec: {triggers: []", "no ScaledObject"), ("spec: {}", "triggers")):
        file.write_text(text)
        assert main(["day", "--hours", "0.02", "--scaled_object", str(file)]) == 2
        assert named in capsys.readouterr().err
