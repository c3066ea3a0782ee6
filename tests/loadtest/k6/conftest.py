"""One real server with a simulated device for all scripts."""

from collections.abc import Iterator, Mapping

import pytest

from tests.edge.server_process import Server
from tests.jobs.redis_process import RedisProcess
from tests.server.jobs import replica

# Nothing here depends on how fast this machine is.
CALM = {"SLO_MS": "none", "VUS": "60", "RATE": "20", "DURATION": "1s"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("k6")
    redis = RedisProcess(folder).start()
    try:
        with replica(folder, redis, fixed_ms=1) as running:
            yield running
    finally:
        redis.stop()


@pytest.fixture
def settings(server: Server) -> Mapping[str, str]:
    return settings_of(server)


def settings_of(server: Server) -> dict[str, str]:
    return {
        **CALM,
        "URL": server.url,
        "GRPC": f"127.0.0.1:{server.grpc_port}",
        "MODEL": "sim",
        "TASK": "simulated",
    }
