"""Long work beside the event loop, in threads that do not keep the process from ending."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises.

    asyncio.to_thread waits at exit for what it started: a server told to stop while it loads
    a model would outlive its grace period.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # whoever gives up waiting does not take it away

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # whoever awaits is told, SystemExit too
            outcome.set_exception(error)

    threading.Thread(target=run, name="loader", daemon=True).start()
    return await asyncio.wrap_future(outcome)
