"""What an edge does with a request, whatever transport it came by."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import msgspec

from predictor.core.errors import (
    DeadlineExceeded,
    HeadwayError,
    InvalidRequest,
    Shed,
    Unavailable,
    UnknownModel,
)
from predictor.core.facts import EdgeRefused, EdgeTimed
from predictor.core.shown import MOST_SHOWN, shown
from predictor.edge.codecs import codec_for
from predictor.edge.heavy import HeavyWork
from predictor.edge.holds import Holds
from predictor.edge.tasks import (
    TaskCodec,
    TaskRows,
    check_outputs,
    choose_outputs,
)
from predictor.edge.tensors import InferAnswer, InferRequest, Tensor
from predictor.edge.turns import Turns
from predictor.engine.port import Engine, Reply, Submission

TIER_HEADER = "x-headway-tier"
TIMEOUT_HEADER = "x-headway-timeout-ms"
MAX_TIMEOUT_MS = 1e12
OVERRUN_RETRY_S = 1.0


class Call(msgspec.Struct, frozen=True):
    """How a request came: the model it names and what its headers ask for.

    `started_s` is its arrival, as `monotonic()` counts; `timeout_s` is its deadline from then.
    """

    model: str
    protocol: str
    started_s: float
    tier: str | None = None
    timeout_s: float | None = None


Kind = tuple[str, str | None, int | None]  # a model, and the tier or priority asked for


class Pending(msgspec.Struct, frozen=True):
    """A submitted request: the future to await, and what is needed to answer it.

    `kind` is None where a refusal would say nothing of others: it has a timeout of its own, or
    more rows than one.
    """

    future: asyncio.Future[Reply]
    call: Call
    codec: TaskCodec
    names: Sequence[str]
    counts: Sequence[int] | None  # of its rows, as TaskRows has them
    decode_s: float
    tokenise_s: float
    submitted_s: float
    kind: Kind | None


def timeout_from_header(value: str) -> float:
    """Seconds from the header's milliseconds. Raises InvalidRequest unless 0 < ms."""
    try:
        timeout_ms = float(value)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
        raise InvalidRequest(f"{TIMEOUT_HEADER}: must be milliseconds above 0, not {value[:32]!r}")
    return timeout_ms / 1e3


class InferService:
    """Turns requests into submissions and replies into answers."""

    def __init__(
        self,
        engine: Engine,
        model_names: Sequence[str],
        max_rows: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`model_names` are served here, loaded or not; `max_rows` bounds a request.

        `clock` is that of the engine, which shares the machine.
        """
        self._clock = clock
        self.engine = engine
        self.names = frozenset(model_names)
        self._max_rows = max_rows
        self._codecs: dict[str, TaskCodec] = {}
        self._holds = Holds()
        self._heavy = HeavyWork()
        self._turns = Turns(lambda turn: asyncio.get_running_loop().call_soon(turn), clock)

    def arrived(self) -> float:
        """When the request that is looked at first now arrived, as the clock counts."""
        return self._turns.arrival(self._clock())

    def check_pace(self, arrived_s: float) -> None:
        """Raises Shed where this edge is so far behind that refusing is all it can do."""
        if self._turns.overrun(arrived_s, self._clock(), self.engine.status().tightest_slo_s):
            raise Shed(
                "this server has more requests than it can read in time; try again later",
                OVERRUN_RETRY_S,
            )

    def codec(self, model: str) -> TaskCodec:
        """The codec of a ready model. Raises UnknownModel, Unavailable."""
        status = self.engine.status()
        spec = status.models.get(model)
        if spec is None:
            if model in self.names or model in status.loading:
                raise Unavailable(f"model {shown(model)} is loading; try again shortly")
            served = ", ".join(sorted(self.names.union(status.models)))
            raise UnknownModel(f"model {shown(model)} is not served here; served: {served}")
        if status.draining:
            raise Unavailable("the server is draining; try another replica, or this one later")
        codec = self._codecs.get(model)
        if codec is None or (codec.spec is not spec and codec.spec != spec):
            codec = self._codecs[model] = codec_for(spec, self._max_rows)
        return codec

    def is_ready(self, model: str) -> bool:
        """Whether a request would be taken now. Builds the codec, so that none waits for it."""
        try:
            self.codec(model)
        except HeadwayError:
            return False
        return True

    def all_ready(self) -> bool:
        """Whether every model is loaded and none is on its way out."""
        return not self.engine.status().loading and all(map(self.is_ready, self.names))

    async def submit(self, request: InferRequest, call: Call, codec: TaskCodec) -> Pending:
        """Queue the rows of a request.

        Raises InvalidRequest, DeadlineExceeded where the time that the client gave is over
        before the engine is reached, and Shed where the engine has just shed its like.
        """
        names = [wanted.name for wanted in request.wanted]
        if names:
            check_outputs(names, codec.outputs)
        decoded_s = self._clock()
        priority = request.priority or None
        kind = (call.model, call.tier, priority)
        if self._holds.holds(kind, decoded_s):
            raise Shed("it would miss its deadline, as those before it; try again later")
        task_rows = await self._rows(codec, request.inputs)
        tokenised_s = self._clock()
        timeout_s = call.timeout_s
        if request.timeout_us:
            own_s = request.timeout_us / 1e6
            timeout_s = own_s if timeout_s is None else min(timeout_s, own_s)
        if timeout_s is not None and tokenised_s - call.started_s >= timeout_s:
            raise DeadlineExceeded("the timeout passed before the request was queued")
        future = self.engine.submit(
            Submission(
                model=call.model,
                rows=task_rows.rows,
                tier=call.tier,
                priority=priority,
                timeout_s=timeout_s,
                arrived_s=call.started_s,
                return_s=self._turns.return_s,
            )
        )
        return Pending(
            future,
            call,
            codec,
            names,
            task_rows.counts,
            decoded_s - call.started_s,
            tokenised_s - decoded_s,
            tokenised_s,
            kind if timeout_s is None and len(task_rows.rows) == 1 else None,
        )

    async def _rows(self, codec: TaskCodec, inputs: Mapping[str, Tensor]) -> TaskRows:
        if codec.is_heavy(inputs):
            return await self._heavy.run(codec.rows, inputs)
        return codec.rows(inputs)

    def answer(self, pending: Pending, reply: Reply, request_id: str) -> InferAnswer:
        return InferAnswer(
            model=pending.call.model,
            id=request_id,
            outputs=choose_outputs(
                pending.codec.encode(reply.results, pending.counts), pending.names
            ),
            queue_us=round(reply.queue_s * 1e6),
            service_us=round(reply.service_s * 1e6),
            batch_size=reply.batch_size,
        )

    def refused(self, model: str, protocol: str, error: HeadwayError) -> None:
        """Tell the engine of a request that ended before it was submitted."""
        self.engine.report(EdgeRefused(model[:MOST_SHOWN], protocol, error.outcome))

    def failed(self, pending: Pending, error: Exception) -> None:
        """Learn from a request that the engine ended with an error."""
        if isinstance(error, Shed) and pending.kind is not None:
            now_s = self._clock()
            slo_s = self.engine.status().tightest_slo_s
            self._holds.shed(pending.kind, now_s - pending.submitted_s, slo_s, now_s)

    def report(self, pending: Pending, encoding_since_s: float) -> None:
        """Tell the engine what an answered request cost here."""
        self.engine.report(
            EdgeTimed(
                pending.call.model,
                pending.call.protocol,
                pending.decode_s,
                pending.tokenise_s,
                self._clock() - encoding_since_s,
            )
        )
