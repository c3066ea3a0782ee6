"""The command on real files and a tiny model: its table, its page, its refusals."""

import random
from pathlib import Path

import numpy as np
import pytest

from predictor.offline.__main__ import main
from predictor.offline.clips import find_clips, read_windows
from predictor.offline.profile import Profile
from predictor.runner.loading import load_runner
from tests.audio.clips import RATE, file_of, noise
from tests.runner.speech_checkpoints import Kind, write_speech
from tests.runner.test_speech_loading import settings_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("ears"), Kind.GROUP_NORM)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.2 to 4 s, and one longer than a window."""
    rng = random.Random(5)
    path = tmp_path_factory.mktemp("clips")
    (path / "below").mkdir()
    for number in range(24):
        seconds = 35 if number == 7 else rng.uniform(0.2, 4)
        kind = rng.choice(["WAV", "FLAC"])
        name = path / rng.choice(["", "below"]) / f"{number}.{kind}"
        name.write_bytes(file_of(noise(seconds), kind=kind))
    (path / "notes.txt").write_text("not a clip")
    return path


def test_three_ways_over_the_same_rows(folder: Path, clips: Path) -> None:
    runner = load_runner(settings_for(folder))
    speech = runner.spec.speech
    assert speech is not None
    read: list[int] = []
    paths = find_clips(clips)
    windows = read_windows(paths, speech, lambda: read.append(1))
    assert (len(paths), len(read), len(windows)) == (24, 24, 25)
    ways: list[str] = []
    profile = Profile(runner, windows, max_batch_size=8, max_batch_tokens=4000, ran=ways.append)
    measured = profile.run()
    fifo, by_length, dp = measured
    assert [each.name for each in measured] == ["FIFO", "sorted", "DP"]
    assert {each.tokens for each in measured} == {sum(window.tokens for window in windows)}
    assert all(sum(rows for rows, _ in each.shapes) == 25 for each in measured)
    assert len(ways) == 2 * len(fifo.shapes) + len(by_length.shapes) + len(dp.shapes)
    assert dp.padding_share < fifo.padding_share
    assert by_length.padding_share < fifo.padding_share
    assert all(each.speed > 0 for each in measured)


def test_the_command(
    folder: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    flags = ["--clips", str(clips), "--model_dir", str(folder), "--output", str(page)]
    assert main(["profile", *flags, "--device", "cpu", "--batch_size", "8"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("FIFO", "sorted", "DP", "x real time", "padding"))
    assert "Plotly.newPlot" in page.read_text()


def refusal(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["profile", *flags]) == 2
    message = capsys.readouterr().err
    assert message.startswith("headway: ")
    assert message.count("\n") == 1
    return message


def test_what_cannot_work_is_said_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    flags = ("--clips", str(clips), "--model_dir", str(folder), "--device", "cpu")
    assert "is not a folder" in refusal(capsys, *flags)
    clips.mkdir()
    (clips / "notes.txt").write_text("not a clip")
    assert "has 0 files that end in .wav or .flac" in refusal(capsys, *flags)
    (clips / "a.wav").write_bytes(file_of(noise(1)))
    assert "--batch_size is 0; it must be from 1" in refusal(capsys, *flags, "--batch_size", "0")
    assert "cannot be written" in refusal(capsys, *flags, "--output", str(tmp_path / "no" / "p"))
    assert "device 'tpu' is unknown" in refusal(capsys, *flags, "--device", "tpu")
    (clips / "b.wav").write_bytes(b"RIFF")
    assert "b.wav: is not a WAV or FLAC file" in refusal(capsys, *flags)
    (clips / "b.wav").write_bytes(file_of(np.zeros(3), RATE))
    assert "b.wav: has 3 samples, too short" in refusal(capsys, *flags)
    assert "does not exist" in refusal(capsys, *flags, "--model_dir", "/nowhere")
