"""Small services in place of the real ones, and the person at the terminal."""

import os
import signal
import socket
import sys

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


def service(name: str, code: str, *, needed: bool = True) -> Service:
    port = free_port()
    command = (sys.executable, "-c", code, str(port))
    return Service(name, command, f"http://127.0.0.1:{port}/", needed=needed)


class Terminal:
    """Stands for the person: presses Ctrl-C when the welcome appears."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, presses: int = 1) -> None:
        self.lines: list[str] = []
        self._presses = presses
        monkeypatch.setattr("predictor.local.together.say", self._say)

    def _say(self, line: str) -> None:
        self.lines.append(line)
        if line == "welcome":
            os.kill(os.getpid(), signal.SIGINT)
        if line == "stopping" and self._presses > 1:
            os.kill(os.getpid(), signal.SIGINT)
