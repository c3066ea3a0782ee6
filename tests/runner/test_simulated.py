import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Packing
from predictor.runner.loading import load_runner
from predictor.runner.simulated import SimulatedRunner

ROWS = st.lists(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30), min_size=1, max_size=20
)


def simulated(*, fixed_ms: float = 0, token_us: float = 0, packed: bool = False) -> SimulatedRunner:
    return SimulatedRunner(
        ModelSettings(
            name="m",
            task=Task.SIMULATED,
            simulated_fixed_ms=fixed_ms,
            simulated_token_us=token_us,
            simulated_packed=packed,
        )
    )


def as_bytes(rows: list[list[int]]) -> list[bytes]:
    return [np.array(row, dtype=np.int64).tobytes() for row in rows]


@given(ROWS)
def test_checksum_is_the_wrapping_sum_of_each_row(rows: list[list[int]]) -> None:
    results = simulated().run(as_bytes(rows), Packing.PADDED)
    checksums = [int(np.frombuffer(result, np.int64)[0]) for result in results]
    assert checksums == [(sum(row) + 2**63) % 2**64 - 2**63 for row in rows]


def test_a_negative_id_fails_the_batch_it_is_in() -> None:
    with pytest.raises(ValueError, match="negative"):
        simulated().run(as_bytes([[1, 2], [3, -4]]), Packing.PADDED)


@pytest.mark.parametrize(
    ("packed", "packing", "tokens"),
    [
        (False, Packing.PADDED, 4 * 20),
        (False, Packing.PACKED, 4 * 20),
        (True, Packing.PADDED, 4 * 20),
        (True, Packing.PACKED, 35),
    ],
)
def test_padding_costs_time_unless_packed(packed: bool, packing: Packing, tokens: int) -> None:
    runner = simulated(fixed_ms=5, token_us=10, packed=packed)
    service_s = runner.service_s(size=4, longest=20, tokens=35, packing=packing)
    assert service_s == pytest.approx(5e-3 + 10e-6 * tokens)


class LateClock:
    """Time that passes only when it is looked at, and whose sleeps end `late_s` late."""

    def __init__(self, late_s: float) -> None:
        self.now_s = 0.0
        self.sleeps = 0
        self._late_s = late_s

    def perf_counter(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.sleeps += 1
        self.now_s += seconds + self._late_s


@pytest.mark.parametrize("late_s", [0, 140e-6, 1e-3])
def test_a_late_sleep_does_not_make_the_next_batch_late(
    monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    clock = LateClock(late_s)
    monkeypatch.setattr("predictor.runner.simulated.time", clock)
    runner = simulated(fixed_ms=2, token_us=100)
    first = runner.launch(as_bytes([[1, 2], [3]]), Packing.PADDED)
    second = runner.launch(as_bytes([[1, 2], [3]]), Packing.PADDED)
    first.results()
    assert clock.now_s == pytest.approx(2.4e-3 + late_s, abs=10e-6)
    second.results()
    assert clock.now_s == pytest.approx(4.8e-3 + late_s, abs=10e-6)
    assert second.ends_s == pytest.approx(4.8e-3, abs=10e-6)


def test_a_batch_that_costs_nothing_does_not_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LateClock(0)
    monkeypatch.setattr("predictor.runner.simulated.time", clock)
    simulated().run(as_bytes([[1, 2], [3]]), Packing.PADDED)
    assert clock.sleeps == 0


def test_launched_batches_run_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LateClock(0)
    monkeypatch.setattr("predictor.runner.simulated.time", clock)
    runner = simulated(fixed_ms=2, token_us=100)
    first = runner.launch(as_bytes([[1, 2], [3]]), Packing.PADDED)
    second = runner.launch(as_bytes([[4, 5, 6]]), Packing.PADDED)
    assert clock.sleeps == 0  # launching waits for nothing
    assert first.ends_s == pytest.approx(2.4e-3, abs=10e-6)
    assert second.ends_s == pytest.approx(first.ends_s + 2.3e-3)
    assert [np.frombuffer(each, np.int64)[0] for each in second.results()] == [15]
    assert [np.frombuffer(each, np.int64)[0] for each in first.results()] == [3, 3]
    assert clock.now_s == pytest.approx(second.ends_s, abs=10e-6)


def test_a_device_that_stood_idle_makes_up_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LateClock(0)
    monkeypatch.setattr("predictor.runner.simulated.time", clock)
    runner = simulated(fixed_ms=2)
    runner.run(as_bytes([[1]]), Packing.PADDED)
    clock.now_s = 1.0
    assert runner.launch(as_bytes([[1]]), Packing.PADDED).ends_s == pytest.approx(1.002, abs=1e-5)


def test_a_batch_that_fails_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.runner.simulated.time", LateClock(0))
    runner = simulated(fixed_ms=2)
    with pytest.raises(ValueError, match="negative"):
        runner.launch(as_bytes([[-1]]), Packing.PADDED)
    assert runner.launch(as_bytes([[1]]), Packing.PADDED).ends_s == pytest.approx(2e-3, abs=1e-5)


def test_it_needs_no_torch() -> None:
    program = (
        "import sys\n"
        "from predictor.core.model import ModelSettings, Task\n"
        "from predictor.runner.loading import load_runner\n"
        "load_runner(ModelSettings(name='m', task=Task.SIMULATED))\n"
        "print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"


def test_spec_says_what_it_takes() -> None:
    spec = load_runner(ModelSettings(name="m", task=Task.SIMULATED, simulated_packed=True)).spec
    assert (spec.row_datatype, spec.result_datatype, spec.result_width) == ("INT64", "INT64", 1)
    assert spec.packed
    assert not spec.tokenizer_file
    assert spec.vocabulary_size == 0
