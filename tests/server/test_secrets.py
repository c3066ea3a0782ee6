"""The password of Redis: in no command line, no file, no answer and no log."""

from pathlib import Path

import pytest

from predictor.jobs.client import JobsClient
from predictor.redis_password import PASSWORD_VARIABLE, with_password
from tests.jobs.conftest import own_redis  # noqa: F401 - a fixture
from tests.jobs.redis_process import RedisProcess
from tests.server.jobs import ended, raw, replica

WITH_MARKS = "s3cret:/?#@[] %41"
LINE = (
    b'{"inputs": [{"name": "input_ids", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}]}\n'
)


def with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in with_children(int(child)))]


@pytest.mark.parametrize("edges", [1, 2])
def test_it_reaches_every_process_by_the_environment_alone(
    edges: int,
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, WITH_MARKS)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with own_redis.client() as client:
        client.config_set("requirepass", WITH_MARKS)
    with replica(tmp_path, own_redis, edges=edges) as server:
        with JobsClient(server.url) as client_of_jobs:
            job = client_of_jobs.submit("sim", [LINE * 3])
        ended(server, job.id)
        processes = with_children(server.process.pid)
        assert len(processes) >= (1 if edges == 1 else 1 + edges + 1)
        for pid in processes:
            assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        orders = [path for path in tmp_path.rglob("*.json") if "headway-" in str(path)]
        assert bool(orders) is (edges > 1)
        assert not [path for path in orders if b"s3cret" in path.read_bytes()]
        own_redis.kill()
        answer = raw(server, "GET", f"/v2/jobs/{job.id}")
        said = answer.read().decode()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "does not answer" in said
        assert str(own_redis.socket) not in said
        assert "s3cret" not in said
    assert "s3cret" not in "".join(capfd.readouterr())


def test_a_url_gets_it_whatever_it_holds() -> None:
    environment = {PASSWORD_VARIABLE: "a:b/@ü"}
    for url, whole in (
        ("redis://host:6379/0", "redis://:a%3Ab%2F%40%C3%BC@host:6379/0"),
        ("rediss://me@host", "rediss://me:a%3Ab%2F%40%C3%BC@host"),
        ("unix:///run/redis.sock?db=1", "unix://:a%3Ab%2F%40%C3%BC@/run/redis.sock?db=1"),
    ):
        assert with_password(url, environment) == whole
        assert with_password(url, {}) == url
