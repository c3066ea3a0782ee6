"""Three replicas share a job while things break: every line ends with exactly one result.

Interactive requests go to all replicas meanwhile. What they see of the faults on the replicas
that survive is printed; how fast this machine is decides, so nothing asserts it.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from predictor.jobs.client import JobsClient
from tests.edge.server_process import STOP_S, Server
from tests.faults.traffic import Traffic
from tests.jobs.conftest import own_redis  # noqa: F401 - a fixture
from tests.jobs.redis_process import RedisProcess
from tests.server.jobs import answered, assert_complete, ended, replica, results_of, say, submitted
from tests.server.process import document, metrics

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

LINES = 20_000
SLO_MS = 500
BATCH_MS = 20
STEP = LINES // 20  # so many lines are answered between two faults
LEASE_S = 2


@dataclass
class Cluster:
    """Replica 0 is touched by no fault."""

    redis: RedisProcess
    servers: Sequence[Server]
    job_id: str = ""
    survivors: frozenset[int] = frozenset((0, 1, 2))
    paused: bool = False

    def more_answered(self) -> int:
        """Wait until the job has gone on; how far it is."""
        with JobsClient(self.servers[0].url) as client:
            done = client.status(self.job_id).done
        return answered(self.servers[0], self.job_id, min(done + STEP, LINES))


def kill(cluster: Cluster) -> None:
    """Replica 1 dies with a batch on its device."""
    cluster.servers[1].process.kill()
    cluster.survivors -= {1}


def restart_redis(cluster: Cluster) -> None:
    cluster.redis.stop()
    cluster.redis.start()


def kill_redis(cluster: Cluster) -> None:
    """Up to a second of what it was told may be lost."""
    cluster.redis.kill()
    cluster.redis.start()


def pause(cluster: Cluster) -> None:
    """Replica 2 stands still until all its leases are over: the others cannot finish before."""
    cluster.servers[2].process.send_signal(signal.SIGSTOP)
    cluster.survivors -= {2}
    cluster.paused = True


Fault = Callable[[Cluster], None]


@pytest.fixture
def cluster(
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811
) -> Iterator[Cluster]:
    interactive = {"priority": 1, "slo_ms": SLO_MS, "weight": 10}
    (tmp_path / "parameters.yaml").write_text(document(interactive=interactive))
    flags = ("--job_lease_s", str(LEASE_S))
    with ExitStack() as stack:
        servers = [
            stack.enter_context(replica(tmp_path, own_redis, *flags, fixed_ms=BATCH_MS))
            for _ in range(3)
        ]
        yield Cluster(own_redis, servers)


@pytest.mark.parametrize(
    "faults",
    [
        (kill,),
        (restart_redis,),
        (kill_redis,),
        (pause,),
        (kill, restart_redis, pause),
    ],
    ids=lambda faults: "-".join(fault.__name__ for fault in faults),
)
def test_every_line_has_exactly_one_result(
    cluster: Cluster, faults: Sequence[Fault], capsys: pytest.CaptureFixture[str]
) -> None:
    servers = cluster.servers
    with ExitStack() as stack:
        traffics = [stack.enter_context(Traffic(server)) for server in servers]
        cluster.job_id = submitted(servers[0], LINES)
        for fault in faults:
            assert cluster.more_answered() < LINES, "the job ended before it was disturbed"
            fault(cluster)
        ended(servers[0], cluster.job_id)
        assert_complete(results_of(servers[0], cluster.job_id), LINES)
        if cluster.paused:
            servers[2].process.send_signal(signal.SIGCONT)
    if cluster.paused:  # what it says late, at the latest while it drains, changes nothing
        servers[2].process.send_signal(signal.SIGTERM)
        assert servers[2].process.wait(STOP_S) == 0
    ended(servers[0], cluster.job_id)
    assert_complete(results_of(servers[0], cluster.job_id), LINES)
    answers = [each for index in cluster.survivors for each in traffics[index].answers]
    assert {status for status, _ in answers} <= {200, 429}
    say(capsys, _figures(cluster, faults, answers))


def _figures(
    cluster: Cluster, faults: Sequence[Fault], answers: Sequence[tuple[int, float]]
) -> str:
    times_s = sorted(seconds for status, seconds in answers if status == 200)
    in_time = sum(seconds <= SLO_MS / 1e3 for seconds in times_s)
    bulk = 'headway_requests_total{model="sim",outcome="ok",tier="bulk"}'
    run = {index: metrics(cluster.servers[index])[bulk] for index in sorted(cluster.survivors)}
    shares = ", ".join(f"{lines:.0f} on replica {index}" for index, lines in run.items())
    return (
        f"{', '.join(fault.__name__ for fault in faults)}: {LINES} lines, each with one result"
        f" ({shares}); {len(answers)} interactive requests on survivors,"
        f" {in_time / len(answers):.2%} within {SLO_MS} ms,"
        f" p99 {1e3 * times_s[int(0.99 * len(times_s))]:.0f} ms"
    )
