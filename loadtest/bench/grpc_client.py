"""Closed-loop gRPC clients on a few channels, sending messages serialized beforehand."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import grpc
import grpc.aio

from loadtest.bench.errors import BenchError
from loadtest.bench.plan import ClosedLoop, Plan
from loadtest.bench.recorder import Recorder
from loadtest.bench.requests import PreparedRequest

INFER = "/inference.GRPCInferenceService/ModelInfer"
CONNECT_TIMEOUT_S = 5.0
MAX_CALL_S = 30.0
CALLS_PER_CHANNEL = 16
# Channels to one address share a connection otherwise, and with it one of the server's edges.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


async def grpc_closed_loop(
    plan: Plan,
    load: ClosedLoop,
    recorder: Recorder,
    requests: Sequence[PreparedRequest],
    begin: Callable[[], Awaitable[None]],
) -> None:
    """Calls `begin` once connected. Raises BenchError if the server takes no connection."""
    until_s = plan.warmup_s + plan.seconds
    next_request = 0
    async with contextlib.AsyncExitStack() as stack:
        infers = []
        for _ in range(-(-load.in_flight // CALLS_PER_CHANNEL)):
            channel = grpc.aio.insecure_channel(f"{plan.host}:{plan.port}", options=OWN_CONNECTION)
            await stack.enter_async_context(channel)
            await _connected(channel, plan)
            recorder.connections += 1
            infers.append(channel.unary_unary(INFER))  # bytes in, bytes out

        async def client(number: int) -> None:
            nonlocal next_request
            infer = infers[number % len(infers)]
            while recorder.now_s < until_s:
                request = requests[next_request % len(requests)]
                next_request += 1
                call = recorder.schedule(request, recorder.now_s)
                recorder.sent(call)
                try:
                    answer = await infer(request.wire, timeout=MAX_CALL_S)
                except grpc.aio.AioRpcError as error:
                    refused = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    recorder.rejected(call, error.code().value[0], refused)
                else:
                    recorder.answered(call, request.check.grpc(answer))

        await begin()
        clients = [asyncio.create_task(client(number)) for number in range(load.in_flight)]
        _, late = await asyncio.wait(clients, timeout=until_s + plan.drain_s)
        for task in late:
            task.cancel()


async def _connected(channel: grpc.aio.Channel, plan: Plan) -> None:
    try:
        await asyncio.wait_for(channel.channel_ready(), CONNECT_TIMEOUT_S)
    except TimeoutError:
        raise BenchError(f"no gRPC at {plan.host}:{plan.port}; is the server running?") from None
