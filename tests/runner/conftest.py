"""Runners of the checkpoints that a test file names: its fixtures end in `_folder`."""

from pathlib import Path

import pytest

from predictor.core.model import Task
from predictor.engine.port import Runner
from tests.runner.rows import load


@pytest.fixture(scope="module")
def classifier(classifier_folder: Path) -> Runner:
    return load(classifier_folder, Task.TEXT_CLASSIFICATION)


@pytest.fixture(scope="module")
def embedder(encoder_folder: Path) -> Runner:
    return load(encoder_folder, Task.TEXT_EMBEDDING)
