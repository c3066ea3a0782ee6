"""On a GPU, packed and captured: the answers of the CPU in float32, whatever the batch."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from predictor.core.model import ModelSettings, Step, Task
from predictor.core.rows import Packing
from predictor.engine.port import PipelinedRunner
from predictor.runner.capture import ladder
from predictor.runner.loading import load_runner
from tests.runner.checkpoints import (
    POSITIONS,
    Family,
    add_sentence_files,
    write_classifier,
    write_encoder,
)
from tests.runner.rows import payloads, random_rows, run, values

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

HIDDEN = 64  # heads of 32: the kernels on the device want at least 16, and a multiple of 8
MOST = POSITIONS - 2  # tokens of the longest row that every family takes
LARGEST_STEP = 512
STEPS = ladder(LARGEST_STEP)
# Absolute, on values of 0 to 1. bfloat16 keeps 8 bits after each of some dozens of roundings.
TOLERANCE = 2e-2
TOLERANCE_FP32 = 1e-4  # the same sums in another order


def load(folder: str, task: Task, device: str, dtype: str, *, graphs: bool) -> PipelinedRunner:
    runner = load_runner(
        ModelSettings(
            name="m",
            task=task,
            model_dir=folder,
            device=device,
            dtype=dtype,
            capture_graphs=graphs,
        )
    )
    assert isinstance(runner, PipelinedRunner)
    return runner


class Loaded:
    """One checkpoint, loaded in every way, and what it answers on the CPU."""

    def __init__(self, folder: str, task: Task) -> None:
        self._cpu = load_runner(
            ModelSettings(name="m", task=task, model_dir=folder, device="cpu", dtype="float32")
        )
        self.float32 = load(folder, task, "cuda", "float32", graphs=True)
        self.eager = load(folder, task, "cuda", "bfloat16", graphs=False)
        self.graphs = load(folder, task, "cuda", "bfloat16", graphs=True)

    def expected(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return run(self._cpu, rows, Packing.PADDED)


@pytest.fixture(scope="module", autouse=True)
def _short_ladder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictor.runner.capture.ladder", lambda: STEPS)
        yield


@pytest.fixture(scope="module", params=[*Family, "modernbert-mean"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A classifier of each family, and ModernBERT's two ways to pool."""
    folder = tmp_path_factory.mktemp("classifier")
    if request.param == "modernbert-mean":
        write_classifier(folder, Family.MODERNBERT, hidden=HIDDEN, classifier_pooling="mean")
    else:
        write_classifier(folder, request.param, hidden=HIDDEN)
    return Loaded(str(folder), Task.TEXT_CLASSIFICATION)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """With every pooling at once; its vectors have length 1."""
    folder = write_encoder(tmp_path_factory.mktemp("encoder"), Family.BERT, hidden=HIDDEN)
    add_sentence_files(folder, {"pooling_mode": ["cls", "mean", "max"]}, normalise=True)
    return Loaded(str(folder), Task.TEXT_EMBEDDING)


def batches() -> list[list[list[int]]]:
    """Of many sizes: at the edges of steps, around them, and past the last."""
    rng = np.random.default_rng(1)
    lengths: list[list[int]] = [
        [1],
        [MOST],
        [32, 32],  # the first step, full
        [32, 32, 1],  # one token more than it holds
        [1] * 8,  # as many rows as the first step has room for
        [1] * 9,  # one more
        [1] * 64,  # a step's tokens, far more rows than it has room for
        [8] * 64,  # the last step, full of tokens and of rows
        [1] * 65,  # more rows than any step has room for
        [8] * 64 + [1],  # one token too many for the last step
        [MOST] * 40,  # far past it
    ]
    for size in (2, 3, 5, 8, 13, 21, 34, 55):
        lengths += [rng.integers(1, MOST + 1, size).tolist() for _ in range(4)]
    return [random_rows(rng, each) for each in lengths]


BATCHES = batches()


def room_for(rows: Sequence[Sequence[int]]) -> bool:
    tokens = sum(map(len, rows))
    return any(step.tokens >= tokens and step.rows >= len(rows) for step in STEPS)


def agree(found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_packed_and_captured_equals_the_cpu(loaded: Loaded) -> None:
    assert loaded.graphs.spec.packed
    for rows in BATCHES:
        agree(run(loaded.graphs, rows, Packing.PACKED), loaded.expected(rows), TOLERANCE)


def test_packed_without_graphs_equals_the_cpu(loaded: Loaded) -> None:
    assert loaded.eager.spec.packed
    assert loaded.eager.spec.steps == ()
    for rows in BATCHES:
        agree(run(loaded.eager, rows, Packing.PACKED), loaded.expected(rows), TOLERANCE)
        assert loaded.eager.launch(payloads(rows), Packing.PACKED) is None


def test_padded_equals_the_cpu(loaded: Loaded) -> None:
    for rows in BATCHES:
        agree(run(loaded.graphs, rows, Packing.PADDED), loaded.expected(rows), TOLERANCE)
        assert loaded.graphs.launch(payloads(rows), Packing.PADDED) is None


def test_in_32_bits_it_is_served_padded(loaded: Loaded) -> None:
    assert not loaded.float32.spec.packed
    assert loaded.float32.spec.steps == ()
    for rows in BATCHES:
        found = run(loaded.float32, rows, Packing.PACKED)  # which it then does not do
        agree(found, loaded.expected(rows), TOLERANCE_FP32)


def test_every_pooling_equals_the_cpu(embedder: Loaded) -> None:
    for rows in BATCHES:
        expected = embedder.expected(rows)
        for runner in (embedder.graphs, embedder.eager):
            agree(run(runner, rows, Packing.PACKED), expected, TOLERANCE)


def test_all_steps_are_captured_from_small_to_large(loaded: Loaded) -> None:
    steps = loaded.graphs.spec.steps
    assert steps == tuple(STEPS)
    assert all(a < b for a, b in pairwise((step.tokens, step.rows) for step in steps))
    assert steps[0] == Step(64, 8)


def test_batches_on_their_way_keep_their_own_results(loaded: Loaded) -> None:
    """Large and small ones in turn: they share the memory of graphs, and free buffers."""
    fitting = [rows for rows in BATCHES if room_for(rows)]
    assert len(fitting) > 20
    for _ in range(3):
        launched = [loaded.graphs.launch(payloads(rows), Packing.PACKED) for rows in fitting]
        for rows, batch in zip(fitting, launched, strict=True):
            assert batch is not None
            agree(values(batch.results()), loaded.expected(rows), TOLERANCE)


def test_what_no_step_holds_is_not_launched_but_runs_between(loaded: Loaded) -> None:
    small = BATCHES[0]
    large = [rows for rows in BATCHES if not room_for(rows)]
    assert len(large) > 2
    for rows in large:
        before = loaded.graphs.launch(payloads(small), Packing.PACKED)
        assert loaded.graphs.launch(payloads(rows), Packing.PACKED) is None
        found = run(loaded.graphs, rows, Packing.PACKED)
        assert before is not None
        agree(values(before.results()), loaded.expected(small), TOLERANCE)
        agree(found, loaded.expected(rows), TOLERANCE)


def test_a_row_is_the_same_alone_and_in_company(loaded: Loaded) -> None:
    """Whatever unused tokens and rows its step had, or a larger batch left in them before."""
    rows = BATCHES[-1]
    together = run(loaded.graphs, rows, Packing.PACKED)
    alone = np.concatenate([run(loaded.graphs, [row], Packing.PACKED) for row in rows])
    agree(together, alone, 2 * TOLERANCE)  # both in 16 bits


@pytest.mark.parametrize("bad", [[-1], [10**6], [5] * (POSITIONS + 1)])
def test_a_bad_row_is_refused_before_it_reaches_the_device(loaded: Loaded, bad: list[int]) -> None:
    with pytest.raises(ValueError, match=r"not in 0 to|the most is"):
        loaded.graphs.launch(payloads([bad]), Packing.PACKED)
    agree(run(loaded.graphs, BATCHES[0], Packing.PACKED), loaded.expected(BATCHES[0]), TOLERANCE)
