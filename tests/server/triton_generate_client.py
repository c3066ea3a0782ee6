"""tritonclient against a server whose model generates. A program of its own: its messages and
the SDK's have the same names, and one process can hold only one of them.

Usage: python -m tests.server.triton_generate_client GRPC_PORT HTTP_PORT MODEL
"""

import queue
import sys
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton_http
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

WAIT_S = 60
Answers = queue.SimpleQueue[tuple[Any, Any]]
ASKED: dict[str, Any] = {"max_tokens": 20, "seed": 3, "ignore_eos": True}
FINAL = {"enable_empty_final_response": True}


def text_input(*texts: str, kind: Any = InferInput) -> Any:
    tensor = kind("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(list(texts), object))
    return tensor


def ids_input(*ids: int) -> InferInput:
    tensor = InferInput("input_ids", [1, len(ids)], "INT64")
    tensor.set_data_from_numpy(np.array([ids], "<i8"))
    return tensor


def whole(client: InferenceServerClient, model: str) -> str:
    result = client.infer(
        model, [text_input("abc", "de")], parameters=ASKED, request_id="a", model_version="1"
    )
    text: bytes
    text, other = result.as_numpy("text").tolist()
    assert len(text) == len(other) == 20
    assert result.as_numpy("finish_reason").tolist() == [b"length"] * 2
    assert result.as_numpy("completion_tokens").tolist() == [20, 20]
    assert result.get_response().id == "a"
    only = client.infer(
        model,
        [ids_input(1, 2, 3)],
        outputs=[InferRequestedOutput("completion_tokens")],
        parameters={"max_tokens": 3, "ignore_eos": True, "temperature": 0.5},
    )
    assert only.as_numpy("text") is None
    assert only.as_numpy("completion_tokens").tolist() == [3]
    with pytest.raises(InferenceServerException, match="temperature") as refused:
        client.infer(model, [text_input("a")], parameters={"temperature": -0.5})
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    return text.decode()


def over_http(port: str, model: str, text: str) -> None:
    client = triton_http.InferenceServerClient(f"127.0.0.1:{port}")
    result = client.infer(model, [text_input("abc", kind=triton_http.InferInput)], parameters=ASKED)
    assert result.as_numpy("text").tolist() == [text.encode()]
    metadata = client.get_model_metadata(model)
    assert [each["name"] for each in metadata["outputs"]] == [
        "text",
        "finish_reason",
        "completion_tokens",
    ]
    assert client.get_model_config(model)["model_transaction_policy"] == {"decoupled": True}
    client.close()


def metadata(client: InferenceServerClient, model: str) -> None:
    found = client.get_model_metadata(model)
    assert [each.name for each in found.inputs] == ["text", "input_ids", "attention_mask"]
    assert [each.name for each in found.outputs] == ["text", "finish_reason", "completion_tokens"]
    config = client.get_model_config(model).config
    assert config.name == model
    assert config.model_transaction_policy.decoupled
    assert [(each.name, list(each.dims), each.data_type) for each in config.output] == [
        ("text", [-1], 13),
        ("finish_reason", [-1], 13),
        ("completion_tokens", [-1], 9),
    ]
    assert [each.name for each in config.input] == ["text", "input_ids", "attention_mask"]


def read(answers: Answers, rows: int = 1) -> dict[str, list[Any]]:
    """The parts of each request, by its id, until so many rows have their last."""
    parts: dict[str, list[Any]] = {}
    while rows:
        result, error = answers.get(timeout=WAIT_S)
        assert error is None, error
        parts.setdefault(result.get_response().id, []).append(result)
        rows -= result.as_numpy("finish_reason") is not None
    return parts


def texts(parts: list[Any]) -> str:
    assert all(part.as_numpy("text").shape == (1,) for part in parts)
    return b"".join(part.as_numpy("text")[0] for part in parts).decode()


def parts_of_one(client: InferenceServerClient, model: str, answers: Answers, text: str) -> None:
    inputs = [text_input("abc")]
    client.async_stream_infer(model, inputs, parameters=ASKED, request_id="r", **FINAL)
    (parts,) = read(answers).values()
    assert texts(parts) == text
    assert len(parts) > 1
    finals = [part.get_response().parameters["triton_final_response"].bool_param for part in parts]
    assert finals == [False] * (len(parts) - 1) + [True]
    assert parts[-1].as_numpy("finish_reason").tolist() == [b"length"]
    assert parts[-1].as_numpy("completion_tokens").tolist() == [20]
    assert all(part.as_numpy("finish_reason") is None for part in parts[:-1])


def side_by_side(client: InferenceServerClient, model: str, answers: Answers, text: str) -> None:
    for number in range(300):  # more than the server reads ahead
        inputs = [text_input("abc")]
        client.async_stream_infer(model, inputs, parameters=ASKED, request_id=str(number))
    parts = read(answers, rows=300)
    assert sorted(parts, key=int) == [str(number) for number in range(300)]
    assert {texts(each) for each in parts.values()} == {text}
    assert all(not part.get_response().parameters for part in parts["7"])
    inputs = [text_input("abc", "de")]
    client.async_stream_infer(model, inputs, parameters=ASKED, request_id="two", **FINAL)
    (both,) = read(answers, rows=2).values()
    rows: list[list[Any]] = [[], []]
    for part in both:
        rows[part.get_response().parameters["row"].int64_param].append(part)
    assert texts(rows[0]) == text
    assert len(texts(rows[1])) == 20
    finals = [part.get_response().parameters["triton_final_response"].bool_param for part in both]
    assert finals == [False] * (len(both) - 1) + [True]
    wanted = [InferRequestedOutput("finish_reason")]
    client.async_stream_infer(model, inputs[:1], outputs=wanted, parameters=ASKED)
    (ends,) = read(answers, rows=2).values()
    assert [end.as_numpy("finish_reason").tolist() for end in ends] == [[b"length"]] * 2
    assert all(end.as_numpy("text") is None for end in ends)


def errors(client: InferenceServerClient, model: str, answers: Answers, text: str) -> None:
    def refused(part: str, name: str, inputs: list[InferInput], **asked: Any) -> None:
        client.async_stream_infer(name, inputs, **asked)
        result, error = answers.get(timeout=WAIT_S)
        assert result is None
        assert part in str(error)

    refused("'nobody'", "nobody", [text_input("a")])
    refused("no version '2'", model, [text_input("a")], model_version="2")
    refused("temperature", model, [text_input("a")], parameters={"temperature": -0.5})
    refused("parameters.shout: not known", model, [text_input("a")], parameters={"shout": "x"})
    refused("max_tokens", model, [text_input("a")], parameters={"max_tokens": 1 << 20})
    refused("sequence", model, [text_input("a")], sequence_id=3)
    refused("holds id 9999", model, [ids_input(1, 9999)])
    refused("no tokens", model, [text_input("")])
    refused("holds id -1", model, [ids_input(1, -1)])
    parts_of_one(client, model, answers, text)  # the stream goes on


def main(grpc_port: str, http_port: str, model: str) -> None:
    client = InferenceServerClient(f"127.0.0.1:{grpc_port}")
    text = whole(client, model)
    over_http(http_port, model, text)
    metadata(client, model)
    answers: Answers = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    parts_of_one(client, model, answers, text)
    side_by_side(client, model, answers, text)
    errors(client, model, answers, text)
    long = {"max_tokens": 200, "ignore_eos": True}
    client.async_stream_infer(model, [text_input("abc")], parameters=long)
    client.stop_stream()  # waits for what was asked for
    (parts,) = read(answers).values()
    assert len(texts(parts)) == 200
    client.start_stream(lambda result, error: answers.put((result, error)))
    endless = {"max_tokens": 30_000, "ignore_eos": True}
    client.async_stream_infer(model, [text_input("abc")], parameters=endless)
    answers.get(timeout=WAIT_S)
    client.stop_stream(cancel_requests=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
