"""Leases: how replicas that may die at any moment share lines, and each ends once.

A line is *waiting*, *leased* or *ended*. To claim a line is to lease it for a time, and the
replica renews the lease while the line runs. A replica that dies, hangs or is cut off does not
renew. Nobody watches it: whoever claims next first takes back the leases that have expired. All
times are those of Redis's clock, and every step is one script there, so nothing comes between.

    waiting ──claim──> leased ──answered, refused──> ended
       ^                 │
       └──returned, failed, expired──┘      (failed and expired: at most so many attempts)

A lease that expired says nothing of the replica: it may be alive, and late (a paused process, a
slow network). So a line may run twice, and what must hold is that it *ends* once. Two fences see
to that.

- **To end a line** it must be among the begun lines of its job. Ending takes it out, in the same
  step that keeps the result and counts it; whoever comes second changes nothing. The first answer
  counts even if its lease was lost: the work was done, and answers to the same line are alike.
- **To say that a line failed**, or to give it back, one's own lease must be in force. Each claim
  has a token (Gray and Cheriton's leases [1], with the fencing token of later practice), so a
  late word on an old lease cannot undo a newer one.

So done + parked never exceeds the lines there are, waiting and leased lines are counted from
where they lie, and no count can drift. A replica that drains gives its lines back, which is no
attempt. A line that failed `most_attempts` times, by an error of its own or by a lease that ran
out, is parked with the reason: a line that kills its replica cannot kill one after the other.

Jobs of one model are served in the order in which they were queued, whatever their tier: the
first has all the replicas, and a later one gets lines when no earlier one has any waiting.

[1] C. Gray and D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file
cache consistency", SOSP 1989.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum

import msgspec

from predictor.core.facts import JobsSeen
from predictor.jobs.connection import Connection

MOST_ATTEMPTS = 3
CLAIM_BYTES = 8 << 20
SETTLE_LINES = 500  # in one script: its arguments are unpacked onto a stack
SETTLE_BYTES = 4 << 20


class Lease(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A line that is ours for a time. `failures`: attempts at it that failed before."""

    job_id: str
    index: int
    token: int
    tier: str
    failures: int
    line: bytes


class Ending(StrEnum):
    ANSWERED = "answered"
    FAILED = "failed"  # an attempt; after the last one the line is parked
    REFUSED = "refused"  # parked at once: it can never succeed
    RETURNED = "returned"  # given back, and no attempt


class Settlement(msgspec.Struct, frozen=True, eq=False, gc=False):
    """How a lease ended. `result`: the answer as a JSON object, or the error as a JSON string."""

    lease: Lease
    ending: Ending
    result: bytes = b""


class Claim(msgspec.Struct, frozen=True):
    """Lines to run. `expiry_s`: until the next lease of this model runs out, whoever has it."""

    leases: Sequence[Lease]
    expiry_s: float | None


class Leases:
    """What a worker asks of the store. All methods raise Unavailable while Redis is away."""

    def __init__(
        self, connection: Connection, lease_s: float, most_attempts: int = MOST_ATTEMPTS
    ) -> None:
        self._connection = connection
        self._lease_ms = round(lease_s * 1000)
        self._most_attempts = most_attempts

    async def claim(self, model: str, lines: int) -> Claim:
        """Lease at most so many lines, fewer where they are long (CLAIM_BYTES and one line)."""
        expiry_ms, *fields = await self._connection.run(
            "claim", model, lines, CLAIM_BYTES, self._lease_ms, self._most_attempts
        )
        leases = [
            Lease(job_id.decode(), int(index), token, tier.decode(), int(failures), line)
            for job_id, index, token, tier, failures, line in zip(*[iter(fields)] * 6, strict=True)
        ]
        return Claim(leases, None if expiry_ms is None else expiry_ms / 1000)

    async def renew(self, model: str, leases: Sequence[Lease]) -> int:
        """Hold them for another term. How many were still in force; the others stay lost."""
        in_force = 0
        for first in range(0, len(leases), SETTLE_LINES):
            names = [
                field
                for lease in leases[first : first + SETTLE_LINES]
                for field in (lease.job_id, lease.index, lease.token)
            ]
            in_force += await self._connection.run("renew", model, self._lease_ms, *names)
        return in_force

    async def settle(self, model: str, settlements: Iterable[Settlement]) -> int:
        """End leases. How many lines this gave their answer; the others had ended before.

        May be repeated with the same settlements when it raised.
        """
        answered = 0
        for part in _parts(settlements):
            fields = [
                field
                for each in part
                for field in (
                    *(each.lease.job_id, each.lease.index, each.lease.token),
                    *(each.ending.value, each.result),
                )
            ]
            answered += await self._connection.run("settle", model, self._most_attempts, *fields)
        return answered

    async def beat(self, model: str, replica: str, life_s: float) -> JobsSeen:
        """Say that the replica lives, for so long; what there is of the model's jobs."""
        waiting, leased, parked, replicas, refused = await self._connection.run(
            "beat", model, replica, round(life_s * 1000)
        )
        stalled = refused is not None and waiting > 0
        return JobsSeen(model, waiting, leased, parked, replicas, stalled)

    async def leave(self, model: str, replica: str) -> None:
        """The replica is no longer counted."""
        await self._connection.run("leave", model, replica)

    @asynccontextmanager
    async def announcements(self) -> AsyncIterator[AsyncIterator[str]]:
        """Models that lines wait for anew, while inside."""
        async with self._connection.subscribed("waiting") as messages:
            yield (message.decode() async for message in messages)


def _parts(settlements: Iterable[Settlement]) -> Iterable[list[Settlement]]:
    part: list[Settlement] = []
    size = 0
    for settlement in settlements:
        part.append(settlement)
        size += len(settlement.result)
        if len(part) == SETTLE_LINES or size >= SETTLE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
