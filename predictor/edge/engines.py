"""Several engines, one per device, behind the one `Engine` port that an edge knows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from predictor.core.errors import Unavailable
from predictor.core.facts import EdgeFact, JobsSeen
from predictor.core.generation import Generated
from predictor.core.model import ModelSpec
from predictor.edge.remote import RemoteEngine
from predictor.engine.port import EngineStatus, Reply, Submission
from predictor.policy.spread import least_loaded

Merge = Callable[[Mapping[str, bytes]], bytes]


class EngineGroup:
    """An `Engine`: a request goes to the ready engine that has the least of this edge's work.

    A model is ready while one engine serves it.
    """

    def __init__(self, engines: Sequence[RemoteEngine], merge: Merge) -> None:
        """`merge` makes one exposition of those of several engines, by their index."""
        self._engines = engines
        self._merge = merge
        self._last = -1
        for engine in engines:
            engine.watch(self._refresh)
        self._refresh()

    def submit(
        self, submission: Submission, part: Callable[[Generated], bool] | None = None
    ) -> asyncio.Future[Reply]:
        chosen = least_loaded(
            [
                engine.outstanding_tokens if _serves(engine, submission.model) else None
                for engine in self._engines
            ],
            self._last,
        )
        if chosen is None:  # any of them says why
            return self._engines[0].submit(submission, part)
        self._last = chosen
        return self._engines[chosen].submit(submission, part)

    def status(self) -> EngineStatus:
        return self._status

    def report(self, fact: EdgeFact) -> None:
        if isinstance(fact, JobsSeen):  # each engine is to know it
            for engine in self._engines:
                engine.report(fact)
            return
        reachable = (engine for engine in self._engines if engine.connected)
        next(reachable, self._engines[0]).report(fact)

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Of all engines that answer. Raises Unavailable where none does."""
        asked = [engine for engine in self._engines if engine.connected]
        answers = await asyncio.gather(
            *(engine.metrics(accept) for engine in asked), return_exceptions=True
        )
        bodies: dict[str, bytes] = {}
        content_type = ""
        for engine, answer in zip(asked, answers, strict=True):
            if not isinstance(answer, BaseException):
                bodies[str(engine.index)], content_type = answer
        if not bodies:
            raise Unavailable("the engines are restarting; scrape again shortly")
        return self._merge(bodies), content_type

    def drain(self) -> None:
        for engine in self._engines:
            engine.drain()

    def abandon(self) -> None:
        for engine in self._engines:
            engine.abandon()

    def _refresh(self) -> None:
        """Requests ask for the status far more often than it changes."""
        statuses = [engine.status() for engine in self._engines]
        draining = all(status.draining for status in statuses)
        models: dict[str, ModelSpec] = {}
        for status in statuses:
            if draining or not status.draining:
                models = {**status.models, **models}
        names = {name for status in statuses for name in status.loading}
        self._status = EngineStatus(
            draining=draining,
            generation=min((each.generation for each in statuses if each.models), default=0),
            models=models,
            loading=tuple(sorted(names.difference(models))),
            tightest_slo_s=min(status.tightest_slo_s for status in statuses),
            bulk_tier=next((each.bulk_tier for each in statuses if each.bulk_tier), ""),
            tiers=next((each.tiers for each in statuses if each.tiers), {}),
            edges_missing=max(status.edges_missing for status in statuses),
            silent=not models and any(status.silent for status in statuses),
            alive=all(status.alive for status in statuses),
        )


def _serves(engine: RemoteEngine, model: str) -> bool:
    status = engine.status()
    return model in status.models and not status.draining
