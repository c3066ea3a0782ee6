"""The generator of a GPU gives the texts of the CPU's, however steps are made. Without graphs."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from predictor.core.generation import GREEDY, Sampled, Sampling
from predictor.core.rows import AT_ITS_END, Piece
from predictor.runner.fused_decoder import Buffers, FusedDecoder, SlotState
from predictor.runner.fused_generator import FusedGenerator
from predictor.runner.generation_trial import compare_forwards
from predictor.runner.generator import Generator
from predictor.runner.kernels import attention
from predictor.runner.paged_memory import PAGE_TOKENS
from predictor.runner.sampling import Choice, Draw, Logprobs, Sampler
from predictor.runner.step_graphs import StepGraphs
from tests.runner.decoders import VOCABULARY, Reference, load_decoder, load_fused, write_decoder
from tests.runner.kernels import DEVICE
from tests.runner.stepping import Habits, Stepper, Task, greedy, task_of, texts

TOKENS = 5
# Between them all that a checkpoint may have. Small, because the interpreter takes a millisecond
# for each program of each kernel.
CHECKPOINTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "biases": (
        "llama",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 10,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "num_hidden_layers": 1,
        },
    ),
    "norms of heads, a window, tied": (
        "qwen3",
        {
            "head_dim": 8,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "num_hidden_layers": 2,
            "use_sliding_window": True,
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention"],
            "tie_word_embeddings": True,
        },
    ),
}
PROMPTS = [[5], [7, 8, 9], list(range(10, 27)), list(range(30, 51))]
HABITS = {
    "in chunks": Habits(most_rows=4, chunk=(3, 12), seed=1),
    "evicted": Habits(most_rows=3, chunk=(9, 30), share=0.8, evicted=0.1, seed=4, pages=9),
}
MIXED = [
    Sampling(max_tokens=TOKENS, seed=7, min_tokens=3, stop_ids=tuple(range(60)), logprobs=2),
    Sampling(max_tokens=TOKENS, seed=2, top_p=0.8, repetition_penalty=1.3, presence_penalty=0.5),
    Sampling(
        max_tokens=TOKENS,
        temperature=GREEDY,
        logit_bias=((7, 5.0),),
        frequency_penalty=1.5,
        logprobs=0,
    ),
    greedy(TOKENS),
]


def load(folder: Path) -> FusedGenerator:
    if DEVICE.type == "cuda":
        return load_fused(folder, dtype="float32", capture_graphs=False)
    plain = load_decoder(folder)
    weights, memory = plain._weights, plain._memory
    decoder = FusedDecoder(weights, memory, SlotState(memory.slots, DEVICE))
    buffers = Buffers(weights, 24, memory.slots, memory.slots)  # longer steps have their own
    none = StepGraphs(torch.zeros(0, dtype=torch.int32), memory.slots, (), ())
    return FusedGenerator(plain.spec, decoder, buffers, none, None)


@pytest.fixture(autouse=True, scope="module")
def few_splits() -> Iterator[None]:
    """Of an attention, which has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_SPLITS", (2,))
        yield


@pytest.fixture(scope="module", params=CHECKPOINTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, config = CHECKPOINTS[request.param]
    return write_decoder(tmp_path_factory.mktemp("decoder"), family, config)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Generator:
    return load_decoder(folder)


@pytest.fixture(scope="module")
def fused(few_splits: None, folder: Path) -> FusedGenerator:
    return load(folder)


def tasks_of(asked: Sequence[Sampling]) -> list[Task]:
    return [task_of(prompt, each) for prompt, each in zip(PROMPTS, asked, strict=True)]


def test_it_passes_the_trial(folder: Path, fused: FusedGenerator) -> None:
    compare_forwards(fused, Reference(folder).model)


@pytest.mark.parametrize("how", HABITS)
def test_texts_are_those_of_the_cpu(plain: Generator, fused: FusedGenerator, how: str) -> None:
    expected, tasks = tasks_of(MIXED), tasks_of(MIXED)
    plain_texts = Stepper(plain, HABITS[how]).run(expected)
    stepper = Stepper(fused, HABITS[how])
    assert stepper.run(tasks) == plain_texts
    assert bool(stepper.evictions) == bool(HABITS[how].evicted)
    for task, other in zip(tasks, expected, strict=True):
        tell_the_same(task.results, other.results)


def tell_the_same(made: Sequence[Sampled], expected: Sequence[Sampled]) -> None:
    assert [each.id for each in made] == [each.id for each in expected]
    for one, other in zip(made, expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [id_ for id_, _ in one.top] == [id_ for id_, _ in other.top]
        values = [value for _, value in other.top]
        assert [value for _, value in one.top] == pytest.approx(values, abs=1e-4)


# What follows is not about the model: one of them will do.


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"num_hidden_layers": 1, "num_key_value_heads": 1, "num_attention_heads": 2}
    return write_decoder(tmp_path_factory.mktemp("small"), "llama", config)


@pytest.fixture(scope="module")
def cpu(small: Path) -> Generator:
    return load_decoder(small)


@pytest.fixture(scope="module")
def gpu(few_splits: None, small: Path) -> FusedGenerator:
    return load(small)


@pytest.fixture(scope="module")
def expected(cpu: Generator) -> list[list[int]]:
    return texts(cpu, PROMPTS, MIXED)


def test_evictions_and_prefix_hits_change_nothing(
    gpu: FusedGenerator, expected: list[list[int]]
) -> None:
    tasks = [*tasks_of(MIXED), *tasks_of(MIXED)]
    habits = Habits(most_rows=3, evicted=0.15, prefix_cache=True, share=0.9, seed=2)
    stepper = Stepper(gpu, habits)
    assert stepper.run(tasks) == [*expected, *expected]
    assert stepper.evictions
    assert stepper.prefix_hits


def test_a_row_whose_logits_are_no_numbers_ends_alone(cpu: Generator, gpu: FusedGenerator) -> None:
    """Nor does what it leaves in its pages harm those that are given them."""
    sick_id = 3
    asked = [
        Sampling(max_tokens=3, temperature=GREEDY, logit_bias=((sick_id, -1000.0),))
        for _ in PROMPTS
    ]
    expected = texts(cpu, PROMPTS, asked)
    embedding = gpu._decoder.weights.embedding
    kept = embedding[sick_id].clone()
    embedding[sick_id] = math.nan
    try:
        sick = [task_of([5, sick_id, *range(10, 30)], greedy(3)) for _ in range(2)]
        tasks = [sick[0], *tasks_of(asked), sick[1]]
        Stepper(gpu, Habits(most_rows=3, pages=8)).run(tasks)
    finally:
        embedding[sick_id] = kept
    assert all("not finite" in str(task.failure) for task in sick)
    assert [task.text for task in tasks if task not in sick] == expected


def test_a_row_whose_logits_are_no_numbers_does_not_go_on(gpu: FusedGenerator) -> None:
    """Its next step may be on the device before anyone has seen that."""
    embedding = gpu._decoder.weights.embedding
    kept = embedding[3].clone()
    embedding[3] = math.nan
    try:
        tasks = [task_of([3, 4], greedy(3)), task_of([5, 6], greedy(3))]
        first = gpu.launch_step(prompts_of(tasks))
        second = gpu.launch_step(decodes_of(tasks))
        assert [isinstance(each, Exception) for each in first.results()] == [True, False]
        second.results()
        last = gpu.run_step(decodes_of(tasks))
        assert [isinstance(each, Exception) for each in last] == [True, False]
        assert "not finite" in str(last[0])
    finally:
        embedding[3] = kept


@pytest.mark.parametrize("wrong", [-1, VOCABULARY])
def test_a_bad_id_ends_its_row_alone(cpu: Generator, gpu: FusedGenerator, wrong: int) -> None:
    bad = task_of([5, wrong, 6], greedy(2))
    tasks = tasks_of([greedy(2)] * len(PROMPTS))
    tasks.insert(1, bad)
    Stepper(gpu, Habits()).run(tasks)
    assert f"0 to {VOCABULARY - 1}" in str(bad.failure)
    tasks.remove(bad)
    assert [task.text for task in tasks] == texts(cpu, PROMPTS, greedy(2))


def test_a_bad_piece_fails_alone(gpu: FusedGenerator) -> None:
    tasks = [task_of([4, 5, 6], greedy(3)), task_of([7], greedy(3))]
    gpu.run_step(prompts_of(tasks))
    stranger = task_of([1, 2], greedy(3)).row
    good = decodes_of(tasks)
    bad = [
        Piece(stranger, 0, AT_ITS_END, 1, (), fresh=False, samples=True),
        Piece(stranger, 10**6, 0, 2, (8,), fresh=True, samples=True),
        Piece(stranger, 2, 0, 2, (10**6,), fresh=True, samples=True),
    ]
    results = gpu.run_step([bad[0], good[0], bad[1], good[1], bad[2]])
    assert [isinstance(each, ValueError) for each in results] == [True, False] * 2 + [True]


def prompts_of(tasks: Sequence[Task]) -> list[Piece]:
    """Whole prompts, in slots and pages by number."""
    return [
        Piece(
            task.row,
            slot,
            0,
            task.row.tokens,
            tuple(range(4 * slot, 4 * slot + task.row.tokens // PAGE_TOKENS + 2)),
            fresh=True,
            samples=True,
        )
        for slot, task in enumerate(tasks)
    ]


def decodes_of(tasks: Sequence[Task]) -> list[Piece]:
    return [
        Piece(task.row, slot, AT_ITS_END, 1, (), fresh=False, samples=True)
        for slot, task in enumerate(tasks)
    ]


def test_steps_are_launched_before_those_ahead_have_been_read(
    gpu: FusedGenerator, expected: list[list[int]]
) -> None:
    tasks = tasks_of(MIXED)
    pieces = decodes_of(tasks)
    launched = [gpu.launch_step(prompts_of(tasks))]
    read = []
    for _ in range(TOKENS - 1):
        launched.append(gpu.launch_step(pieces))
        read.append(launched.pop(0).results())
    read.append(launched.pop().results())
    made = [
        [each.id for each in row if isinstance(each, Sampled)] for row in zip(*read, strict=True)
    ]
    # One that has ended is still in the steps that were launched by then.
    assert [row[: len(text)] for row, text in zip(made, expected, strict=True)] == expected
    assert all(len(row) == TOKENS for row in made)


class Insistent:
    """Runs a step that failed once more, in halves."""

    def __init__(self, runner: FusedGenerator) -> None:
        self.spec = runner.spec
        self.failures = 0
        self._runner = runner

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        try:
            return self._runner.run_step(pieces)
        except ArithmeticError:
            self.failures += 1
            half = -(-len(pieces) // 2)
            parts = (pieces[:half], pieces[half:])
            return [each for part in parts if part for each in self.run_step(part)]


class Faults:
    """Raises at some calls, at first in every other one."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def come(self) -> None:
        if next(self._calls) % 4 == 1:
            raise ArithmeticError("the device said no")


def test_a_step_whose_choice_failed_can_be_run_again(
    gpu: FusedGenerator, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward has written keys, values and the kernel's own choices by then."""
    faults, choose = Faults(), Sampler.choose

    def failing(self: Sampler, logits: torch.Tensor, draws: Sequence[Draw]) -> Choice:
        faults.come()
        return choose(self, logits, draws)

    monkeypatch.setattr(Sampler, "choose", failing)
    runner = Insistent(gpu)
    assert texts(runner, PROMPTS, MIXED, chunk=(5, 30)) == expected
    assert runner.failures


def test_a_step_that_failed_after_its_choice_can_be_run_again(
    gpu: FusedGenerator, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was chosen is not counted twice by a penalty."""
    faults, to_host = Faults(), gpu._logprobs_to_host

    def failing(logprobs: Logprobs) -> Logprobs:
        faults.come()
        return to_host(logprobs)

    monkeypatch.setattr(gpu, "_logprobs_to_host", failing)
    runner = Insistent(gpu)
    assert texts(runner, PROMPTS, MIXED, chunk=(5, 30)) == expected
    assert runner.failures
