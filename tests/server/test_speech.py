"""Speech on the real server: every form of audio, every transport, one transcript."""

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient import http as triton

from predictor.audio.ctc import transcript
from predictor.audio.files import decode
from predictor.audio.windows import cut, join
from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Packing
from predictor.engine.port import Runner
from predictor.runner.loading import load_runner
from tests.audio.clips import RATE, file_of, noise, tone
from tests.edge.server_process import ROOT, START_S, Server
from tests.runner.speech_checkpoints import Kind, write_speech
from tests.server.process import document, metrics, serving

PATH = "/v2/models/ears/infer"
WAV = file_of(noise(3))
LONG = file_of(noise(70, seed=1))
STEREO = np.stack([tone(4, 44_100), noise(4, 44_100)], axis=1)
FLAC = file_of(STEREO, 44_100, "FLAC")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("ears"), Kind.GROUP_NORM)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    parameters = folder / "parameters.yaml"
    parameters.write_text(document())
    flags = ("--model_name", "ears", "--task", "speech-recognition", "--model_dir", str(folder))
    with serving(parameters, *flags, "--device", "cpu") as running_server:
        yield running_server


@pytest.fixture(scope="module")
def expected(folder: Path) -> Callable[[bytes], str]:
    """The text of a file without any server: window after window, each alone."""
    runner: Runner = load_runner(
        ModelSettings(
            name="ears", task=Task.SPEECH_RECOGNITION, model_dir=str(folder), device="cpu"
        )
    )
    speech = runner.spec.speech
    assert speech is not None

    def text(data: bytes) -> str:
        windows = cut(decode(data, RATE, 600 * RATE, "clip"), speech)
        frames = [
            np.frombuffer(runner.run([window.tobytes()], Packing.PADDED)[0], np.int32)
            for window in windows
        ]
        return transcript(join(frames, speech), runner.spec.labels)

    return text


def in_json(*files: bytes) -> dict[str, Any]:
    data = [base64.b64encode(each).decode() for each in files]
    return {"inputs": [{"name": "audio", "datatype": "BYTES", "shape": [len(files)], "data": data}]}


def texts_of(answer: tuple[int, Any]) -> Sequence[str]:
    status, body = answer
    assert status == 200, body
    texts: Sequence[str] = body["outputs"][0]["data"]
    return texts


def test_files_in_json(server: Server, expected: Callable[[bytes], str]) -> None:
    files = (WAV, FLAC, LONG)
    texts = texts_of(server.post(PATH, in_json(*files)))
    assert texts == [expected(each) for each in files]
    assert len(set(texts)) == 3
    assert all(len(text) > 20 for text in texts)


@pytest.mark.parametrize("data", [WAV, FLAC, LONG], ids=["WAV", "44.1 kHz stereo FLAC", "long"])
def test_binary_files_of_tritonclient(
    server: Server, expected: Callable[[bytes], str], data: bytes
) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    audio = triton.InferInput("audio", [1], "BYTES")
    audio.set_data_from_numpy(np.array([data], object))
    result = client.infer("ears", [audio], timeout=30_000_000).as_numpy("text")
    assert [text.decode() for text in result] == [expected(data)]
    client.close()


def test_samples_with_lengths(server: Server, expected: Callable[[bytes], str]) -> None:
    samples = np.stack([noise(3), noise(3, seed=1)])
    client = triton.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    audio = triton.InferInput("audio", list(samples.shape), "FP32")
    audio.set_data_from_numpy(samples)
    lengths = triton.InferInput("lengths", [2], "INT64")
    lengths.set_data_from_numpy(np.array([3 * RATE, RATE]))
    rate = triton.InferInput("sampling_rate", [1], "INT64")
    rate.set_data_from_numpy(np.array([RATE]))
    result = client.infer("ears", [audio, lengths, rate]).as_numpy("text")
    kept = (samples[0], samples[1, :RATE])
    assert [text.decode() for text in result] == [
        expected(file_of(each, subtype="FLOAT")) for each in kept
    ]
    client.close()


TRITON_GRPC = """
import sys
import numpy as np
import tritonclient.grpc as triton
client = triton.InferenceServerClient("127.0.0.1:" + sys.argv[1])
audio = triton.InferInput("audio", [1], "BYTES")
audio.set_data_from_numpy(np.array([sys.stdin.buffer.read()], object))
print(client.infer("ears", [audio]).as_numpy("text")[0].decode())
"""


def test_a_file_over_grpc(server: Server, expected: Callable[[bytes], str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", TRITON_GRPC, str(server.grpc_port)],
        cwd=ROOT,
        input=FLAC,
        capture_output=True,
        timeout=START_S,
        check=True,
    )
    assert ran.stdout.decode().strip() == expected(FLAC)


def test_v1(server: Server, expected: Callable[[bytes], str]) -> None:
    instances = [{"audio": base64.b64encode(WAV).decode()}]
    status, body = server.post("/v1/models/ears:predict", {"instances": instances})
    assert (status, body) == (200, {"predictions": [{"text": expected(WAV)}]})


def test_cost_is_counted_in_frames(server: Server) -> None:
    name = 'headway_tokens_total{model="ears",tier="interactive"}'
    before = metrics(server).get(name, 0)
    texts_of(server.post(PATH, in_json(WAV)))
    assert metrics(server)[name] - before == 3 * RATE // 320


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no audio": (in_json(b"hello"), "audio[0]: is not a WAV or FLAC file"),
    "cut off": (in_json(WAV, FLAC[:999]), "audio[1]: cannot be read"),
    "short": (in_json(file_of(noise(0.02))), "too short to hear anything; send at least 400"),
    "not a number": (in_json(file_of(noise(1) * np.nan, subtype="FLOAT")), "not finite"),
    "channels": (in_json(file_of(np.zeros((999, 9)))), "has 9 channels; send at most 8"),
    "rate": (in_json(file_of(noise(1), 1000)), "sampling rate is 1000 Hz; it must be from"),
    "too long": (
        in_json(file_of(np.zeros(1801 * RATE, np.int16), kind="FLAC")),
        "goes beyond 1800 s of audio",
    ),
}


@pytest.mark.parametrize(("body", "says"), BAD.values(), ids=BAD)
def test_bad_audio(server: Server, body: dict[str, Any], says: str) -> None:
    status, plain = server.post(PATH, body)
    assert status == 400
    assert says in plain["error"]
