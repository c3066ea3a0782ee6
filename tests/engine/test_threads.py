"""Work beside the loop: what it returns and raises comes back, and it keeps nobody waiting."""

import asyncio
import threading

import pytest

from predictor.core.errors import StartupError
from predictor.engine.threads import in_daemon_thread


async def test_results_and_errors_come_back() -> None:
    assert await in_daemon_thread(lambda: threading.current_thread().daemon)

    def fail() -> None:
        raise StartupError("no such folder")

    with pytest.raises(StartupError, match="no such folder"):
        await in_daemon_thread(fail)


def test_a_loop_that_ends_does_not_wait_for_the_work() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        assert go_on.wait(30)
        ended.set()

    async def give_up() -> None:
        task = asyncio.ensure_future(in_daemon_thread(work))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(30)
