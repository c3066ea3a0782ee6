"""tritonclient over gRPC against a server. A program of its own: its messages and the
SDK's have the same names, and one process can hold only one of them.

Usage: python -m tests.edge.triton_grpc_client PORT
"""

import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

IDS = st.lists(st.integers(0, 2**40), min_size=1, max_size=64)


def ids_input(ids: list[int]) -> InferInput:
    tensor = InferInput("input_ids", [1, len(ids)], "INT64")
    tensor.set_data_from_numpy(np.array([ids], "<i8"))
    return tensor


def status_of(client: InferenceServerClient, model: str, inputs: list[InferInput]) -> str:
    try:
        client.infer(model, inputs)
    except InferenceServerException as error:
        return str(error.status())
    return "StatusCode.OK"


def main(port: str) -> None:
    client = InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sim")
    assert "binary_tensor_data" in client.get_server_metadata().extensions
    metadata = client.get_model_metadata("sim")
    assert metadata.inputs[0].name == "input_ids"
    assert metadata.outputs[0].name == "checksum"

    @given(ids=IDS, priority=st.integers(0, 2), timeout=st.sampled_from([None, 60_000_000]))
    @settings(max_examples=50, deadline=None, database=None)
    def sums(ids: list[int], priority: int, timeout: int | None) -> None:
        result = client.infer(
            "sim", [ids_input(ids)], request_id="r", priority=priority, timeout=timeout
        )
        assert result.as_numpy("checksum").tolist() == [sum(ids)]
        answer = result.get_response()
        assert answer.id == "r"
        assert answer.parameters["service_us"].int64_param == 5000

    sums()
    text = InferInput("text", [2, 1], "BYTES")
    text.set_data_from_numpy(np.array([["the bus"], ["late"]], object))
    wanted = [InferRequestedOutput("label"), InferRequestedOutput("probabilities")]
    result = client.infer("topics", [text], outputs=wanted)
    assert result.as_numpy("label").tolist() == [b"busy", b"busy"]
    assert result.as_numpy("probabilities").shape == (2, 3)
    assert result.as_numpy("score") is None
    assert status_of(client, "nobody", [ids_input([1])]) == "StatusCode.NOT_FOUND"
    assert status_of(client, "topics", [ids_input([99])]) == "StatusCode.INVALID_ARGUMENT"
    assert status_of(client, "sim", [ids_input([-1])]) == "StatusCode.INTERNAL"
    assert status_of(client, "sim", [ids_input([1])]) == "StatusCode.OK"


if __name__ == "__main__":
    main(sys.argv[1])
