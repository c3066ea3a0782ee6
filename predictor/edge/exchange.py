"""What the lifecycle of a request asks of a transport: one exchange of a request and its answer.

The lifecycle (lifecycle.py) is the same for HTTP, gRPC, V1 and lines of jobs. What differs is
here: how a body comes, how it is decoded, how the answer is awaited, encoded and sent.
"""

import asyncio
import math
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from predictor.core.errors import InvalidRequest
from predictor.edge.generate_request import GenerateRequest
from predictor.edge.generating import Change, Texts
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import InferAnswer, InferRequest

T = TypeVar("T")
TIER_HEADER = "x-headway-tier"
TIMEOUT_HEADER = "x-headway-timeout-ms"
MAX_TIMEOUT_MS = 1e12


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """What a request asks for beside its body, in headers or as its transport's deadline.

    `timeout_s` counts from the request's arrival, which is when its body was complete.
    """

    tier: str | None = None
    timeout_s: float | None = None


class Exchange(Protocol):
    """One request on its transport. Methods are called in this order."""

    protocol: str  # as metrics name it: "http" | "grpc" | "v1" | "jobs"
    paced: bool  # a client waits for it, and it may have waited in a socket, unseen
    model: str
    version: str  # of the model; empty where the client names none

    def receive(self) -> Awaitable[Any]:
        """The request as it came, when it is whole.

        Raises ClientGoneError, BodyTimeout, RequestTooLarge, InvalidRequest.
        """
        ...

    def size(self, body: Any) -> int:
        """Its bytes."""
        ...

    def decode(self, body: Any, codec: TaskCodec) -> InferRequest:
        """Raises InvalidRequest, naming the field. That of a large body runs on a thread."""
        ...

    def call(self) -> Call:
        """Raises InvalidRequest, naming the header."""
        ...

    def wait(self, future: asyncio.Future[T]) -> Awaitable[T]:
        """The result of what the client waits for: rows that take long to make, the reply.

        When the client is gone, the future is cancelled, and ClientGoneError is raised where the
        transport does not cancel the task itself.
        """
        ...

    def encode(self, answer: InferAnswer, request: InferRequest) -> Any: ...

    def send(self, encoded: Any) -> Awaitable[None]: ...


@runtime_checkable
class StreamingExchange(Exchange, Protocol):
    """An exchange whose answer may come in parts. An error after the first is put into it."""

    def begin(self, request: GenerateRequest, texts: Texts) -> None:
        """Its request was let in. Nothing is sent yet: what is refused later has a status still."""
        ...

    def encode_part(self, changes: Sequence[Change]) -> Any: ...

    def send_part(self, encoded: Any) -> Awaitable[None]:
        """Waits for a reader that is slow; raises ClientGoneError for one that stands still."""
        ...

    def end(self) -> Awaitable[None]:
        """All parts are sent, and the request has ended well."""
        ...


def timeout_from_header(value: str) -> float:
    """Seconds from the header's milliseconds. Raises InvalidRequest unless 0 < ms."""
    try:
        timeout_ms = float(value)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
        raise InvalidRequest(f"{TIMEOUT_HEADER}: must be milliseconds above 0, not {value[:32]!r}")
    return timeout_ms / 1e3


def call_from_headers(tier: str | None, timeout: str | None) -> Call:
    """Raises InvalidRequest. The values of the two headers, where they are there."""
    return Call(tier, None if timeout is None else timeout_from_header(timeout))
