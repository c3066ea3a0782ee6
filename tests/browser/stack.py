"""What `make up` starts, started the same way in a folder of its own, and k6 to load it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from loadtest.bench.servers import free_ports
from predictor.local.ports import PORTS_APART
from predictor.local.replicas import MODEL

ROOT = Path(__file__).parents[2]
LOCALHOST = "127.0.0.1"
STOP_S = 60
MOST_TRIES = 100
# Half busy under the load below, which asks little of a machine.
DEVICE = ("--task=simulated", "--simulated_fixed_ms=8", "--simulated_token_us=15")


class Stack:
    """A running `python -m predictor.local`."""

    def __init__(self, folder: Path, replicas: int) -> None:
        self.folder = folder
        self._http_port = _ports_of(replicas)
        ports = {
            "http": self._http_port,
            "grpc": self._http_port + 1,
            **dict(zip(("redis", "prometheus", "dashboard"), free_ports(3), strict=True)),
        }
        self.url = f"http://{LOCALHOST}:{ports['dashboard']}"
        self.prometheus_url = f"http://{LOCALHOST}:{ports['prometheus']}"
        self.replica_urls = [
            f"http://{LOCALHOST}:{self._http_port + number * PORTS_APART}"
            for number in range(replicas)
        ]
        self._said: deque[str] = deque(maxlen=1000)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "predictor.local", f"--replicas={replicas}", *DEVICE),
                *(f"--{kind}_port={port}" for kind, port in ports.items()),
            ],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def parameters(self) -> Path:
        return self.folder / "run" / "parameters.yaml"

    def wait_for_line(self, part: str) -> str:
        """Reads on, in this thread, to a line with it. Fails where all has ended before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)
            if part in line:
                return line
        raise AssertionError(f"it ended without saying {part!r}:\n{''.join(self._said)}")

    def keep_reading(self) -> None:
        """What nobody reads would stop who writes it."""
        threading.Thread(target=lambda: deque(self._process.stdout or (), maxlen=0)).start()

    def kill(self, name: str) -> None:
        """End one of its services, as a fault does."""
        self._signal(name, signal.SIGKILL)

    def signal_service(self, name: str, what: signal.Signals) -> None:
        """SIGSTOP makes it hang: one that ended would be started again."""
        self._signal(name, what)

    def signal_replica(self, number: int, what: signal.Signals) -> None:
        """SIGSTOP makes it hang, and SIGCONT goes on."""
        port = self._http_port + number * PORTS_APART
        self._signal(f"--http_port={port}", what)

    def _signal(self, part: str, what: signal.Signals) -> None:
        """To the one service that has it in its command line."""
        own = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        (found,) = [
            pid
            for pid in own.read_text().split()
            if any(
                word == part or Path(word).name == part
                for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            )
        ]
        os.kill(int(found), what)

    def kill_for_good(self, name: str) -> None:
        """As often as it is started again, until that is given up."""
        while True:
            self.kill(name)
            if "goes on without it" in self.wait_for_line(f"{name} ended"):
                return
            self.wait_for_line(f"starting {name}")

    def stop(self) -> int:
        """As Ctrl-C does; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(STOP_S)

    def end(self) -> None:
        """However it is: nothing of it stays."""
        if self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGINT)  # the second one kills
                self._process.wait(STOP_S)


@contextmanager
def running(folder: Path, replicas: int = 2) -> Iterator[Stack]:
    stack = Stack(folder, replicas)
    try:
        stack.wait_for_line("ready. Ctrl-C stops it.")
        yield stack
    finally:
        stack.end()


@contextmanager
def load(stack: Stack, duration: str, ahead_s: float = 0.0) -> Iterator[None]:
    """The same load on each replica; at the end of the block it is broken off if it still runs.

    The block begins so much later, for plots that are full of it.
    """
    with ExitStack() as ending:
        for number, url in enumerate(stack.replica_urls):
            run = _k6(stack, url, duration, seed=number)
            ending.callback(_end, run)
        with suppress(subprocess.TimeoutExpired):
            run.wait(ahead_s)
        yield


def load_to_its_end(stack: Stack, duration: str) -> None:
    runs = [_k6(stack, url, duration, seed=number) for number, url in enumerate(stack.replica_urls)]
    for run in runs:
        run.wait()


def _k6(stack: Stack, url: str, duration: str, seed: int) -> subprocess.Popen[bytes]:
    """Urgent requests of a row, and bulk requests of eight."""
    settings = {
        "URL": url,
        "MODEL": MODEL,
        "TASK": "simulated",
        "LENGTHS": "lognormal:64:0.8",
        "TIERS": "interactive:0.75,bulk:0.25",
        "ROWS": "interactive:1,bulk:8",
        "RATE": "40",
        "DURATION": duration,
        "SEED": str(seed + 1),
        "VUS": "60",
        # Whether this machine is fast enough for them is not the question here.
        "SLO_MS": "none",
        "GOODPUT": "none",
        "ERROR_RATE": "none",
    }
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "loadtest.k6", "steady"),
            *(f"{name}={value}" for name, value in settings.items()),
        ],
        cwd=stack.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _end(run: subprocess.Popen[bytes]) -> None:
    if run.poll() is None:
        run.send_signal(signal.SIGINT)
    run.wait(STOP_S)


def environment() -> dict[str, str]:
    """This one's, with the code of this checkout and no settings of who runs the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _ports_of(replicas: int) -> int:
    """The first of the ports that so many replicas listen on."""
    for _ in range(MOST_TRIES):
        (first,) = free_ports(1)
        wanted = [first + number * PORTS_APART for number in range(replicas)]
        if _are_free([*wanted, *(port + 1 for port in wanted)]):
            return first
    raise AssertionError("no ports are free here")


def _are_free(ports: Sequence[int]) -> bool:
    try:
        for port in ports:
            socket.create_server((LOCALHOST, port)).close()
    except (OSError, OverflowError):
        return False
    return True
