"""The part of a replica that works off jobs: it pulls lines for the models that are ready.

It wakes when lines are announced, when a lease runs out, when a line has ended, and once a beat,
in which it also says that it lives, renews its leases and hears what there is of each model's
jobs. An announcement that was lost while Redis was away is made up for by the next beat.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from predictor.core.errors import Unavailable
from predictor.core.facts import JobsSeen
from predictor.core.jobs import LineRunner
from predictor.jobs.connection import Connection, Retries
from predictor.jobs.leases import Leases
from predictor.jobs.pace import Pace
from predictor.jobs.puller import Puller

LEASE_S = 30.0
RENEWALS = 3  # in the time of a lease
BEAT_S = 1.0
MISSED_BEATS = 5  # after which a replica no longer counts
MOST_HELD = 4096  # lines of a model
GIVE_BACK_WITHIN_S = 5.0


class Worker:
    """One a process. `run` works until `drain` has ended, or until it is cancelled."""

    def __init__(
        self,
        connection: Connection,
        runner: LineRunner,
        models: Sequence[str],
        *,
        least_held: int,
        seen: Callable[[JobsSeen], None],
        replica: str | None = None,
        most_held: int = MOST_HELD,
        lease_s: float = LEASE_S,
        beat_s: float = BEAT_S,
    ) -> None:
        """`least_held` is two batches' worth of lines. `seen` is told what changed, once a beat.

        Processes that serve as one replica give the same name as `replica`.
        """
        self._leases = Leases(connection, lease_s)
        self._pullers = {
            model: Puller(model, self._leases, runner, Pace(least_held, most_held))
            for model in models
        }
        self._seen = seen
        self._replica = replica or f"{socket.gethostname()}:{secrets.token_hex(4)}"
        self._renew_every_s = lease_s / RENEWALS
        self._beat_s = beat_s
        self._known: dict[str, JobsSeen] = {}
        self._draining = False
        self._left = asyncio.Event()

    async def run(self) -> None:
        loops = [self._listen(), self._beat()]
        for puller in self._pullers.values():
            loops += [puller.pull(), puller.settle()]
        tasks = [asyncio.create_task(loop) for loop in loops]
        left = asyncio.create_task(self._left.wait())
        try:
            waited: set[asyncio.Task[Any]] = {left, *tasks}
            while not left.done():
                done, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a loop ends by itself only if it fails: our own fault
        finally:
            for task in (left, *tasks):
                task.cancel()
            await asyncio.gather(left, *tasks, return_exceptions=True)
            for puller in self._pullers.values():
                puller.give_back()  # nobody is left to settle: their leases run out

    def wake(self) -> None:
        """A model may have become ready. The next beat would find it too."""
        for puller in self._pullers.values():
            puller.wake(lines_wait=False)

    async def drain(self, within_s: float) -> None:
        """Claim no more, wait that long for what runs, give back the rest, and leave."""
        self._draining = True
        for puller in self._pullers.values():
            puller.stop_claiming()
        leaving = asyncio.create_task(self._leave())
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._finished()
        for puller in self._pullers.values():
            puller.give_back()
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_BACK_WITHIN_S):
                await asyncio.gather(leaving, self._finished())
        self._left.set()

    async def _leave(self) -> None:
        with suppress(Unavailable):  # then it is no longer counted when its beats are missed
            for model in self._pullers:
                await self._leases.leave(model, self._replica)

    async def _finished(self) -> None:
        await asyncio.gather(*(puller.finished() for puller in self._pullers.values()))

    async def _listen(self) -> None:
        retries = Retries()
        while True:
            try:
                async with self._leases.announcements() as models:
                    retries.succeeded()
                    for puller in self._pullers.values():
                        puller.wake()  # what was announced before, nobody heard
                    async for model in models:
                        if model in self._pullers:
                            self._pullers[model].wake()
            except Unavailable:
                await retries.wait()

    async def _beat(self) -> None:
        renewed_s = time.monotonic()
        while True:
            try:
                if not self._draining:
                    await self._say_alive()
                if time.monotonic() >= renewed_s + self._renew_every_s:
                    for puller in self._pullers.values():
                        await puller.renew()
                    renewed_s = time.monotonic()
            except Unavailable:
                for model in self._pullers:
                    known = self._known.get(model, JobsSeen(model, 0, 0, 0, 1))
                    self._tell(msgspec.structs.replace(known, replicas=1))
            await asyncio.sleep(self._beat_s)

    async def _say_alive(self) -> None:
        for model, puller in self._pullers.items():
            life_s = MISSED_BEATS * self._beat_s
            seen = await self._leases.beat(model, self._replica, life_s)
            self._tell(seen)
            puller.wake(lines_wait=seen.waiting > 0)

    def _tell(self, seen: JobsSeen) -> None:
        if seen != self._known.get(seen.model):
            self._known[seen.model] = seen
            self._seen(seen)
