"""A storm of inputs that nobody meant, by all ways into the real server at once.

Two edges, an engine with four models and a Redis, each a process. Every input is answered in time:
by a refusal that is the client's fault, or correctly where it is still well. Nothing is left in the
log, in memory or open, and the server answers as before. The same seed sends the same inputs; an
answer that is wrong is reported with its input in hex.
"""

import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from predictor.core.errors import ParametersRefused
from predictor.core.parameters import parse_document
from predictor.jobs.client import JobsClient
from tests.edge.server_process import Server
from tests.fuzz.answers import REFUSALS, problem
from tests.fuzz.inputs import KINDS, Input, inputs
from tests.fuzz.sending import Answer, Client, LogReader
from tests.jobs.conftest import own_redis  # noqa: F401 - a fixture
from tests.jobs.redis_process import RedisProcess
from tests.runner.speech_checkpoints import Kind, write_speech
from tests.server.jobs import peak_bytes, resident_bytes, say
from tests.server.process import document, metrics, replace, serving
from tests.server.test_processes import children

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SEED = 7
LEAST_INPUTS = 20_000
WARM = 0.1  # of the storm, by another seed, before memory is measured
THREADS = 6
MOST_REFUSED = 0.01  # of a kind, for a limit that was reached
MOST_GROWTH = 32 << 20  # bytes of a process, over the storm
SETTLED_S = 60.0
KEPT_TO_REDIS = THREADS  # connections that edges keep: as many as were in use at once
SHOWN_EVERY = 5000
VALID_ONES = 8  # of each kind, at the end
SERVED = ("sim", "topics", "words", "ears")
MODELS = """
- {{name: sim, task: simulated, simulated_fixed_ms: 1, simulated_token_us: 1}}
- {{name: topics, task: topic, device: cpu}}
- {{name: words, task: simulated, simulated_fixed_ms: 1, simulated_token_us: 1,
   simulated_output_tokens: 8}}
- {{name: ears, task: speech-recognition, device: cpu, model_dir: {ears}}}
"""
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) .+\n")


@dataclass
class Storm:
    """What was sent, and what was said."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sent(self) -> int:
        return sum(counts.total() for counts in self.statuses.values())

    def note(self, sent: Input, answer: Answer, took_s: float) -> int:
        wrong = problem(sent, answer)
        with self._lock:
            self.statuses.setdefault(sent.kind, Counter())[answer.status] += 1
            self.slowest_s = max(self.slowest_s, took_s)
            if wrong:
                said = answer.body[:300]
                self.problems.append(f"{wrong}: {answer.status} {said!r} to {sent}")
            if sent.kind == "jobs" and answer.status == "202":
                self.jobs.append(answer.plain["id"])
            return self.sent


@dataclass
class Cluster:
    server: Server
    log: LogReader
    parameters: Path
    redis: RedisProcess

    @property
    def processes(self) -> dict[str, int]:
        own = {"supervisor": self.server.process.pid, "redis": self.redis.pid}
        return own | children(self.server)


@pytest.fixture
def cluster(
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811
) -> Iterator[Cluster]:
    parameters = tmp_path / "parameters" / "parameters.yaml"
    parameters.parent.mkdir()
    parameters.write_text(document())
    models = tmp_path / "models.yaml"
    models.write_text(MODELS.format(ears=write_speech(tmp_path / "ears", Kind.GROUP_NORM)))
    flags = ("--models", str(models), "--workers", "2", "--redis_url", own_redis.url)
    with serving(parameters, *flags, models=len(SERVED) + 2) as server:
        yield Cluster(server, LogReader(server), parameters, own_redis)


def rained(cluster: Cluster, seed: int, share: float, capsys: pytest.CaptureFixture[str]) -> Storm:
    """All kinds but the parameters, side by side."""
    storm = Storm()
    all_inputs = [inputs(kind, seed, share) for kind in KINDS if kind != "parameters"]
    waiting = _mixed(all_inputs)
    lock = threading.Lock()

    def send() -> None:
        with _client(cluster.server) as client:
            while not storm.problems:
                with lock:
                    sent = next(waiting, None)
                if sent is None:
                    return
                began_s = time.perf_counter()
                try:
                    answer = client.send(sent)
                except Exception as error:
                    raise AssertionError(f"no answer ({error!r}) to {sent}") from error
                count = storm.note(sent, answer, time.perf_counter() - began_s)
                if count % SHOWN_EVERY == 0:
                    say(capsys, f"  {count} inputs answered")

    with ThreadPoolExecutor(THREADS) as threads:
        for each in [threads.submit(send) for _ in range(THREADS)]:
            each.result()
    assert not storm.problems, "\n".join(storm.problems)
    return storm


def _mixed(kinds: Sequence[Iterator[Input]]) -> Iterator[Input]:
    """Ten of each in turn, until all are sent."""
    left = list(kinds)
    while left:
        for kind in list(left):
            some = list(itertools.islice(kind, 10))
            yield from some
            if not some:
                left.remove(kind)


@contextmanager
def _client(server: Server) -> Iterator[Client]:
    client = Client(server)
    try:
        yield client
    finally:
        client.close()


def edited(cluster: Cluster, documents: Iterable[Input]) -> Counter[str]:
    """Puts one document after the other in place; each is in force, or refused by a sentence."""
    verdicts: Counter[str] = Counter()
    for sent in documents:
        try:
            parse_document(sent.body).check_models(frozenset(SERVED))
            expected = "are in force"
        except ParametersRefused:
            expected = "parameters refused"
        begin = len(cluster.log.lines)
        fresh = cluster.parameters.with_suffix(".new")
        fresh.write_bytes(sent.body)
        fresh.replace(cluster.parameters)
        said = cluster.log.wait_for("parameters refused", "are in force", begin=begin)
        assert expected in said, f"{said!r} to {sent}"
        verdicts["accepted" if "in force" in said else "refused"] += 1
    return verdicts


def _numbered(documents: Iterator[Input]) -> Iterator[Input]:
    """Each with bytes of its own: the same document twice is no news."""
    for each in documents:
        comment = b"\n# %d\n" % each.number
        yield Input(each.kind, each.number, each.path, each.body + comment)


def finished(server: Server, jobs: Sequence[str]) -> Counter[str]:
    """Each job to its end, its results read, then forgotten."""
    ended: Counter[str] = Counter()
    with JobsClient(server.url) as client:
        for job in jobs:
            *_, last = client.follow(job)
            assert last.done + last.parked == last.total
            with client.results(job) as (_, blocks):
                results = [json.loads(line) for line in b"".join(blocks).splitlines()]
            assert [result["index"] for result in results] == list(range(last.total))
            ended["done"] += last.done
            ended["parked"] += last.parked
    return ended


def settled(cluster: Cluster, descriptors: dict[str, int] | None = None) -> dict[str, int]:
    """Descriptors of each process, once nothing waits or runs and no more are open than before."""
    began_s = time.monotonic()
    while True:
        found = metrics(cluster.server)
        busy = sum(
            value
            for name, value in found.items()
            if name.startswith(
                ("headway_queue_depth", "headway_rows_running", "headway_jobs_leased")
            )
        )
        opened = {
            name: len(list(Path(f"/proc/{pid}/fd").iterdir()))
            for name, pid in cluster.processes.items()
        }
        if not busy and all(
            opened[name] <= count + KEPT_TO_REDIS for name, count in (descriptors or opened).items()
        ):
            return opened
        assert time.monotonic() - began_s < SETTLED_S, f"{busy} rows; {opened} of {descriptors}"


def _well(cluster: Cluster) -> None:
    """Valid requests of each kind are answered, correctly."""
    with _client(cluster.server) as client:
        for kind in KINDS:
            if kind in {"parameters", "gRPC bytes"}:  # no answer of their own
                continue
            valid = (sent for sent in inputs(kind, SEED) if sent.untouched)
            for sent in itertools.islice(valid, VALID_ONES):
                answer = client.send(sent)
                assert not problem(sent, answer), f"{answer} to {sent}"
                assert answer.status not in REFUSALS, f"{answer} to {sent}"


def test_a_storm(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    server, processes = cluster.server, cluster.processes
    began_s = time.monotonic()
    warm = rained(cluster, SEED + 1, WARM, capsys)
    finished(server, warm.jobs)
    descriptors = settled(cluster)
    before = {name: resident_bytes(pid) for name, pid in processes.items()}
    say(capsys, f"seed {SEED}: {warm.sent} inputs to warm up; now the storm")

    storm = rained(cluster, SEED, 1.0, capsys)
    lines = finished(server, storm.jobs)
    verdicts = edited(cluster, _numbered(inputs("parameters", SEED)))
    begin = len(cluster.log.lines)
    replace(cluster.parameters, document(1_000_000_000))
    cluster.log.wait_for("generation 1000000000 are in force", begin=begin)
    storm.statuses["parameters"] = verdicts
    after_descriptors = settled(cluster, descriptors)
    after = {name: resident_bytes(pid) for name, pid in processes.items()}
    _well(cluster)

    say(capsys, _figures(storm, before, after, descriptors, after_descriptors, processes))
    say(capsys, f"lines of jobs: {dict(lines)}; {time.monotonic() - began_s:.0f} s in all")
    assert storm.sent >= LEAST_INPUTS
    for kind, counts in storm.statuses.items():
        answered = sum(counts[status] for status in ("200", "202", "OK", "accepted"))
        refused = sum(counts[status] for status in REFUSALS)
        assert refused <= MOST_REFUSED * counts.total(), (kind, counts)
        assert 0 < answered < counts.total(), (kind, counts)
    grown = {name: after[name] - before[name] for name in processes}
    assert max(grown.values()) < MOST_GROWTH, grown
    assert cluster.processes == processes, "a process was started again"
    found = metrics(server)
    assert found['headway_process_restarts_total{process="engine"}'] == 0
    assert found['headway_process_restarts_total{process="edge"}'] == 0
    assert server.stop() == 0
    cluster.log.join()
    wrong = [line for line in cluster.log.lines if not LOG_LINE.fullmatch(line)]
    assert not wrong, wrong[:20]


def _figures(
    storm: Storm,
    before: dict[str, int],
    after: dict[str, int],
    descriptors: dict[str, int],
    after_descriptors: dict[str, int],
    processes: dict[str, int],
) -> str:
    told = [f"{storm.sent} inputs, the slowest answered after {storm.slowest_s:.2f} s"]
    for kind, counts in storm.statuses.items():
        told.append(f"  {kind:14}{counts.total():6}  {dict(counts.most_common(8))}")
    for name, pid in processes.items():
        told.append(
            f"  {name:12} {before[name] >> 20:5} MiB {(after[name] - before[name]) / 2**20:+6.1f},"
            f" peak {peak_bytes(pid) >> 20}; {descriptors[name]} descriptors,"
            f" {after_descriptors[name] - descriptors[name]:+d}"
        )
    return "\n".join(told)
