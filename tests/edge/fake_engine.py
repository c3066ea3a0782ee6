"""An engine without queues: it answers on the next turn of the loop, or when told to."""

import asyncio
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from predictor.core.errors import RowFailed, Unavailable
from predictor.core.facts import EdgeFact, EdgeRefused, EdgeTimed, JobsSeen
from predictor.core.generation import Generated
from predictor.core.model import ModelSpec, Task
from predictor.engine.port import EngineStatus, Reply, RowInput, Submission

LABELS = ("calm", "busy", "full")
SIMULATED = ModelSpec("sim", Task.SIMULATED, "INT64", "INT64", 1, 4096)
EMBEDDING_WIDTH = 4


def text_specs(tokenizer_file: Path, vocabulary_size: int) -> dict[str, ModelSpec]:
    """A classifier and an embedder over one tokenizer; rows are cut at 8 tokens."""
    classifier = ModelSpec(
        "topics",
        Task.TOPIC,
        "INT64",
        "FP32",
        len(LABELS),
        8,
        labels=LABELS,
        tokenizer_file=str(tokenizer_file),
        vocabulary_size=vocabulary_size,
    )
    embedder = msgspec.structs.replace(
        classifier,
        name="embed",
        task=Task.TEXT_EMBEDDING,
        result_width=EMBEDDING_WIDTH,
        labels=(),
    )
    return {"topics": classifier, "embed": embedder}


class FakeEngine:
    """An `Engine`. `hold` keeps submissions in `held` until `release`; `refuse` fails them."""

    tightest_slo_s = math.inf
    bulk_tier = "bulk"

    def __init__(self, models: Mapping[str, ModelSpec], loading: Sequence[str] = ()) -> None:
        self.models = dict(models)
        self.loading = list(loading)
        self.draining = False
        self.hold = False
        self.refuse: Exception | None = None
        self.held: list[tuple[Submission, asyncio.Future[Reply]]] = []
        self.submissions: list[Submission] = []
        self.reports: list[EdgeTimed] = []
        self.refusals: list[EdgeRefused] = []
        self.jobs_seen: list[JobsSeen] = []
        self.submitted = asyncio.Event()

    def submit(
        self, submission: Submission, part: Callable[[Generated], bool] | None = None
    ) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.note(submission)
        self.submitted.set()
        if self.refuse is not None:
            future.set_exception(self.refuse)
        elif self.draining:
            future.set_exception(Unavailable("draining"))
        elif self.hold:
            self.held.append((submission, future))
        else:
            asyncio.get_running_loop().call_soon(self._settle, submission, future)
        return future

    def note(self, submission: Submission) -> None:
        self.submissions.append(submission)

    def release(self) -> None:
        self.hold = False
        for submission, future in self.held:
            self._settle(submission, future)
        self.held.clear()

    def status(self) -> EngineStatus:
        return EngineStatus(
            self.draining,
            1,
            self.models,
            tuple(self.loading),
            self.tightest_slo_s,
            self.bulk_tier,
            {"interactive": 1, "bulk": 2},
        )

    def report(self, fact: EdgeFact) -> None:
        if isinstance(fact, EdgeTimed):
            self.reports.append(fact)
        elif isinstance(fact, EdgeRefused):
            self.refusals.append(fact)
        else:
            self.jobs_seen.append(fact)

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"headway_up 1\n", "text/plain; version=0.0.4"

    def _settle(self, submission: Submission, future: asyncio.Future[Reply]) -> None:
        if future.done():
            return
        spec = self.models[submission.model]
        try:
            results = [_result(spec, row) for row in submission.rows]
        except RowFailed as error:
            future.set_exception(error)
            return
        future.set_result(Reply(results, 0.001, 0.005, len(results)))


def _result(spec: ModelSpec, row: RowInput) -> bytes:
    ids = array("q", row.payload)
    assert len(ids) == row.tokens
    if spec.task is Task.SIMULATED:
        if min(ids) < 0:
            raise RowFailed("the model raised for this row")
        return sum(ids).to_bytes(8, "little", signed=True)
    if spec.task is Task.TEXT_EMBEDDING:
        return np.full(spec.result_width, len(ids), "<f4").tobytes()
    return np.array([0.25, 0.5, 0.25], "<f4").tobytes()
