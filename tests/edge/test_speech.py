"""Audio of any form becomes rows of FP32 samples, and frames become text."""

import base64
from typing import Any

import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from tritonclient.http import InferenceServerClient, InferInput

from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec, SpeechSpec, Task
from predictor.edge import grpc_codec, http_codec
from predictor.edge.codecs import codec_for
from predictor.edge.speech import MAX_AUDIO_S
from predictor.edge.tensors import Tensor
from tests.audio.clips import RATE, file_of, noise, tone

SPEECH = SpeechSpec(
    sampling_rate=RATE,
    samples_per_token=320,
    samples_per_frame=320,
    min_samples=400,
    window_samples=30 * RATE,
    margin_samples=2 * RATE,
)
SPEC = ModelSpec(
    "ears",
    Task.SPEECH_RECOGNITION,
    "FP32",
    "INT32",
    0,
    1500,
    labels=("", " ", "a", "b"),
    speech=SPEECH,
)
CODEC = codec_for(SPEC, max_rows=4)
STEP = 2 / (1 << 16)


def files(*values: Any) -> dict[str, Tensor]:
    return {"audio": Tensor("audio", "BYTES", (len(values),), values)}


def floats(table: Any, **more: list[int]) -> dict[str, Tensor]:
    array = np.asarray(table, "<f4")
    tensors = {"audio": Tensor("audio", "FP32", array.shape, array.tobytes())}
    for name, values in more.items():
        tensors[name] = Tensor(name, "INT64", (len(values),), np.array(values, "<i8").tobytes())
    return tensors


def samples_of(inputs: dict[str, Tensor]) -> list[Any]:
    """The samples of all rows; their cost is checked on the way."""
    taken = CODEC.rows(inputs)
    rows = [np.frombuffer(row.payload, "<f4") for row in taken.rows]
    assert [row.tokens for row in taken.rows] == [max(1, row.size // 320) for row in rows]
    assert taken.counts is not None
    assert sum(taken.counts) == len(rows)
    return rows


def test_files_come_as_bytes_or_base64() -> None:
    wav, flac = file_of(noise(1)), file_of(noise(1), kind="FLAC")
    text = base64.b64encode(flac).decode()
    for row in samples_of(files(wav, flac)) + samples_of(files(text)):
        np.testing.assert_allclose(row, noise(1), rtol=0, atol=STEP)


def test_samples_are_taken_as_they_are_up_to_their_lengths() -> None:
    table = np.stack([noise(1), noise(1, seed=1)])
    assert np.array_equal(samples_of(floats(table)), table)
    short, long = samples_of(floats(table, lengths=[500, RATE]))
    assert np.array_equal(short, table[0, :500])
    assert np.array_equal(long, table[1])


def test_samples_at_another_rate_are_resampled() -> None:
    (row,) = samples_of(floats([tone(2, 8000)], sampling_rate=[8000]))
    inner = slice(RATE // 10, RATE)
    np.testing.assert_allclose(row[inner], tone(2, RATE)[inner], rtol=0, atol=1e-3)


def test_a_long_clip_becomes_windows_and_one_text() -> None:
    taken = CODEC.rows(floats(np.stack([noise(70), noise(70)]), lengths=[70 * RATE, RATE]))
    assert taken.counts == [3, 1]
    assert [len(row.payload) for row in taken.rows] == [4 * n * RATE for n in (30, 30, 18, 1)]
    # Each window says its own letter; what is dropped at the inner ends says another.
    a, b = np.int32(2), np.int32(3)
    first, second, third = (np.full(frames, 1, np.int32) for frames in (1499, 1499, 899))
    first[1400:], second[:100], second[1400:], third[:100] = b, b, b, b
    first[10], second[700], third[-1] = a, a, a
    results = [first, second, third, np.array([3, 3, 0, 3], np.int32)]
    (text,) = CODEC.encode([each.tobytes() for each in results], taken.counts)
    assert (text.name, text.datatype, list(text.shape)) == ("text", "BYTES", [2])
    assert list(text.data) == ["a a a", "bb"]


def test_v1_instances() -> None:
    encoded = base64.b64encode(file_of(noise(1))).decode()
    for instances in ([encoded], [{"audio": encoded}]):
        (row,) = samples_of(CODEC.instances(instances))
        np.testing.assert_allclose(row, noise(1), rtol=0, atol=STEP)
    lists = [noise(1).tolist(), {"audio": noise(2).tolist()}]
    assert [row.size for row in samples_of(CODEC.instances(lists))] == [RATE, 2 * RATE]


@pytest.mark.parametrize(
    ("instances", "says"),
    [
        ([], "has 0 rows"),
        ([[0.0]] * 5, "has 5 rows; send 1 to 4"),
        ([1], "must all be"),
        ([{"sound": "x"}], "must all be"),
        (["aaaa", [0.0]], "must all be"),
        ([["a"]], "must all be"),
        ([[]], "has 0 samples"),
        ([[0.0] * (11 * 60 * RATE)] * 3, "instances: goes beyond 1800 s"),
    ],
)
def test_bad_instances(instances: list[object], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        CODEC.rows(CODEC.instances(instances))


SECOND = noise(1)[None]
BROKEN = SECOND.copy()
BROKEN[0, 5] = np.inf
WAV = file_of(noise(1))
BAD: dict[str, tuple[dict[str, Tensor], str]] = {
    "nothing": ({}, "no input to run; send audio"),
    "unknown": (floats(SECOND) | {"x": Tensor("x", "INT64", (0,), b"")}, "'x' is unknown"),
    "no file": (files(b"hello"), r"audio\[0\]: is not a WAV or FLAC"),
    "second is no file": (files(WAV, b"hello"), r"audio\[1\]: is not"),
    "not base64": (files("RIFF?"), r"audio\[0\]: is not base64"),
    "not ASCII": (files("é"), r"audio\[0\]: is not base64"),
    "many files": (files(*[WAV] * 5), "has 5 rows; send 1 to 4"),
    "no files": (files(), "has 0 rows"),
    "files in a table": ({"audio": Tensor("audio", "BYTES", (1, 2), [WAV, WAV])}, r"\[n, 1\]"),
    "short file": (files(file_of(noise(0.02))), r"audio\[0\]: has 320 samples .* at least 400"),
    "empty file": (files(file_of(noise(0))), "has 0 samples"),
    "rate of a file": (files(WAV) | {"sampling_rate": floats([])["audio"]}, "leave it out"),
    "long": (floats(np.zeros((4, 451 * RATE), "f4")), "audio: goes beyond 1800 s"),
    "integers": ({"audio": Tensor("audio", "INT32", (1, 2), bytes(8))}, "not INT32"),
    "one dimension": (floats(noise(1)), r"shape must be \[clips, samples\]"),
    "no clips": (floats(np.zeros((0, 500))), "has 0 rows"),
    "no samples": (floats(np.zeros((1, 0))), "has 0 samples"),
    "not finite": (floats(BROKEN), r"audio\[0\]: a sample is not finite"),
    "length beyond": (floats(SECOND, lengths=[16_001]), r"lengths\[0\] is 16001"),
    "length negative": (floats(SECOND, lengths=[-1]), r"lengths\[0\] is -1"),
    "length zero": (floats(SECOND, lengths=[0]), "has 0 samples"),
    "lengths too many": (floats(SECOND, lengths=[1, 2]), r"INT64 of shape \[1\]"),
    "rate": (floats(SECOND, sampling_rate=[1]), "sampling rate is 1 Hz; it must be"),
    "rate zero": (floats(SECOND, sampling_rate=[0]), "sampling rate is 0 Hz"),
    "rates": (floats(SECOND, sampling_rate=[1, 2]), "'sampling_rate': must be INT64"),
}


@pytest.mark.parametrize(("inputs", "says"), BAD.values(), ids=BAD)
def test_bad_audio(inputs: dict[str, Tensor], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        CODEC.rows(inputs)


def test_the_limit_is_for_all_clips_of_a_request() -> None:
    silence = file_of(np.zeros(MAX_AUDIO_S // 2 * RATE + 1, np.int16), kind="FLAC")
    with pytest.raises(InvalidRequest, match=r"audio\[1\]: goes beyond 900 s"):
        CODEC.rows(files(silence, silence))


def test_files_and_much_audio_are_worth_a_thread() -> None:
    assert CODEC.is_heavy(files(WAV))
    assert CODEC.is_heavy(floats(noise(2)[None]))
    assert not CODEC.is_heavy(floats(noise(0.5)[None]))
    assert not CODEC.is_heavy({})


@pytest.mark.parametrize("binary", [True, False])
def test_what_tritonclient_sends_over_http(binary: bool) -> None:
    samples = InferInput("audio", [1, RATE], "FP32")
    samples.set_data_from_numpy(SECOND, binary_data=binary)
    body, length = InferenceServerClient.generate_request_body([samples])
    (row,) = samples_of(dict(http_codec.decode_request(bytes(body), length).inputs))
    assert np.array_equal(row, SECOND[0])
    text = WAV if binary else base64.b64encode(WAV)
    whole = InferInput("audio", [1], "BYTES")
    whole.set_data_from_numpy(np.array([text], object), binary_data=binary)
    body, length = InferenceServerClient.generate_request_body([whole])
    (row,) = samples_of(dict(http_codec.decode_request(bytes(body), length).inputs))
    np.testing.assert_allclose(row, SECOND[0], rtol=0, atol=STEP)


@pytest.mark.parametrize("raw", [True, False])
def test_what_grpc_carries(raw: bool) -> None:
    for kind, shape in (("FP32", [1, RATE]), ("BYTES", [1])):
        message = pb.ModelInferRequest(model_name="ears")
        tensor = message.inputs.add(name="audio", datatype=kind, shape=shape)
        if raw:
            prefix = len(WAV).to_bytes(4, "little")
            message.raw_input_contents.append(SECOND.tobytes() if kind == "FP32" else prefix + WAV)
        elif kind == "FP32":
            tensor.contents.fp32_contents.extend(SECOND[0])
        else:
            tensor.contents.bytes_contents.append(WAV)
        (row,) = samples_of(dict(grpc_codec.decode_request(message).inputs))
        np.testing.assert_allclose(row, SECOND[0], rtol=0, atol=STEP)
