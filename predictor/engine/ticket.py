"""A future without an event loop: whoever waits for it is called at once.

The callbacks of an asyncio.Future run one turn of the loop after it ends, and what they send
leaves another turn later. A busy engine's turns take milliseconds, so behind the gateway
requests are settled into tickets, and their answers leave with the batch that brought them.
"""

import asyncio
from collections.abc import Callable

from predictor.engine.port import Reply


class Ticket:
    """Ends once: with a reply, with an error, or because it is cancelled."""

    __slots__ = ("_callbacks", "_cancelled", "_error", "_reply")

    def __init__(self, *callbacks: "Callable[[Ticket], object]") -> None:
        """`callbacks` come before those that are added."""
        self._callbacks = callbacks
        self._cancelled = False
        self._error: Exception | None = None
        self._reply: Reply | None = None

    def add_done_callback(self, callback: "Callable[[Ticket], object]") -> None:
        """Must come before the end."""
        self._callbacks = (*self._callbacks, callback)

    def done(self) -> bool:
        return self._reply is not None or self._error is not None or self._cancelled

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        if not self.done():
            self._cancelled = True
            self._end()

    def set_result(self, reply: Reply) -> None:
        assert not self.done(), "a request settles once"
        self._reply = reply
        self._end()

    def set_exception(self, error: Exception) -> None:
        assert not self.done(), "a request settles once"
        self._error = error
        self._end()

    def result(self) -> Reply:
        """The reply of one that was answered."""
        assert self._reply is not None
        return self._reply

    def exception(self) -> BaseException | None:
        """None where it was answered. Not to be asked of one that was cancelled."""
        return self._error

    def _end(self) -> None:
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            callback(self)


Promise = asyncio.Future[Reply] | Ticket
