"""Heavy work: a bounded number of threads, and none for a client that has gone."""

import asyncio
import threading
from pathlib import Path

import pytest

from predictor.core.errors import InvalidRequest
from predictor.edge.heavy import HeavyWork, UnwantedError, check_wanted
from tests.edge.test_texts import minilm, reader_of

PATIENCE_S = 30.0


class Gate:
    """Work that waits on its thread until it is let go on, and says how it ended."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let_on = threading.Event()
        self.ended: list[str] = []

    def work(self, name: str) -> str:
        self.begun.release()
        assert self.let_on.wait(PATIENCE_S)
        try:
            check_wanted()
        except UnwantedError:
            self.ended.append(f"{name} stopped")
            raise
        self.ended.append(name)
        return name

    async def wait_for_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE_S)


async def _cancelled(task: "asyncio.Task[str]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_work_stops_when_its_caller_is_gone_and_only_then_is_its_turn_free() -> None:
    async def main() -> None:
        gate, heavy = Gate(), HeavyWork(at_once=1)
        first = asyncio.create_task(heavy.run(gate.work, "first"))
        await gate.wait_for_begun()
        second = asyncio.create_task(heavy.run(gate.work, "second"))
        third = asyncio.create_task(heavy.run(gate.work, "third"))
        await asyncio.sleep(0)
        await _cancelled(first)
        await _cancelled(second)  # it had no thread yet
        assert not gate.begun.acquire(blocking=False), "the first is still on its thread"
        gate.let_on.set()
        assert await third == "third"
        assert gate.ended == ["first stopped", "third"]

    asyncio.run(main())


def test_what_work_raises_reaches_its_caller() -> None:
    def work() -> None:
        raise InvalidRequest("no")

    async def main() -> None:
        heavy = HeavyWork(at_once=1)
        for _ in range(3):
            with pytest.raises(InvalidRequest, match="no"):
                await heavy.run(work)

    asyncio.run(main())


def test_texts_are_not_tokenised_for_a_client_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    minilm().save(str(path))
    reader = reader_of(path)

    async def main() -> None:
        gate = Gate()

        def work() -> str:
            try:
                gate.work("wanted")
            except UnwantedError:
                with pytest.raises(UnwantedError):
                    reader.tokenise(["the bus"])
                gate.ended.append("no text was tokenised")
            return ""

        heavy = HeavyWork(at_once=1)
        running = asyncio.create_task(heavy.run(work))
        await gate.wait_for_begun()
        await _cancelled(running)
        gate.let_on.set()
        await heavy.run(gate.work, "next")
        assert gate.ended == ["wanted stopped", "no text was tokenised", "next"]

    asyncio.run(main())
