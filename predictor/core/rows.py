"""The vocabulary of queueing: rows wait in queues, leave in batches, and settle once.

A request with n rows becomes n `Row`s. A row's `tokens` is its length in the unit
that its model is charged for: tokens of text, frames of audio (20 ms), ids of `simulated`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

NO_DEADLINE = math.inf


class Outcome(StrEnum):
    """How a request ended. Each request ends exactly once."""

    OK = "ok"
    INVALID = "invalid"  # bad input
    QUEUE_FULL = "queue_full"  # refused at admission: no room
    SHED = "shed"  # refused because it would miss its deadline
    EXPIRED = "expired"  # its deadline passed while it waited
    CANCELLED = "cancelled"  # the client went away
    FAILED = "failed"  # the model raised for it
    UNAVAILABLE = "unavailable"  # draining, loading, engine gone


class DispatchReason(StrEnum):
    """Why a batch left when it did, with the rows it had."""

    FULL = "full"  # the size or token limit was reached
    DEADLINE = "deadline"  # one more row would have made its head late
    IDLE = "idle"  # the device was free and this was all that waited
    WINDOW = "window"  # the constant policy's window ran out
    TOP_UP = "top_up"  # bulk rows filled the room left


class Packing(StrEnum):
    """Who pays for whom in a batch."""

    PACKED = "packed"  # rows concatenated: cost follows the sum of tokens
    PADDED = "padded"  # every row padded to the longest: cost follows b * longest


@dataclass(slots=True, eq=False)
class Row:
    """One unit of work in a queue. Compared by identity.

    `expires_s` is the client's own deadline, where it gave one; `deadline_s`, which the policy
    works towards, is no later. A relegated row has no other any more.
    `payload` is the row's input as raw bytes (a 1-D array of the model's
    `row_datatype`); policy never looks at it. `owner` is whoever is told when the row settles.
    """

    model: str
    tier: str
    tokens: int
    arrival_s: float
    deadline_s: float = NO_DEADLINE
    payload: bytes = b""
    owner: object = None
    index: int = 0  # place in the owner's request
    sequence: int = 0  # arrival order, given by the queue
    expires_s: float = NO_DEADLINE
    relegated: bool = False  # its SLO is over, and its tier answers late rather than never
    held_back: bool = False  # alone it takes longer than a more urgent tier can wait


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of one model that run together, in the order they will be given to the runner."""

    model: str
    rows: Sequence[Row]
    packing: Packing
    reason: DispatchReason
    predicted_s: float
    computed_tokens: int  # what the device computes: real tokens, padding, room left in a step

    @property
    def size(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return sum(row.tokens for row in self.rows)

    @property
    def padding_tokens(self) -> int:
        """Tokens that the device computes and nobody asked for."""
        return self.computed_tokens - self.tokens
