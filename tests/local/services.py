"""Small services in place of the real ones, and the person at the terminal."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from predictor.local.together import Service

READY = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
NEVER_READY = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def service(name: str, code: str, *arguments: str, needed: bool = True) -> Service:
    port = free_port()
    command = (sys.executable, "-c", code, str(port), *arguments)
    return Service(name, command, f"http://127.0.0.1:{port}/", needed=needed)


# Writes its process id to a file, for who is to kill it.
MORTAL = "import os, sys, pathlib; pathlib.Path(sys.argv[2]).write_text(str(os.getpid()));" + READY


class Terminal:
    """Stands for the person: presses Ctrl-C when the welcome appears."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, presses: int = 1) -> None:
        self.lines: list[str] = []
        self._presses = presses
        monkeypatch.setattr("predictor.local.together.say", self._say)

    def _say(self, line: str) -> None:
        self.lines.append(line)
        if self.is_enough(line):
            os.kill(os.getpid(), signal.SIGINT)
        if line == "stopping" and self._presses > 1:
            os.kill(os.getpid(), signal.SIGINT)

    def is_enough(self, line: str) -> bool:
        return line == "welcome"


class Killer(Terminal):
    """Kills one service whenever it is ready, some times, and then presses Ctrl-C."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pid_file: Path, last: str) -> None:
        """`last`: a part of the line after which it is enough."""
        super().__init__(monkeypatch)
        self._pid_file = pid_file
        self._last = last

    def is_enough(self, line: str) -> bool:
        if self._last in line:
            return True
        if line == "welcome" or line.endswith("is ready again"):
            os.kill(int(self._pid_file.read_text()), signal.SIGKILL)
        return False
