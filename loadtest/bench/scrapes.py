"""What the server says of itself: its metrics, and the CPU time of its processes."""

import http.client
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from loadtest.bench.errors import BenchError
from loadtest.bench.servers import HOST

Labels = frozenset[tuple[str, str]]
SCRAPE_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """Samples of one exposition, or the difference of two."""

    samples: Mapping[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name that have these labels; 0 where there is none."""
        return sum(self.values(name, **labels).values())

    def values(self, name: str, **labels: str) -> Mapping[Labels, float]:
        """The samples of that name that have these labels, each by all its labels."""
        wanted = set(labels.items())
        return {
            has: value
            for (found, has), value in self.samples.items()
            if found == name and wanted.issubset(has)
        }

    def mean(self, histogram: str, **labels: str) -> float:
        count = self.total(f"{histogram}_count", **labels)
        return self.total(f"{histogram}_sum", **labels) / count if count else 0.0

    def since(self, earlier: "Scrape") -> "Scrape":
        return Scrape(
            {key: value - earlier.samples.get(key, 0.0) for key, value in self.samples.items()}
        )


def scrape(port: int, host: str = HOST) -> Scrape:
    """Raises BenchError if the server does not give its metrics."""
    connection = http.client.HTTPConnection(host, port, timeout=SCRAPE_LIMIT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"no metrics at {host}:{port}: {error}; is the server up?") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise BenchError(
            f"{host}:{port}/metrics answered {answer.status}; is a Headway predictor there?"
        )
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def cpu_seconds(pid: int) -> Mapping[int, float]:
    """CPU time so far of a process and all its descendants, by pid."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name may hold blanks; the fields after its closing parenthesis may not.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(fields[1])
        used[int(folder.name)] = (int(fields[11]) + int(fields[12])) / ticks_per_s
    return {each: used[each] for each in used if _descends(each, pid, parents)}


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid not in (ancestor, 0, 1):
        pid = parents.get(pid, 0)
    return pid == ancestor


def busiest_shares(
    before: Mapping[int, float], after: Mapping[int, float], elapsed_s: float
) -> Sequence[float]:
    """Shares of a core, most first, of the processes that used any."""
    shares = ((after[pid] - before.get(pid, 0.0)) / elapsed_s for pid in after)
    return sorted((share for share in shares if share >= 0.01), reverse=True)
