"""A real Redis for tests: on a Unix socket, in a folder that survives its death."""

import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as NoConnection

from predictor.local.redis import find_redis_server, redis_command


class RedisProcess:
    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "RedisProcess":
        program = find_redis_server()
        assert program, "no redis-server here; make env installs one"
        command = redis_command(
            program, self._folder, *("--port", "0", "--unixsocket", str(self.socket))
        )
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
        return self

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def stop(self) -> None:
        """As an orderly restart does: what it holds is kept."""
        assert self._process
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def client(self) -> "Redis":
        return Redis(unix_socket_path=str(self.socket))

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except (BusyLoadingError, NoConnection):
                return False
