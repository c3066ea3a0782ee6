"""The v2 protocol's gRPC messages, as the KServe SDK ships them.

Loaded from the SDK's file alone: importing the SDK takes seconds, and a process can hold
only one copy of these messages, so tritonclient's would not live beside it.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any


def _load() -> ModuleType:
    package = importlib.util.find_spec("kserve")
    assert package is not None, "install the predictor extra"
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0], "protocol/grpc/grpc_predict_v2_pb2.py")
    spec = importlib.util.spec_from_file_location("v2_messages_of_kserve", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MESSAGES: Any = _load()
ModelInferRequest: Any = _MESSAGES.ModelInferRequest
ModelInferResponse: Any = _MESSAGES.ModelInferResponse
