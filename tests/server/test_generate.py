"""Generated text in v2, V1 and jobs, from the real server with a simulated model."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.jobs.client import JobsClient, JobsFailed
from tests.edge.server_process import ROOT, Server
from tests.jobs.conftest import redis  # noqa: F401 - a fixture
from tests.jobs.redis_process import RedisProcess
from tests.server.generating import GENERATES, MODEL, all_are_gone
from tests.server.jobs import ended, results_of
from tests.server.process import document, grpc_ids, ids, serving, simulated

ASKED: dict[str, Any] = {"max_tokens": 20, "seed": 3, "ignore_eos": True}
PATH = f"/v2/models/{MODEL}"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    redis: RedisProcess,  # noqa: F811
) -> Iterator[Server]:
    parameters = tmp_path_factory.mktemp("generate") / "parameters.yaml"
    parameters.write_text(document(models={MODEL: {"max_batch_size": 256}}))
    with serving(parameters, *GENERATES, "--redis_url", redis.url) as started:
        yield started


@pytest.fixture(scope="module")
def text(server: Server) -> str:
    """What the model says to "abc"."""
    status, answer = server.post(
        f"{PATH}/generate", {"text_input": "abc", "parameters": ASKED, "id": "me"}
    )
    assert status == 200
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("me", MODEL, "1")
    assert (answer["finish_reason"], answer["completion_tokens"]) == ("length", 20)
    assert len(answer["text_output"]) == 20
    return str(answer["text_output"])


def events(server: Server, path: str, body: Any) -> list[Any]:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        sent = answer.read().decode()
    assert sent.endswith("\n\n")
    blocks = sent.removesuffix("\n\n").split("\n\n")
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


@pytest.mark.parametrize("version", ["", "/versions/1"])
@pytest.mark.parametrize(
    "body",
    [
        {"text_input": "abc", "parameters": ASKED},
        {"text_input": "abc", **ASKED},
        {"text_input": "abc", **ASKED, "stream": True, "exclude_input_in_output": True},
        {"text_input": "abc", "max_tokens": 20, "parameters": {"seed": 3, "ignore_eos": True}},
    ],
)
def test_a_stream_says_what_the_whole_answer_says(
    server: Server, text: str, version: str, body: dict[str, Any]
) -> None:
    parts = events(server, f"{PATH}{version}/generate_stream", body)
    assert "".join(part["text_output"] for part in parts) == text
    assert [part.get("finish_reason") for part in parts] == [None] * (len(parts) - 1) + ["length"]
    assert len(parts) > 1
    assert len({part["id"] for part in parts}) == 1
    if body.get("stream"):  # in the Open Inference Protocol, asks for events at either path
        assert events(server, f"{PATH}{version}/generate", body)[-1]["finish_reason"] == "length"
    else:
        status, whole = server.post(f"{PATH}{version}/generate", body)
        assert (status, whole["text_output"]) == (200, text)


def test_a_stop_string_ends_it(server: Server) -> None:
    body = {"text_input": "abc", "seed": 3, "max_tokens": 200, "ignore_eos": True, "stop": "next"}
    status, whole = server.post(f"{PATH}/generate", body)
    assert status == 200
    assert whole["finish_reason"] == "stop"
    assert "next" not in whole["text_output"]
    parts = events(server, f"{PATH}/generate_stream", body)
    assert "".join(part["text_output"] for part in parts) == whole["text_output"]
    assert parts[-1]["finish_reason"] == "stop"


NONSENSE: list[tuple[str, Any]] = [
    ("text_input", {}),
    ("text_input", {"text_input": 3}),
    ("text_input", {"text_input": ""}),
    ("text_input", {"text_input": "x" * 40_000}),
    ("shout", {"text_input": "a", "shout": 1}),
    ("parameters.shout", {"text_input": "a", "parameters": {"shout": 1}}),
    ("temperature", {"text_input": "a", "temperature": -1}),
    ("temperature", {"text_input": "a", "parameters": {"temperature": "warm"}}),
    ("max_tokens", {"text_input": "a", "parameters": {"max_tokens": 0}}),
    ("max_tokens", {"text_input": "a", "max_tokens": 1 << 20}),
    ("min_tokens", {"text_input": "a", "max_tokens": 2, "min_tokens": 3}),
    ("logit_bias", {"text_input": "a", "logit_bias": {"100000": 1}}),
    ("stop", {"text_input": "a", "stop": ["a"] * 1000}),
    ("stop", {"text_input": "a", "stop": ""}),
    ("seed", {"text_input": "a", "seed": 1.5}),
    ("sequence_id", {"text_input": "a", "sequence_id": 1}),
    ("exclude_input_in_output", {"text_input": "a", "exclude_input_in_output": False}),
    ("parameters", {"text_input": "a", "parameters": [1]}),
    ("max_tokens", {"text_input": "a", "max_tokens": 3, "parameters": {"max_tokens": 4}}),
    ("body", []),
    ("body", b"{"),
    ("text_input", b'{"text_input": "\\ud800"}'),
]


@pytest.mark.parametrize("kind", ["generate", "generate_stream"])
@pytest.mark.parametrize(("field", "body"), NONSENSE)
def test_nonsense_is_refused_by_its_name(server: Server, kind: str, field: str, body: Any) -> None:
    status, answer = server.post(f"{PATH}/{kind}", body)
    assert status == 400
    assert field in answer["error"]


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("shout", {"text_input": "a", "shout": 1}),
        ("shout", {"text_input": "a", "shout": 1, "parameters": {"seed": 3}}),
        ("parameters.shout", {"text_input": "a", "seed": 3, "parameters": {"shout": 1}}),
        ("parameters.shout", {"text_input": "a", "parameters": {"shout": 1}}),
    ],
)
def test_an_unknown_field_is_answered_with_those_of_the_route(
    server: Server, where: str, body: Any
) -> None:
    status, answer = server.post(f"{PATH}/generate", body)
    told, _, names = answer["error"].partition("not known here; leave it out, or use: ")
    assert (status, told) == (400, f"{where}: ")
    known = names.split(", ")
    assert ("text_input" in known) == (where == "shout")
    assert {"max_tokens", "stop", "seed"} <= set(known)
    assert not {"inputs", "outputs", "sequence_id", "binary_data_output"} & set(known)


def test_the_answer_of_generate_is_json(server: Server) -> None:
    body = {"text_input": "a", "parameters": {"binary_data_output": True}}
    status, answer = server.post(f"{PATH}/generate", body)
    assert (status, "binary_data_output: the answer is JSON" in answer["error"]) == (400, True)


def test_what_is_not_there(server: Server) -> None:
    status, answer = server.post("/v2/models/nobody/generate", {"text_input": "a"})
    assert status == 404
    assert "nobody" in answer["error"]
    status, answer = server.post(f"{PATH}/versions/2/generate_stream", {"text_input": "a"})
    assert status == 404
    assert "no version '2'" in answer["error"]
    assert server.get(f"{PATH}/generate")[0] == 405


def test_infer_and_predict_answer_whole_texts(server: Server, text: str) -> None:
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["abc", "de"]}]
    asked = {"inputs": inputs, "parameters": ASKED}
    status, answer = server.post(f"{PATH}/infer", asked)
    assert status == 200
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert outputs["text"]["data"][0] == text
    assert (outputs["text"]["datatype"], outputs["text"]["shape"]) == ("BYTES", [2])
    assert outputs["finish_reason"]["data"] == ["length", "length"]
    assert outputs["completion_tokens"]["data"] == [20, 20]
    status, answer = server.post(f"{PATH}/infer", {**asked, "outputs": [{"name": "text"}]})
    assert [each["name"] for each in answer["outputs"]] == ["text"]
    status, answer = server.post(f"{PATH}/infer", {**asked, "outputs": [{"name": "label"}]})
    assert status == 400
    assert "text" in answer["error"]
    path = f"/v1/models/{MODEL}:predict"
    status, answer = server.post(path, {"instances": ["abc", {"text": "de"}], "parameters": ASKED})
    assert status == 200
    assert [each["text"] for each in answer["predictions"]] == outputs["text"]["data"]
    assert answer["predictions"][0]["finish_reason"] == "length"
    status, answer = server.post(path, {"instances": ["a"], "parameters": {"top_p": 2}})
    assert status == 400
    assert "parameters.top_p" in answer["error"]
    assert server.post(path, {"instances": [3]})[0] == 400


def test_a_seed_makes_a_prompt_answer_the_same(server: Server) -> None:
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["abc"]}]}
    asked = {**body, "parameters": {"max_tokens": 300, "seed": 9}}
    first, again = (server.post(f"{PATH}/infer", asked)[1]["outputs"] for _ in range(2))
    assert first == again


def line(prompt: str, **parameters: Any) -> bytes:
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [prompt]}]
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode() + b"\n"


def test_a_job_of_prompts(server: Server, text: str) -> None:
    with JobsClient(server.url) as client:
        lines = [line("abc", **ASKED), line("de", max_tokens=5, ignore_eos=True), line("abc")]
        job_id = client.submit(MODEL, iter(lines), None).id
    ended(server, job_id)
    results = [json.loads(each) for each in results_of(server, job_id)]
    assert [result["index"] for result in results] == [0, 1, 2]
    outputs = [{each["name"]: each["data"][0] for each in r["outputs"]} for r in results]
    assert outputs[0] == {"text": text, "finish_reason": "length", "completion_tokens": 20}
    assert outputs[1]["completion_tokens"] == 5
    assert outputs[2]["text"]


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("parameters.temperature", {"temperature": -1}),
        ("max_tokens", {"max_tokens": 1 << 20}),
        ("stop_token_ids", {"stop_token_ids": [9999]}),
        ("parameters.shout", {"shout": 1}),
        ("min_tokens", {"min_tokens": 30, "max_tokens": 20}),
    ],
)
def test_a_line_that_cannot_run_is_refused_when_it_comes(
    server: Server, part: str, parameters: dict[str, Any]
) -> None:
    lines = [line("abc"), line("abc", **parameters)]
    with JobsClient(server.url) as client, pytest.raises(JobsFailed) as refused:
        client.submit(MODEL, iter(lines), None)
    assert "line 2" in str(refused.value)
    assert part in str(refused.value)


def test_metadata_says_what_goes_in_and_out_and_that_it_streams(server: Server) -> None:
    status, metadata = server.get(PATH)
    assert status == 200
    assert metadata["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1]}
    assert [each["name"] for each in metadata["outputs"]] == [
        "text",
        "finish_reason",
        "completion_tokens",
    ]
    status, config = server.get(f"{PATH}/config")
    assert status == 200
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert config["output"][0] == {"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}
    assert server.get(f"{PATH}/versions/1/config") == (200, config)
    assert server.get(f"{PATH}/versions/2/config")[0] == 404


def test_tritonclient(server: Server) -> None:
    ports = (str(server.grpc_port), str(server.http_port))
    module = "tests.server.triton_generate_client"
    run = subprocess.run(
        [sys.executable, "-m", module, *ports, MODEL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    all_are_gone(server)  # its last stream was cancelled


def test_an_id_that_is_none_is_refused_by_its_row(server: Server) -> None:
    inputs = [
        {"name": "input_ids", "datatype": "INT64", "shape": [2, 3], "data": [1, 2, 3, 4, -5, 6]}
    ]
    status, answer = server.post(f"{PATH}/infer", {"inputs": inputs, "parameters": ASKED})
    assert status == 400
    assert "input_ids[1] holds id -5" in answer["error"]


def test_sampling_is_refused_where_a_model_generates_none(
    tmp_path: Any,
    redis: RedisProcess,  # noqa: F811
) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document())
    asked = {**ids(1, 2), "parameters": {"temperature": 0.5}}
    with serving(parameters, *simulated("sim", 1), "--redis_url", redis.url) as server:
        for path, body in (
            ("/v2/models/sim/infer", asked),
            ("/v1/models/sim:predict", {"instances": [[1]], "parameters": {"max_tokens": 3}}),
        ):
            status, answer = server.post(path, body)
            assert status == 400, answer
            assert "generates no text" in answer["error"]
            assert next(iter(body["parameters"])) in answer["error"]
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError, match="generates no text") as refused:
                stub.ModelInfer(grpc_ids("sim", 1, 2, max_tokens=5))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with JobsClient(server.url) as client, pytest.raises(JobsFailed, match="max_tokens"):
            client.submit(
                "sim", iter([json.dumps(asked | {"parameters": {"max_tokens": 5}}).encode()]), None
            )
        for kind in ("generate", "generate_stream"):
            status, answer = server.post(f"/v2/models/sim/{kind}", {"text_input": "a"})
            assert status == 501
            assert "use infer" in answer["error"]
        assert server.get("/v2/models/sim/config")[0] == 501
