"""The gRPC closed loop against a real grpc.aio server in this process."""

import contextlib
import itertools
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from loadtest.bench import v2_messages
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import run_plan
from loadtest.bench.plan import ClosedLoop, Plan, Protocol
from loadtest.bench.servers import free_ports

Answer = Callable[[int], Any]


def raw_answer(checksum: int) -> Any:
    return v2_messages.ModelInferResponse(raw_output_contents=[struct.pack("<q", checksum)])


def typed_answer(checksum: int) -> Any:
    answer = v2_messages.ModelInferResponse()
    answer.outputs.add(name="checksum", datatype="INT64", shape=[1])
    answer.outputs[0].contents.int64_contents.append(checksum)
    return answer


@contextlib.asynccontextmanager
async def grpc_server(answer: Answer, refuse_every: int = 0) -> AsyncIterator[int]:
    numbers = itertools.count(1)

    async def infer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if refuse_every and next(numbers) % refuse_every == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")
        raw = request.raw_input_contents[0]
        return answer(sum(struct.unpack(f"<{len(raw) // 8}q", raw)))

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=v2_messages.ModelInferRequest.FromString,
        response_serializer=v2_messages.ModelInferResponse.SerializeToString,
    )
    handlers = {"ModelInfer": handler}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def plan_for(port: int) -> Plan:
    return Plan(
        port=port,
        model="sim",
        load=ClosedLoop(in_flight=4),
        protocol=Protocol.GRPC,
        seconds=0.3,
        warmup_s=0,
        drain_s=5,
    )


@pytest.mark.parametrize("answer", [raw_answer, typed_answer])
async def test_both_codings_of_an_answer_are_verified(answer: Answer) -> None:
    async with grpc_server(answer) as port:
        report = await run_plan(plan_for(port))
    assert report.answered == report.scheduled > 0
    assert report.unanswered == report.mismatched == 0


async def test_wrong_answers_are_noticed() -> None:
    async with grpc_server(lambda checksum: raw_answer(checksum + 1)) as port:
        report = await run_plan(plan_for(port))
    assert report.mismatched == report.scheduled > 0
    assert report.answered == 0


async def test_refusals_are_counted_by_code() -> None:
    async with grpc_server(raw_answer, refuse_every=2) as port:
        report = await run_plan(plan_for(port))
    refused = report.rejected[grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]]
    assert report.answered + refused == report.scheduled
    assert report.refusal is not None
    assert report.refusal.count == refused > 0


async def test_nobody_listening_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.bench.grpc_client.CONNECT_TIMEOUT_S", 0.2)
    (port,) = free_ports(1)
    with pytest.raises(BenchError, match="is the server running"):
        await run_plan(plan_for(port))
