"""A small scheduler for tests of a runner of steps: it makes pieces, at random but seeded.

It keeps pages, slots and progress the way the policy does, and checks nothing of the runner's.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from predictor.core.generation import GREEDY, Sampled, Sampling
from predictor.core.rows import AT_ITS_END, Piece, Progress, Row
from predictor.engine.port import StepRunner

MOST_STEPS = 5000


def greedy(tokens: int) -> Sampling:
    return Sampling(max_tokens=tokens, temperature=GREEDY)


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How steps are made. `share`: of the rows, in a step; the others are paused."""

    most_rows: int = 8
    chunk: tuple[int, int] = (1000, 1000)  # of a prompt, from and to
    share: float = 1.0
    evicted: float = 0.0  # probability for a row, in a step
    prefix_cache: bool = False
    pages: int = 1 << 20  # that it uses, of those that there are
    seed: int = 0


@dataclass(eq=False)
class Task:
    """A row on its way. `results` are what the runner said of it, failures last."""

    row: Row
    slot: int = -1
    results: list[Sampled] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def progress(self) -> Progress:
        assert self.row.progress is not None
        return self.row.progress

    @property
    def ids(self) -> list[int]:
        prompt: list[int] = np.frombuffer(self.row.payload, np.int64).tolist()
        return prompt + self.progress.output

    @property
    def text(self) -> list[int]:
        return self.progress.output

    @property
    def ended(self) -> bool:
        sampling, output = self.progress.sampling, self.progress.output
        stopped = (
            bool(output) and output[-1] in sampling.stop_ids and len(output) >= sampling.min_tokens
        )
        return self.failure is not None or len(output) >= sampling.max_tokens or stopped


def task_of(prompt: Sequence[int], sampling: Sampling) -> Task:
    progress = Progress(sampling, prefill=len(prompt))
    payload = np.array(prompt, dtype=np.int64).tobytes()
    return Task(Row("m", "", len(prompt), 0.0, payload=payload, progress=progress))


class Stepper:
    """Runs tasks to their ends."""

    def __init__(self, runner: StepRunner, habits: Habits) -> None:
        spec = runner.spec.generation
        assert spec is not None
        self._runner = runner
        self._habits = habits
        self._random = random.Random(habits.seed)
        self._page = spec.page_tokens
        self._free = list(range(min(spec.pages, habits.pages)))
        self._random.shuffle(self._free)
        self._slots = list(range(spec.slots))
        self._random.shuffle(self._slots)
        self._cached: dict[tuple[int, ...], int] = {}  # a prompt's beginning: its last page
        self._users: dict[int, int] = {}
        self.steps = 0
        self.prefix_hits = 0
        self.evictions = 0

    def run(self, tasks: Sequence[Task]) -> list[list[int]]:
        """The texts of all tasks."""
        waiting, running = list(tasks), list[Task]()
        while waiting or running:
            self.steps += 1
            assert self.steps < MOST_STEPS
            while waiting and len(running) < self._habits.most_rows:
                running.append(waiting.pop(0))
            for task in running:
                if task.slot >= 0 and self._random.random() < self._habits.evicted:
                    self._leave(task, evicted=True)
            self._step([task for task in running if self._takes_part()] or running[:1])
            for task in [task for task in running if task.ended]:
                running.remove(task)
                self._leave(task)
        return [task.text for task in tasks]

    def _takes_part(self) -> bool:
        return self._random.random() < self._habits.share

    def _step(self, tasks: Sequence[Task]) -> None:
        pieces = [self._piece(task) for task in tasks]
        results = self._runner.run_step(pieces)
        assert len(results) == len(pieces)
        for task, piece, result in zip(tasks, pieces, results, strict=True):
            if isinstance(result, Exception):
                task.failure = result
            elif piece.samples:
                assert result is not None
                task.results.append(result)
                task.progress.output.append(result.id)
            else:
                assert result is None
        for task in tasks:
            self._remember(task)

    def _piece(self, task: Task) -> Piece:
        progress = task.progress
        fresh = task.slot < 0
        pages: list[int] = []
        if fresh:
            task.slot = self._slots.pop()
            pages = self._hits(task)
            progress.planned = len(pages) * self._page
        start = progress.planned
        left = max(progress.prefill - start, 1)
        tokens = min(left, self._random.randint(*self._habits.chunk))
        end = start + tokens
        held = len(progress.pages) + len(pages)
        pages += [self._take() for _ in range(math.ceil(end / self._page) - held)]
        progress.pages += pages
        progress.planned = end
        decodes = start >= progress.prefill and self._random.random() < 0.7
        told = AT_ITS_END if decodes else start
        return Piece(task.row, task.slot, told, tokens, pages, fresh, end >= progress.prefill)

    def _take(self) -> int:
        page = self._free.pop(0)
        self._users[page] = 1
        return page

    def _hits(self, task: Task) -> list[int]:
        ids, pages = task.ids, list[int]()
        while self._habits.prefix_cache and (len(pages) + 1) * self._page < len(ids):
            page = self._cached.get(tuple(ids[: (len(pages) + 1) * self._page]))
            if page is None:
                break
            self._users[page] += 1
            pages.append(page)
        self.prefix_hits += len(pages)
        return pages

    def _remember(self, task: Task) -> None:
        """Full pages of what has been computed can be shared from now on."""
        ids = task.ids
        for index in range(min(task.progress.planned, len(ids)) // self._page):
            key = tuple(ids[: (index + 1) * self._page])
            if self._habits.prefix_cache and key not in self._cached and task.failure is None:
                self._cached[key] = task.progress.pages[index]
                self._users[task.progress.pages[index]] += 1

    def _leave(self, task: Task, *, evicted: bool = False) -> None:
        progress = task.progress
        for page in progress.pages:
            self._users[page] -= 1
            if not self._users[page]:
                self._free.insert(self._random.randrange(len(self._free) + 1), page)
        self._slots.insert(self._random.randrange(len(self._slots) + 1), task.slot)
        task.slot = -1
        progress.pages = []
        if evicted:
            self.evictions += 1
            progress.planned = 0
            progress.prefill = task.row.tokens + len(progress.output)


def texts(
    runner: StepRunner,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    **habits: Any,
) -> list[list[int]]:
    """What the runner generates after each prompt."""
    asked = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
    tasks = [task_of(prompt, each) for prompt, each in zip(prompts, asked, strict=True)]
    return Stepper(runner, Habits(**habits)).run(tasks)
