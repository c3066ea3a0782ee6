"""Streams of generated text when something breaks, or somebody does not read."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from openai import AsyncOpenAI, OpenAI

from tests.edge.server_process import STOP_S, Server
from tests.server.generating import GENERATES, MODEL, all_are_gone, running
from tests.server.process import document, metrics, serving
from tests.server.test_processes import children

ENDLESS: dict[str, Any] = {"max_tokens": 30_000, "ignore_eos": True}
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096)]
BUFFERS = 8192  # bytes that the kernel keeps for a reader that does not read


@contextmanager
def generating(folder: Path, *flags: str, models: int = 1) -> Iterator[Server]:
    parameters = folder / "parameters.yaml"
    parameters.write_text(document(models={MODEL: {"max_batch_size": 256}}))
    with serving(parameters, *GENERATES, *flags, models=models) as server:
        yield server


@contextmanager
def openai_client(server: Server) -> Iterator[OpenAI]:
    url = f"{server.url}/openai/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def counted(server: Server, outcome: str) -> float:
    """Requests of one outcome, in all tiers."""
    label = f'headway_requests_total{{model="{MODEL}",outcome="{outcome}"'
    return sum(value for name, value in metrics(server).items() if name.startswith(label))


def asks_for_events(server: Server, path: str, body: Any, receives: int = 0) -> socket.socket:
    """A connection that has asked, and reads nothing yet. `receives`: its buffer, in bytes."""
    connection = socket.socket()
    connection.settimeout(60)
    if receives:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    connection.connect(("127.0.0.1", server.http_port))
    sent = json.dumps(body).encode()
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent
    )
    return connection


def rest_of(connection: socket.socket) -> bytes:
    with connection, connection.makefile("rb") as file:
        return file.read()


@pytest.mark.faults
def test_an_engine_that_is_killed_in_mid_stream(tmp_path: Path) -> None:
    """Each stream ends with an error event, nothing is resent, and the next request works."""
    with (
        generating(tmp_path, "--workers", "2", models=3) as server,
        openai_client(server) as client,
    ):
        asked: Any = {"model": MODEL, "extra_body": {"ignore_eos": True}, "max_tokens": 30_000}
        streams = [
            iter(client.completions.create(**asked, prompt=f"number {number}", stream=True))
            for number in range(4)
        ]
        begun = ["".join(next(stream).choices[0].text for _ in range(3)) for stream in streams]
        assert all(begun)
        path = f"/v2/models/{MODEL}/generate_stream"
        body = {"text_input": "abc", **ENDLESS}
        plain = asks_for_events(server, path, body)
        assert plain.recv(1 << 10).startswith(b"HTTP/1.1 200 ")
        os.kill(children(server)["engine-0"], signal.SIGKILL)
        for stream in streams:
            with pytest.raises(openai.APIError, match="engine"):
                list(stream)
        plain.shutdown(socket.SHUT_WR)
        last = rest_of(plain).removesuffix(b"\r\n0\r\n\r\n").strip().rpartition(b"data: ")[2]
        assert "engine" in json.loads(last)["error"]
        server.wait_for_line("all models are back", *[f"engine 0 is ready for {MODEL}"] * 2)
        again = client.completions.create(model=MODEL, prompt="abc", max_tokens=5)
        assert again.choices[0].text
        all_are_gone(server)
        assert counted(server, "ok") == 1
        assert server.stop() == 0


def test_sigterm_lets_streams_end(tmp_path: Path) -> None:
    """What is in flight within the grace goes on to its end; what comes then is refused."""
    with generating(tmp_path) as server, openai_client(server) as client:
        asked: Any = {"model": MODEL, "prompt": "abc", "seed": 1}
        long: Any = {"max_tokens": 500, "extra_body": {"ignore_eos": True}}
        stream = iter(client.completions.create(**asked, **long, stream=True))
        text = next(stream).choices[0].text
        server.process.send_signal(signal.SIGTERM)
        chunks = list(stream)
        text += "".join(chunk.choices[0].text for chunk in chunks)
        assert len(text) == 500
        assert chunks[-1].choices[0].finish_reason == "length"
        assert server.process.wait(STOP_S) == 0


@pytest.mark.faults
def test_the_grace_bounds_a_stream(tmp_path: Path) -> None:
    """A stream that is longer than the grace ends with an error event, or with its connection."""
    with generating(tmp_path, "--grace_s", "1") as server:
        path = f"/v2/models/{MODEL}/generate_stream"
        connection = asks_for_events(server, path, {"text_input": "abc", **ENDLESS})
        assert connection.recv(1 << 10).startswith(b"HTTP/1.1 200 ")
        server.process.send_signal(signal.SIGTERM)
        last = rest_of(connection).removesuffix(b"\r\n0\r\n\r\n").strip().rpartition(b"data: ")[2]
        assert b'"finish_reason"' not in last
        assert server.process.wait(STOP_S) == 0


@pytest.mark.faults
async def test_a_reader_that_does_not_read_slows_only_itself(tmp_path: Path) -> None:
    with generating(tmp_path, "--body_idle_s", "1") as server:
        path = "/openai/v1/completions"
        body = {"model": MODEL, "prompt": "abc", "stream": True, "n": 8, "logprobs": 1, **ENDLESS}
        slow = [asks_for_events(server, path, body, BUFFERS) for _ in range(4)]
        while sum(running(metrics(server)).values()) < 8 * len(slow):
            pass  # each scrape is a round trip
        base_url = f"{server.url}/openai/v1"
        async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:

            async def read(number: int) -> int:
                stream = await client.completions.create(
                    model=MODEL,
                    prompt=f"reader {number}",
                    max_tokens=100,
                    stream=True,
                    extra_body={"ignore_eos": True},
                )
                return sum([len(chunk.choices[0].text) async for chunk in stream])

            assert await asyncio.gather(*(read(number) for number in range(20))) == [100] * 20
        all_are_gone(server)  # those who read nothing were given up, long before their end
        assert counted(server, "cancelled") == len(slow)
        for connection in slow:
            connection.close()
        assert server.stop() == 0


@pytest.mark.faults
def test_a_stream_of_grpc_that_nobody_reads(tmp_path: Path) -> None:
    """It is given up after the idle time, with all that was asked for on it."""
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="text", datatype="BYTES", shape=[8])
    request.inputs[0].contents.bytes_contents.extend([b"abc"] * 8)
    request.parameters["max_tokens"].int64_param = 30_000
    request.parameters["ignore_eos"].bool_param = True
    with (
        generating(tmp_path, "--body_idle_s", "1") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", SMALL_WINDOW) as channel,
    ):
        method = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
        )
        answers = method(iter([request, request]))
        while sum(running(metrics(server)).values()) < 16:
            pass  # each scrape is a round trip
        all_are_gone(server)
        assert counted(server, "cancelled") == 2
        with pytest.raises(grpc.RpcError, match="no answer was read for 1 s"):
            list(answers)
        assert server.stop() == 0
        assert "Traceback" not in server.stderr.read()
