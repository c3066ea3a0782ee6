"""The lines of a job: cut from a body and checked as they come, and run when their time comes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import TypeVar

import msgspec

from predictor.core.errors import InvalidRequest, RequestTooLarge, Unavailable
from predictor.core.jobs import MAX_LINE_BYTES
from predictor.core.shown import shown
from predictor.edge import http_codec
from predictor.edge.budget import DecodedBytes
from predictor.edge.exchange import Call
from predictor.edge.generation_codec import check, decoded_bytes_of, is_heavy, prepared
from predictor.edge.service import InferService
from predictor.edge.tasks import TaskCodec, check_outputs
from predictor.edge.tensors import InferAnswer, InferRequest
from predictor.engine.port import Engine

T = TypeVar("T")

JOBS_PROTOCOL = "jobs"
_LARGE_LINE_BYTES = 1 << 14  # decoding more at once would hold the event loop too long
_TURN_S = 2e-3  # so much checking, then others have the event loop
_LINES_A_TURN = 4


class LineCutter:
    """Cuts a body, in whatever chunks it comes, into lines. Holds one line at most.

    Lines count from 1. Only the last may be without a line end.
    """

    def __init__(self) -> None:
        self.number = 0  # of the line that was given last
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that are complete now. Raises RequestTooLarge."""
        first, *more = chunk.split(b"\n")
        self._hold(first)
        for piece in more:
            yield self._give()
            self._hold(piece)

    def end(self) -> Iterator[bytes]:
        """The last line, where it had no end."""
        if self._held:
            yield self._give()

    def _hold(self, piece: bytes) -> None:
        self._held += piece
        if len(self._held) > MAX_LINE_BYTES:
            raise RequestTooLarge(
                f"line {self.number + 1} is over {MAX_LINE_BYTES} bytes; send fewer rows in a line"
            )

    def _give(self) -> bytes:
        line, self._held = bytes(self._held), bytearray()
        self.number += 1
        return line


class LineChecker:
    """Refuses what a client can get wrong in a line, so that no such line is ever queued."""

    def __init__(
        self, codec: TaskCodec, tier: str, priority: int | None, budget: DecodedBytes
    ) -> None:
        """`priority` is the tier's, if it is known. `budget`: of what is decoded to be checked."""
        self._budget = budget
        self._codec = codec
        self._tier = tier
        self._priority = priority

    async def check(self, line: bytes) -> None:
        """Raises InvalidRequest. What takes long runs on a thread."""
        if len(line) > _LARGE_LINE_BYTES:
            request = await asyncio.to_thread(self._decode, line)
        else:
            request = self._decode(line)
        if is_heavy(request, self._codec):
            await self._check_heavy(request)
        else:
            check(request, self._codec)

    async def _check_heavy(self, request: InferRequest) -> None:
        held = self._budget.reservation(of_line=True)
        try:
            await held.wait(await asyncio.to_thread(decoded_bytes_of, request, self._codec))
            await asyncio.to_thread(check, request, self._codec)
        finally:
            held.release()

    def _decode(self, line: bytes) -> InferRequest:
        if not line.strip():
            # Skipped, it would shift the index of every result behind it.
            raise InvalidRequest("is blank; take it out")
        request = http_codec.decode_request(line, model=self._codec.spec.name)
        if request.priority and request.priority != self._priority:
            raise InvalidRequest(
                f"parameters.priority is {request.priority}, but the job's tier is {self._tier!r} "
                f"(priority {self._priority}); leave it out"
            )
        if request.timeout_us:
            raise InvalidRequest("parameters.timeout: a job has no deadline; leave it out")
        if request.binary or any(wanted.binary for wanted in request.wanted):
            raise InvalidRequest("binary outputs: a job's results are JSON; leave them out")
        check_outputs(request.wanted, self._codec.outputs)
        return prepared(request, self._codec)


async def checked_lines(chunks: AsyncIterator[bytes], checker: LineChecker) -> AsyncIterator[bytes]:
    """The lines of a body. Raises InvalidRequest, naming the line by its number."""
    cutter = LineCutter()
    turn_s = monotonic()

    async def checked(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
        nonlocal turn_s
        for line in lines:
            try:
                await checker.check(line)
            except InvalidRequest as error:
                raise InvalidRequest(f"line {cutter.number}: {error.message}") from None
            yield line
            if monotonic() - turn_s > _TURN_S:
                await asyncio.sleep(0)
                turn_s = monotonic()

    async for chunk in chunks:
        async for line in checked(cutter.feed(chunk)):
            yield line
    async for line in checked(cutter.end()):
        yield line


class FewATurn:
    """Lets a few pass in each turn of the event loop, in the order in which they came.

    Lines come by the hundred, when a worker claimed some and when a batch has ended. Requests
    that come meanwhile need not wait until all of them were worked on.
    """

    def __init__(self, few: int) -> None:
        self._few = few
        self._passed = 0  # in this turn
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Return when it is one's turn."""
        loop = asyncio.get_running_loop()
        if not self._passed:
            loop.call_soon(self._next)
        if self._passed < self._few:
            self._passed += 1
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _next(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < self._few:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._passed += 1
        if self._passed:
            asyncio.get_running_loop().call_soon(self._next)


class EdgeLineRunner:
    """A `LineRunner`: a line goes the way of a request, without a client that waits for it."""

    def __init__(self, service: InferService) -> None:
        self._service = service
        self._few = FewATurn(_LINES_A_TURN)

    def ready(self, model: str) -> bool:
        return self._service.is_ready(model)

    async def run(self, model: str, tier: str, line: bytes) -> bytes:
        exchange = _LineExchange(model, tier, line, self._few, self._service.engine)
        await self._service.lifecycle.run(exchange)
        return exchange.answer


class _LineExchange:
    """A line on its way. Nobody waits for it, so it begins when it is run, and has no deadline."""

    __slots__ = ("_engine", "_few", "_line", "_tier", "answer", "model", "version")

    protocol = JOBS_PROTOCOL
    paced = False  # it came from a store, not from a socket, and can be run again

    def __init__(self, model: str, tier: str, line: bytes, few: FewATurn, engine: Engine) -> None:
        self.model = model
        self.version = ""
        self.answer = b""
        self._tier = tier
        self._line = line
        self._few = few
        self._engine = engine

    async def receive(self) -> bytes:
        await self._few.turn()
        return self._line

    def size(self, body: bytes) -> int:
        return len(body)

    def decode(self, body: bytes, codec: TaskCodec) -> InferRequest:
        # The job's tier counts. What the line asked for was checked against it when it came, and
        # the tier's priority may have been edited since.
        return msgspec.structs.replace(
            http_codec.decode_request(body), priority=None, timeout_us=None
        )

    def call(self) -> Call:
        """An edit may take away the tier of a job that waits; that is no fault of its lines."""
        status = self._engine.status()
        if self._tier in status.tiers:
            return Call(self._tier)
        if not status.bulk_tier:
            raise Unavailable(
                f"tier {shown(self._tier)} of the job is gone, and every other has an SLO"
            )
        return Call(status.bulk_tier)

    async def wait(self, future: asyncio.Future[T]) -> T:
        result = await future
        await self._few.turn()
        return result

    def encode(self, answer: InferAnswer, request: InferRequest) -> http_codec.HttpAnswer:
        return http_codec.encode_answer(answer, request)

    async def send(self, encoded: http_codec.HttpAnswer) -> None:
        self.answer = encoded.body
