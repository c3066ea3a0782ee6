"""What a child process is told, and how it learns that its supervisor is gone.

The order lies in a file of the run directory, whose path is in the environment: a models file
may be longer than a variable can be. The lifeline is a pipe whose other end only the
supervisor holds: its end means that the supervisor died. Each byte in it tells of an edge
that was started again. The pulse is a pipe the other way: a byte each second says that the
child's event loop runs, and whether it still loads.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, MutableMapping
from pathlib import Path

import msgspec

from predictor.engine.pulse import BEAT_S
from predictor.settings import Settings

ORDER_VARIABLE = "HEADWAY_CHILD_ORDER"
EDGE_RESTARTED = b"\n"
LOADING, SERVING = b"l", b"s"
NO_PULSE = -1


class EngineOrder(msgspec.Struct, frozen=True, kw_only=True, tag="engine"):
    """Be engine number `index`, and take edges from the inherited `listener_fd`.

    `folder` is the run directory.
    """

    index: int
    settings: Settings
    folder: str
    lifeline_fd: int
    listener_fd: int
    pulse_fd: int = NO_PULSE
    restarts: int = 0  # of this engine so far
    edge_restarts: int = 0  # told to the first engine only, so that a sum counts each once
    died_s: float | None = None  # when the one before died, on CLOCK_MONOTONIC

    @property
    def name(self) -> str:
        return f"engine {self.index}"


class EdgeOrder(msgspec.Struct, frozen=True, kw_only=True, tag="edge"):
    """Be edge number `index`, and reach the engines by their sockets' paths.

    `folder` is the run directory. `replica` names all children of one supervisor to others.
    """

    index: int
    settings: Settings
    folder: str
    lifeline_fd: int
    engine_paths: tuple[str, ...]
    replica: str
    pulse_fd: int = NO_PULSE

    @property
    def name(self) -> str:
        return f"edge {self.index}"


ChildOrder = EngineOrder | EdgeOrder


def write_order(order: ChildOrder, path: Path) -> None:
    path.write_bytes(msgspec.json.encode(order))


def take_order(environment: MutableMapping[str, str]) -> ChildOrder | None:
    """The order of this process; None where it is nobody's child. The variable is taken out."""
    path = environment.pop(ORDER_VARIABLE, None)
    if path is None:
        return None
    order: ChildOrder = msgspec.json.decode(Path(path).read_bytes(), type=ChildOrder)
    return order


async def hold_lifeline(
    order: ChildOrder, edge_restarted: Callable[[int], None] = lambda _: None
) -> None:
    """Watch the lifeline for as long as the process lives; its end drains this process.

    `edge_restarted` is called with how many edges were started again.
    """
    loop = asyncio.get_running_loop()
    with os.fdopen(order.lifeline_fd, "rb", buffering=0) as pipe:
        await loop.connect_read_pipe(lambda: _Lifeline(order.folder, edge_restarted), pipe)
        await loop.create_future()


async def keep_pulse(order: ChildOrder, is_serving: Callable[[], bool]) -> None:
    """Tell the supervisor each second, for as long as the process lives, that it runs."""
    if order.pulse_fd == NO_PULSE:
        return
    os.set_blocking(order.pulse_fd, False)
    while True:
        with contextlib.suppress(OSError):  # the supervisor is gone, or stands still itself
            os.write(order.pulse_fd, SERVING if is_serving() else LOADING)
        await asyncio.sleep(BEAT_S)


class _Lifeline(asyncio.Protocol):
    def __init__(self, folder: str, edge_restarted: Callable[[int], None]) -> None:
        self._folder = folder
        self._edge_restarted = edge_restarted

    def data_received(self, data: bytes) -> None:
        self._edge_restarted(len(data))

    def eof_received(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)  # the heirs clear up
        os.kill(os.getpid(), signal.SIGTERM)
