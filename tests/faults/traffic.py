"""Interactive requests to one replica, one after the other, while something else happens."""

import http.client
import json
import threading
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Self

from tests.edge.server_process import Server
from tests.server.process import ids

REQUEST = json.dumps(ids(1, 2, 3)).encode()


@dataclass
class Traffic:
    """Runs inside `with`, or until the replica is gone."""

    server: Server
    answers: list[tuple[int, float]] = field(default_factory=list)  # status, seconds
    _enough: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._enough.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=60)
        while not self._enough.is_set():
            began_s = perf_counter()
            try:
                connection.request("POST", "/v2/models/sim/infer", REQUEST)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            self.answers.append((answer.status, perf_counter() - began_s))
