import logging

import pytest

from predictor.runner.progress import EVERY_S, WIDTH, Progress

LOG = logging.getLogger("headway.runner")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def told(caplog: pytest.LogCaptureFixture, total: int, step_s: float) -> list[str]:
    clock = Clock()
    with caplog.at_level(logging.INFO, LOG.name):
        progress = Progress(LOG, "baking", total, clock=clock)
        for number in range(1, total + 1):
            clock.now_s += step_s
            progress.advance(f"loaf {number}")
    return caplog.messages


def test_what_is_quick_is_told_at_its_first_and_its_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert told(caplog, total=10, step_s=EVERY_S / 100) == [
        "baking [##..................] 1/10, loaf 1, 0.0 s",
        "baking [####################] 10/10, loaf 10, 0.2 s",
    ]


def test_what_is_slow_is_told_every_few_seconds(caplog: pytest.LogCaptureFixture) -> None:
    lines = told(caplog, total=20, step_s=EVERY_S / 4)
    assert [line.split("] ")[1].split("/")[0] for line in lines] == [
        "1",
        "5",
        "9",
        "13",
        "17",
        "20",
    ]
    assert all(line.count("#") + line.count(".") >= WIDTH for line in lines)
    assert lines[-1].endswith("loaf 20, 10.0 s")


def test_one_only_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, total=1, step_s=1.0) == ["baking [####################] 1/1, loaf 1, 1.0 s"]
