"""What small files hold when they are decoded, and how little of it a server holds at a time."""

import base64
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictor.jobs.client import JobsClient
from tests.audio.clips import RATE, file_of
from tests.edge.server_process import Server
from tests.jobs.conftest import own_redis  # noqa: F401 - a fixture
from tests.jobs.redis_process import RedisProcess
from tests.runner.speech_checkpoints import Kind, write_speech
from tests.server.jobs import forget_peak, peak_bytes, resident_bytes, say
from tests.server.process import document, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

MIB = 1 << 20
BUDGET = 128 * MIB
CLIP_S = 600
CLIP_BYTES = 4 * CLIP_S * RATE  # when it is decoded
CLIPS = 20
SLACK = 160 * MIB  # of batches that run, of two clips that are resampled, of 20 answers
KEPT = 48 * MIB  # by the process at the end: half of what one clip is
PATH = "/v2/models/ears/infer"


def silence(seconds: int) -> bytes:
    return file_of(np.zeros(seconds * RATE, np.int16), kind="FLAC")


def request_of(file: bytes) -> dict[str, Any]:
    data = [base64.b64encode(file).decode()]
    return {"inputs": [{"name": "audio", "datatype": "BYTES", "shape": [1], "data": data}]}


def settled_bytes(pid: int, below: int) -> int:
    """What is resident once it is so little, or will not be: memory goes back on a thread."""
    ends_s = time.monotonic() + 30
    while (resident := resident_bytes(pid)) >= below and time.monotonic() < ends_s:
        os.sched_yield()
    return resident


@pytest.fixture
def server(
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811 - pytest finds it by name
) -> Iterator[Server]:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document(models={"ears": {"max_batch_tokens": 1500}}))
    folder = write_speech(tmp_path / "ears", Kind.GROUP_NORM)
    flags = ("--model_name", "ears", "--task", "speech-recognition", "--model_dir", str(folder))
    own = ("--redis_url", own_redis.url, "--max_decoded_bytes", str(BUDGET), "--device", "cpu")
    with serving(parameters, *flags, *own) as server:
        yield server


def test_files_of_silence(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    pid = server.process.pid
    body = request_of(silence(CLIP_S))
    headers = {"x-headway-tier": "bulk"}
    assert server.post(PATH, request_of(silence(60)), headers)[0] == 200
    before = resident_bytes(pid)
    forget_peak(pid)
    with ThreadPoolExecutor(CLIPS) as threads:
        answers = list(threads.map(lambda _: server.post(PATH, body, headers), range(CLIPS)))
    statuses = Counter(status for status, _ in answers)
    assert statuses.keys() == {200, 503}, statuses
    said = next(answer["error"] for status, answer in answers if status == 503)
    assert f"({BUDGET} bytes); try again" in said
    asked = peak_bytes(pid)
    assert asked < before + BUDGET + SLACK < before + CLIPS * CLIP_BYTES

    with JobsClient(server.url) as client:
        job = client.submit("ears", [json.dumps(body).encode() + b"\n"] * CLIPS, "bulk")
        *_, last = client.follow(job.id)
        assert (last.done, last.parked, last.total) == (CLIPS, 0, CLIPS)
        with client.results(job.id) as (_, blocks):
            results = [json.loads(line) for line in b"".join(blocks).splitlines()]
    assert [len(result["outputs"][0]["data"]) for result in results] == [1] * CLIPS
    peak, after = peak_bytes(pid), settled_bytes(pid, before + KEPT)
    assert peak < before + BUDGET + SLACK
    assert after < before + KEPT
    say(
        capsys,
        f"{CLIPS} files of {len(silence(CLIP_S)) >> 10} KiB, {CLIP_BYTES / MIB:.0f} MiB decoded:"
        f" {dict(statuses)}; before {before / MIB:.0f} MiB, peak {(asked - before) / MIB:+.0f} by"
        f" requests, {(peak - before) / MIB:+.0f} by a job, {(after - before) / MIB:+.0f} after",
    )
    assert server.post(PATH, body, headers)[0] == 200
    assert server.stop() == 0
