"""What a child is told, and how it learns that it is alone."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from predictor.core.model import ModelSettings, Task
from predictor.settings import Settings
from predictor.supervisor.child import (
    EDGE_RESTARTED,
    ORDER_VARIABLE,
    ChildOrder,
    EdgeOrder,
    EngineOrder,
    hold_lifeline,
    take_order,
    write_order,
)

LABELS = tuple(f"label {number}" for number in range(1000))
SETTINGS = Settings(
    models=(ModelSettings(name="a", labels=LABELS), ModelSettings(name="b", task=Task.SIMULATED)),
    workers=2,
    engines=2,
)


@pytest.mark.parametrize(
    "order",
    [
        EngineOrder(
            index=1, settings=SETTINGS, folder="/run", lifeline_fd=5, listener_fd=6, died_s=1.5
        ),
        EdgeOrder(
            index=0,
            settings=SETTINGS,
            folder="/run",
            lifeline_fd=7,
            engine_paths=("/run/a", "/run/b"),
            replica="host:x",
        ),
    ],
)
def test_an_order_arrives_as_it_was_and_is_for_one_process(
    tmp_path: Path, order: ChildOrder
) -> None:
    path = tmp_path / "order.json"
    write_order(order, path)
    environment = {ORDER_VARIABLE: str(path)}
    assert take_order(environment) == order
    assert take_order(environment) is None


async def test_the_lifeline_tells_of_edges_and_of_the_end(tmp_path: Path) -> None:
    read, write = os.pipe()
    folder = tmp_path / "run"
    folder.mkdir()
    order = EdgeOrder(
        index=0,
        settings=SETTINGS,
        folder=str(folder),
        lifeline_fd=read,
        engine_paths=(),
        replica="host:x",
    )
    told: asyncio.Queue[int] = asyncio.Queue()
    alone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, alone.set)
    holding = asyncio.create_task(hold_lifeline(order, told.put_nowait))
    try:
        os.write(write, EDGE_RESTARTED)
        assert await told.get() == 1
        assert not alone.is_set()
        os.close(write)
        await alone.wait()
        assert not folder.exists()
    finally:
        holding.cancel()
        loop.remove_signal_handler(signal.SIGTERM)
