"""One input to the real server, and what it says: by HTTP, by bytes on a socket, by gRPC."""

import http.client
import json
import re
import socket
import threading
from dataclasses import dataclass
from typing import Any

import grpc

from predictor.edge.grpc_triton import _StreamResponse as StreamResponse
from tests.edge.server_process import Server
from tests.fuzz.inputs import GRPC, Input

TIMEOUT_S = 60.0  # nothing waits so long
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@dataclass(frozen=True)
class Answer:
    """`status` is HTTP's or gRPC's, "ERROR" in a stream, "closed" where there is none."""

    status: str
    body: bytes
    retry_after: str | None = None

    @property
    def plain(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends for one thread: over one connection of HTTP and one channel of gRPC."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=TIMEOUT_S)
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{server.grpc_port}", [("grpc.use_local_subchannel_pool", 1)]
        )

    def close(self) -> None:
        self._http.close()
        self._channel.close()

    def send(self, sent: Input) -> Answer:
        if sent.path.startswith(GRPC):
            return self._call(sent)
        return self.post(sent) if sent.path else self._raw(sent)

    def post(self, sent: Input) -> Answer:
        self._http.request("POST", sent.path, sent.body, sent.headers)
        answer = self._http.getresponse()
        body = answer.read()
        return Answer(str(answer.status), body, answer.getheader("Retry-After"))

    def _raw(self, sent: Input) -> Answer:
        """The bytes, then the end of this side: what is incomplete never will be."""
        address = ("127.0.0.1", self._server.http_port)
        with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
            connection.sendall(sent.body)
            connection.shutdown(socket.SHUT_WR)
            answered = b""
            while some := connection.recv(1 << 16):
                answered += some
        statuses = _STATUS.findall(answered)
        return Answer(" ".join(each.decode() for each in statuses) or "closed", answered)

    def _call(self, sent: Input) -> Answer:
        try:
            if sent.path.endswith("ModelStreamInfer"):
                (said,) = self._channel.stream_stream(sent.path)(
                    iter([sent.body]), timeout=TIMEOUT_S
                )
                answer = StreamResponse.FromString(said)
                return Answer("ERROR" if answer.error_message else "OK", answer.infer_response)
            body = self._channel.unary_unary(sent.path)(sent.body, timeout=TIMEOUT_S)
            return Answer("OK", body)
        except grpc.RpcError as error:
            retry_after = dict(error.trailing_metadata() or ()).get("retry-after")
            return Answer(error.code().name, str(error.details()).encode(), retry_after)


class LogReader:
    """Reads what the server says, all the time: a full pipe would stop it."""

    def __init__(self, server: Server) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._stderr = server.stderr
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for line in self._stderr:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    def wait_for(self, *parts: str, begin: int) -> str:
        """The first line from number `begin` on that has one of `parts`."""
        with self._news:
            found = self._news.wait_for(
                lambda: next(
                    (line for line in self.lines[begin:] if any(part in line for part in parts)), ""
                ),
                TIMEOUT_S,
            )
        assert found, f"nothing of {parts} was said"
        return found

    def join(self) -> None:
        self._thread.join(TIMEOUT_S)
