"""A real Prometheus for tests: with a past that is written for it, or with targets to scrape."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from predictor.local import prometheus
from predictor.metrics.observer import PrometheusObserver

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
FIRST_ANSWER_S = 60.0  # only a hang takes this long
missing = shutil.which("prometheus") is None or shutil.which("promtool") is None
WHY = "prometheus and promtool (Debian package prometheus) are not here"


@dataclass
class Past:
    """Samples of some minutes, as scrapes would have brought them."""

    families: dict[str, list[str]] = field(default_factory=dict)

    def scraped(self, observer: PrometheusObserver, at_s: float, **target: str) -> None:
        """All metrics of a predictor, and `up`, under the labels of its target."""
        body, _ = observer.exposition(OPENMETRICS)
        family = ""
        for line in body.decode().splitlines():
            if line.startswith("# TYPE headway_"):
                family = line.split(" ")[2]
                self.families.setdefault(family, [line])
            elif line.startswith("headway_"):
                name, _, value = line.rpartition(" ")
                name, _, labels = name.removesuffix("}").partition("{")
                every = ",".join(filter(None, [labels, _labels(target)]))
                self.families[family].append(f"{name}{{{every}}} {value} {at_s:.3f}")
        self.gauge("up", 1.0, at_s, **target)

    def gauge(self, name: str, value: float, at_s: float, **labels: str) -> None:
        lines = self.families.setdefault(name, [f"# TYPE {name} gauge"])
        lines.append(f"{name}{{{_labels(labels)}}} {value} {at_s:.3f}")

    def write(self, folder: Path) -> None:
        """As blocks of Prometheus."""
        text = folder.with_suffix(".om")
        lines = [line for family in self.families.values() for line in family]
        text.write_text("\n".join([*lines, "# EOF\n"]))
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=FIRST_ANSWER_S)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


class Target:
    """A predictor's metrics over HTTP, which knows how often it was scraped."""

    def __init__(
        self, observer: PrometheusObserver, before: Callable[[], None] = lambda: None
    ) -> None:
        """`before`: what happens in it between two scrapes."""
        self.scrapes = threading.Semaphore(0)
        self._goes_on = threading.Event()
        self._goes_on.set()
        scraped, goes_on = self.scrapes.release, self._goes_on

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                scraped()
                goes_on.wait()
                before()
                body, content_type = observer.exposition(self.headers.get("Accept", ""))
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for_scrapes(self, count: int) -> None:
        """The last one has begun then, so those before it can be asked for."""
        for _ in range(count):
            assert self.scrapes.acquire(timeout=FIRST_ANSWER_S)

    def hang(self) -> None:
        """From now on it takes connections and answers none, as a stopped process does."""
        self._goes_on.clear()

    def stop(self) -> None:
        self._goes_on.set()
        self._server.shutdown()
        self._server.server_close()


class PrometheusProcess:
    def __init__(
        self, folder: Path, targets: Sequence[Mapping[str, str]] = (), rules: str = ""
    ) -> None:
        """`targets`: labels of each, with its address as `address`. `rules`: a rule file."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{address}"
        self.data = folder / "data"
        self.data.mkdir()
        scraped = [
            prometheus.Target(
                each["address"], {name: label for name, label in each.items() if name != "address"}
            )
            for each in targets
        ]
        rule_file = folder / "rules.yml" if rules else None
        if rule_file is not None:
            rule_file.write_text(rules)
        file = folder / "prometheus.yml"
        file.write_text(prometheus.configuration(scraped, every_s=1, rules=rule_file))
        self._command = [
            *("prometheus", f"--config.file={file}", f"--storage.tsdb.path={self.data}"),
            *(f"--web.listen-address={address}", "--storage.tsdb.retention.time=100y"),
            "--log.level=error",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "PrometheusProcess":
        self._process = subprocess.Popen(self._command)
        until(lambda: self._is_ready(self._process))
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _is_ready(self, process: subprocess.Popen[bytes] | None) -> bool:
        assert process is not None
        assert process.poll() is None, "prometheus ended"
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5.0).ok
        except requests.ConnectionError:
            return False


def until(condition: Callable[[], bool]) -> None:
    """Ask until it holds; the test's own time limit ends what never does."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.05)
