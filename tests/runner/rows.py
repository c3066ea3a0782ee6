"""Rows for an encoder, and its answers as arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Packing
from predictor.engine.port import Runner
from predictor.runner.loading import load_runner
from tests.runner.checkpoints import VOCABULARY

FIRST_ID = 4  # the ids before it are special tokens


def load(folder: Path, task: Task) -> Runner:
    """A checkpoint on the CPU."""
    return load_runner(ModelSettings(name="m", task=task, model_dir=str(folder), device="cpu"))


def payloads(rows: Sequence[Sequence[int]]) -> list[bytes]:
    return [np.array(row, dtype=np.int64).tobytes() for row in rows]


def values(results: Sequence[bytes]) -> NDArray[np.float32]:
    """[rows, width]."""
    return np.stack([np.frombuffer(result, np.float32) for result in results])


def run(
    runner: Runner, rows: Sequence[Sequence[int]], packing: Packing = Packing.PADDED
) -> NDArray[np.float32]:
    """[rows, width], of a model whose results have the width that its spec says."""
    results = runner.run(payloads(rows), packing)
    assert {len(result) for result in results} == {4 * runner.spec.result_width}
    return values(results)


def random_rows(rng: np.random.Generator, lengths: Sequence[int]) -> list[list[int]]:
    return [rng.integers(FIRST_ID, VOCABULARY, length).tolist() for length in lengths]
