"""What clients of this protocol may ask of a server and not of this one: a sentence for each.

HTTP answers 501 and gRPC UNIMPLEMENTED, so that nobody takes a 404 for a wrong address.
"""

import re
from collections.abc import Container, Mapping
from http import HTTPStatus

from predictor.edge.asgi import Receive, Scope, Send, send_json
from predictor.edge.statuses import error_body

_STATISTICS = "statistics are not served here; scrape /metrics, over HTTP"
CONFIG = "this model has no Triton configuration; ask for its metadata"
_TRACE = "trace settings are not served here"
_LOGGING = "log settings are not served here"
_SHARED_MEMORY = "shared memory is not served here; send data in requests, read it from answers"
GENERATE = "no text is generated here; use infer"
_EXPLAIN = "models here explain nothing; use :predict"

_ALL_STATISTICS = "/v2/models/stats"
_MODEL = r"/v2/models/[^/]+(?:/versions/[^/]+)?"
_PATHS: Mapping[str, str] = {
    rf"{_ALL_STATISTICS}|{_MODEL}/stats": _STATISTICS,
    rf"/v2/trace/setting|{_MODEL}/trace/setting": _TRACE,
    r"/v2/logging": _LOGGING,
    r"/v2/(?:system|cuda)sharedmemory(?:/.*)?": _SHARED_MEMORY,
    r"/v1/models/[^/]+:explain": _EXPLAIN,
}
_PATTERNS = [(re.compile(path), sentence) for path, sentence in _PATHS.items()]

# By the names of gRPC methods. What is not listed is no method of any server of this protocol.
METHODS: Mapping[str, str] = {
    "ModelStatistics": _STATISTICS,
    "TraceSetting": _TRACE,
    "LogSettings": _LOGGING,
    "SystemSharedMemoryStatus": _SHARED_MEMORY,
    "SystemSharedMemoryRegister": _SHARED_MEMORY,
    "SystemSharedMemoryUnregister": _SHARED_MEMORY,
    "CudaSharedMemoryStatus": _SHARED_MEMORY,
    "CudaSharedMemoryRegister": _SHARED_MEMORY,
    "CudaSharedMemoryUnregister": _SHARED_MEMORY,
}


class UnservedRoutes:
    """ASGI: says of what is not served that it is not."""

    def __init__(self, model_names: Container[str]) -> None:
        self._a_model = "stats" in model_names

    def takes(self, path: str) -> bool:
        if self._a_model and path == _ALL_STATISTICS:
            return False
        return _sentence(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = _sentence(scope["path"])
        assert sentence is not None
        await send_json(send, HTTPStatus.NOT_IMPLEMENTED, error_body(sentence))


def _sentence(path: str) -> str | None:
    return next((sentence for pattern, sentence in _PATTERNS if pattern.fullmatch(path)), None)
