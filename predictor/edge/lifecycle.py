"""The one life of a request at the edge, whatever transport it came by.

arrive -> pace -> decode -> submit -> await -> encode -> send -> account

A request arrives when its body is complete: until then the time is the client's. Whether it is
answered or ends with an error, it is accounted once, at its end. An answer is one reply, or it
comes in parts (generated text): each is awaited, encoded and sent in a loop, and nothing else
differs.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from predictor.core.errors import DeadlineExceeded, HeadwayError, Shed
from predictor.core.facts import EdgeRefused, EdgeTimed
from predictor.edge.budget import DecodedBytes, Reservation
from predictor.edge.exchange import ClientGoneError, Exchange, StreamingExchange
from predictor.edge.generate_request import GenerateRequest
from predictor.edge.generating import Texts
from predictor.edge.generation_codec import (
    GenerationCodec,
    decoded_bytes_of,
    is_heavy,
    prepared,
    rows_of,
    texts_of,
)
from predictor.edge.heavy import HeavyWork
from predictor.edge.holds import Holds
from predictor.edge.json_text import LARGE_BYTES
from predictor.edge.statuses import INTERNAL_MESSAGE
from predictor.edge.tasks import TaskCodec, TaskRows, check_outputs, choose_outputs
from predictor.edge.tensors import InferAnswer, InferRequest, Tensor, WantedOutput
from predictor.edge.turns import Turns
from predictor.engine.port import Engine, Reply, Submission
from predictor.freed_memory import LARGE_READS

_LOG = logging.getLogger("headway.edge")
OVERRUN_RETRY_S = 1.0

Kind = tuple[str, str | None, int | None]  # a model, and the tier or priority asked for


class _Asked(NamedTuple):
    """What a request asks for beside its rows. `decoded_s`: when that was known."""

    kind: Kind
    timeout_s: float | None
    decoded_s: float


class _Pending(msgspec.Struct, frozen=True):
    """A submitted request: the future to await, and what is needed to answer it.

    `kind` is None where a refusal would say nothing of others: it has a timeout of its own, or
    more rows than one.
    """

    future: asyncio.Future[Reply]
    codec: TaskCodec
    texts: Texts | None  # of rows that generate
    wanted: Sequence[WantedOutput]
    counts: Sequence[int] | None  # of its rows, as TaskRows has them
    truncated: int
    decode_s: float
    tokenise_s: float
    submitted_s: float
    kind: Kind | None


class Lifecycle:
    """Takes requests from arrival to account. One for all transports of an edge."""

    def __init__(
        self,
        engine: Engine,
        codec: Callable[[str, str], TaskCodec],
        clock: Callable[[], float],
        budget: DecodedBytes,
    ) -> None:
        """`codec` gives that of a model and version, or raises UnknownModel or Unavailable.

        `clock` is that of the engine, which shares the machine. `budget` is the process's.
        """
        self.budget = budget
        self._engine = engine
        self._codec = codec
        self._clock = clock
        self._holds = Holds()
        self._heavy = HeavyWork()
        self._turns = Turns(lambda turn: asyncio.get_running_loop().call_soon(turn), clock)

    async def run(self, exchange: Exchange) -> None:  # noqa: PLR0912 - a coroutine for each part of it costs every request
        """Serve one request, to the last byte of its answer.

        Raises the HeadwayError that ended it, when that is accounted, for the transport to send;
        and ClientGoneError, where there is nobody to send anything to.
        """
        pending: _Pending | None = None
        held = Reservation(self.budget, not exchange.paced)
        try:
            body = await exchange.receive()
            arrived_s = self._arrived(exchange)
            codec = self._codec(exchange.model, exchange.version)
            if not exchange.paced:
                await held.turn()
            if exchange.size(body) > LARGE_BYTES:
                request = await self._decoded(exchange, body, codec)
            else:
                request = exchange.decode(body, codec)
            del body  # it may be large, and what waits needs it no more
            request = prepared(request, codec)
            asked = self._asked(exchange, request, codec)
            if is_heavy(request, codec):
                task_rows = await self._heavy_rows(exchange, request, codec, held)
            else:
                task_rows = rows_of(request, codec)
                if exchange.paced:
                    held.take(task_rows.size)
                else:
                    await held.wait(task_rows.size)
            pending = self._submit(exchange, request, codec, asked, task_rows, arrived_s)
            if held.size > LARGE_BYTES:  # it has its rows now, and nobody reads its inputs again
                request = msgspec.structs.replace(request, inputs={})
            if isinstance(request, GenerateRequest) and request.streams:
                encode_s = await self._stream(exchange, request, pending)
            else:
                reply = await exchange.wait(pending.future)
                replied_s = self._clock()
                encoded = exchange.encode(_answer(exchange, request, pending, reply), request)
                encode_s = self._clock() - replied_s
                await exchange.send(encoded)
        except ClientGoneError:
            raise  # rows that had been submitted are counted by the engine, as cancelled
        except HeadwayError as error:
            self._ended(exchange, pending, error)
            raise
        except Exception as error:
            self._broke(exchange, pending, error)
        finally:
            held.release()
        self._engine.report(
            EdgeTimed(
                exchange.model, exchange.protocol, pending.decode_s, pending.tokenise_s, encode_s
            )
        )

    def _arrived(self, exchange: Exchange) -> float:
        """When it arrived, as the clock counts. Raises Shed where this edge is far behind."""
        now_s = self._clock()
        if not exchange.paced:
            return now_s
        arrived_s = self._turns.arrival(now_s)
        if self._turns.overrun(arrived_s, now_s, self._engine.status().tightest_slo_s):
            # Refusing is all that this edge can do in time.
            raise Shed(
                "this server has more requests than it can read in time; try again later",
                OVERRUN_RETRY_S,
            )
        return arrived_s

    async def _decoded(self, exchange: Exchange, body: Any, codec: TaskCodec) -> InferRequest:
        """The request of a large body, read on a thread."""
        work = self._heavy.run(exchange.decode, body, codec)
        try:
            return await exchange.wait(asyncio.ensure_future(work))
        finally:
            LARGE_READS.ended(exchange.size(body))

    def _asked(self, exchange: Exchange, request: InferRequest, codec: TaskCodec) -> _Asked:
        """What is asked for beside the rows. Raises InvalidRequest, and Shed where the engine has
        just shed its like."""
        call = exchange.call()
        tier, timeout_s = call.tier, call.timeout_s
        if request.wanted:
            check_outputs(request.wanted, codec.outputs)
        decoded_s = self._clock()
        priority = request.priority or None
        if (
            isinstance(request, GenerateRequest)
            and request.bulk
            and tier is None
            and priority is None
        ):
            tier = self._engine.status().bulk_tier or None
        kind = (exchange.model, tier, priority)
        if self._holds.holds(kind, decoded_s):
            raise Shed("it would miss its deadline, as those before it; try again later")
        if request.timeout_us:
            own_s = request.timeout_us / 1e6
            timeout_s = own_s if timeout_s is None else min(timeout_s, own_s)
        return _Asked(kind, timeout_s, decoded_s)

    async def _heavy_rows(
        self, exchange: Exchange, request: InferRequest, codec: TaskCodec, held: Reservation
    ) -> TaskRows:
        """The rows, made on a thread, and `held` as much as they take: room is found before.

        Raises as `rows_of`, Unavailable where there is no room now, and RequestTooLarge where
        there never is.
        """
        bound = self._heavy.run(decoded_bytes_of, request, codec)
        size = await exchange.wait(asyncio.ensure_future(bound))
        if exchange.paced:
            held.take(size)
        else:
            await held.wait(size)
        work = self._heavy.run(rows_of, request, codec)
        task_rows = await exchange.wait(asyncio.ensure_future(work))
        held.correct(task_rows.size)
        return task_rows

    def _submit(
        self,
        exchange: Exchange,
        request: InferRequest,
        codec: TaskCodec,
        asked: _Asked,
        task_rows: TaskRows,
        arrived_s: float,
    ) -> _Pending:
        """Queue the rows. Raises DeadlineExceeded where the client's time is over already."""
        kind, timeout_s, decoded_s = asked
        _, tier, priority = kind
        rows = task_rows.rows
        tokenised_s = self._clock()
        if timeout_s is not None and tokenised_s - arrived_s >= timeout_s:
            raise DeadlineExceeded("the timeout passed before the request was queued")
        texts, streams = texts_of(request, codec, rows)
        future = self._engine.submit(
            Submission(
                model=exchange.model,
                rows=rows,
                tier=tier,
                priority=priority,
                timeout_s=timeout_s,
                arrived_s=arrived_s,
                return_s=self._turns.return_s if exchange.paced else 0.0,
                streams=streams,
            ),
            texts.take if texts is not None and streams else None,
        )
        return _Pending(
            future,
            codec,
            texts,
            request.wanted,
            task_rows.counts,
            task_rows.truncated,
            decoded_s - arrived_s,
            tokenised_s - decoded_s,
            tokenised_s,
            kind if timeout_s is None and len(rows) == 1 else None,
        )

    async def _stream(
        self, exchange: Exchange, request: GenerateRequest, pending: _Pending
    ) -> float:
        """Send the answer as it comes. Returns the seconds that encoding took.

        The client is watched all the while. One that is gone ends the rows, and with them this.
        """
        texts = pending.texts
        assert texts is not None
        assert isinstance(exchange, StreamingExchange)
        exchange.begin(request, texts)
        ending = asyncio.ensure_future(exchange.wait(pending.future))
        ending.add_done_callback(lambda _: texts.end())
        encode_s = 0.0
        try:
            while changes := await texts.changes():
                came_s = self._clock()
                encoded = exchange.encode_part(changes)
                encode_s += self._clock() - came_s
                await exchange.send_part(encoded)
            await ending
        finally:
            ending.cancel()
            pending.future.cancel()
        await exchange.end()
        return encode_s

    def _ended(self, exchange: Exchange, pending: _Pending | None, error: HeadwayError) -> None:
        """Account for a request that ended with an error.

        What ended before it was submitted is reported, because the engine never saw it. What
        the engine ended, it counted itself; a refusal of its own teaches what to hold back.
        """
        if pending is None:
            self._engine.report(EdgeRefused(exchange.model, exchange.protocol, error.outcome))
        elif isinstance(error, Shed) and pending.kind is not None:
            now_s = self._clock()
            slo_s = self._engine.status().tightest_slo_s
            self._holds.shed(pending.kind, now_s - pending.submitted_s, slo_s, now_s)

    def _broke(self, exchange: Exchange, pending: _Pending | None, error: Exception) -> NoReturn:
        """A fault of ours: its trace is for the log, and a sentence for the client."""
        _LOG.error(
            "a request to model %r over %s failed",
            exchange.model,
            exchange.protocol,
            exc_info=error,
        )
        internal = HeadwayError(INTERNAL_MESSAGE)
        self._ended(exchange, pending, internal)
        raise internal from None


def _answer(
    exchange: Exchange, request: InferRequest, pending: _Pending, reply: Reply
) -> InferAnswer:
    """An answer in one part."""
    outputs = _outputs(pending, reply)
    return InferAnswer(
        model=exchange.model,
        id=request.id,
        outputs=choose_outputs(outputs, pending.wanted, pending.codec.spec.labels),
        queue_us=round(reply.queue_s * 1e6),
        service_us=round(reply.service_s * 1e6),
        batch_size=reply.batch_size,
        truncated=pending.truncated,
        texts=pending.texts,
    )


def _outputs(pending: _Pending, reply: Reply) -> Sequence[Tensor]:
    texts, codec = pending.texts, pending.codec
    if texts is None:
        return codec.encode(reply.results, pending.counts)
    for generated in reply.generated:  # of requests that do not stream
        texts.take(generated)
    assert isinstance(codec, GenerationCodec)
    return codec.encode_texts(texts)
