"""Closed-loop gRPC clients on one channel, sending messages serialized beforehand."""

import asyncio
import struct
from collections.abc import Sequence

import grpc
import grpc.aio

from loadtest.bench import v2_messages
from loadtest.bench.errors import BenchError
from loadtest.bench.plan import ClosedLoop, Plan
from loadtest.bench.recorder import Recorder
from loadtest.bench.requests import PreparedRequest

INFER = "/inference.GRPCInferenceService/ModelInfer"
CONNECT_TIMEOUT_S = 5.0
MAX_CALL_S = 30.0


async def grpc_closed_loop(
    plan: Plan, load: ClosedLoop, recorder: Recorder, requests: Sequence[PreparedRequest]
) -> None:
    """Raises BenchError if the server takes no connection."""
    until_s = plan.warmup_s + plan.seconds
    next_request = 0
    async with grpc.aio.insecure_channel(f"{plan.host}:{plan.port}") as channel:
        try:
            await asyncio.wait_for(channel.channel_ready(), CONNECT_TIMEOUT_S)
        except TimeoutError:
            raise BenchError(
                f"no gRPC at {plan.host}:{plan.port}; is the server running?"
            ) from None
        recorder.connections = 1
        infer = channel.unary_unary(INFER)  # bytes in, bytes out

        async def client() -> None:
            nonlocal next_request
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
                    recorder.answered(call, _checksum(answer))

        recorder.start()
        clients = [asyncio.create_task(client()) for _ in range(load.in_flight)]
        _, late = await asyncio.wait(clients, timeout=until_s + plan.drain_s)
        for task in late:
            task.cancel()


def _checksum(answer: bytes) -> int | None:
    message = v2_messages.ModelInferResponse.FromString(answer)
    if message.raw_output_contents:
        raw = message.raw_output_contents[0]
        return int(struct.unpack("<q", raw)[0]) if len(raw) == 8 else None
    for output in message.outputs:
        values = output.contents.int64_contents
        return int(values[0]) if len(values) == 1 else None
    return None
