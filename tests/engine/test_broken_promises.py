"""Whatever a runner returns or raises, each of its rows ends, and the next batch is served."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from predictor.core.errors import RowFailed, StartupError
from predictor.core.rows import Outcome, Packing
from predictor.engine.isolation import MOST_CHARACTERS, said_by
from predictor.engine.port import Reply
from predictor.engine.warmup import warm_up
from tests.engine.fakes import Pipeline, Sums, row, running, submission, total

Results = Sequence[bytes]
Break = Callable[[Results], Any]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("not even that")


def raising(error: BaseException) -> Break:
    def broken(results: Results) -> Results:
        raise error

    return broken


class Endless(Sequence[bytes]):
    """It says that it has one result more than it was asked for, and never ends."""

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: Any) -> Any:
        return bytes(8)


def generated(results: Results) -> Iterator[bytes]:
    yield from results


BROKEN: dict[str, tuple[Break, str]] = {
    "none": (lambda _: None, "NoneType"),
    "too few": (lambda results: results[:-1], "results for"),
    "too many": (lambda results: [*results, results[0]], "results for"),
    "no list": (generated, "generator"),
    "one string": (b"".join, "int where bytes|results for"),
    "text": (lambda results: ["x"] * len(results), "str where bytes"),
    "holes": (lambda results: [None] * len(results), "NoneType where bytes"),
    "too short": (lambda results: [each[:-1] for each in results], "7 bytes"),
    "too long": (lambda results: [each * 2 for each in results], "16 bytes"),
    "empty": (lambda results: [b""] * len(results), "0 bytes"),
    "endless": (lambda _: Endless(), "results for"),
    "raises": (raising(ValueError("odd")), "odd"),
    "exits": (raising(SystemExit(3)), "SystemExit: 3"),
    "interrupted": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "cancelled": (raising(asyncio.CancelledError()), "CancelledError"),
    "closed": (raising(GeneratorExit()), "GeneratorExit"),
    "stops": (raising(StopIteration()), "StopIteration"),
    "says nothing": (raising(Unspeakable()), "Unspeakable"),
    "says too much": (raising(ValueError("x" * 10_000_000)), "x" * MOST_CHARACTERS),
}


class Breaks(Sums):
    """Keeps its promise until it is told how to break it."""

    broken: Break | None = None

    def run(self, rows: Sequence[bytes], packing: Packing) -> Results:
        results = super().run(rows, packing)
        return results if self.broken is None else self.broken(results)


class Fragments:
    """A launched batch whose results are what `broken` makes of them."""

    def __init__(self, results: Results, broken: Break) -> None:
        self._results, self._broken = results, broken

    def results(self) -> Any:
        return self._broken(self._results)


class BreaksInFlight(Pipeline):
    """Breaks its promise in `run`, and, launched, in what it gives in the end."""

    broken: Break | None = None

    def run(self, rows: Sequence[bytes], packing: Packing) -> Results:
        results = super().run(rows, packing)
        return results if self.broken is None else self.broken(results)

    def launch(self, rows: Sequence[bytes], packing: Packing) -> Any:
        launched = super().launch(rows, packing)
        if self.broken is None or launched is None:
            return launched
        return Fragments(launched.results(), self.broken)


class BreaksAtLaunch(BreaksInFlight):
    def launch(self, rows: Sequence[bytes], packing: Packing) -> Any:
        return super().launch(rows, packing) if self.broken is None else self.broken([])


@pytest.mark.parametrize("runner", [Breaks, BreaksInFlight, BreaksAtLaunch])
@pytest.mark.parametrize("kind", BROKEN)
async def test_its_rows_fail_and_the_next_are_served(kind: str, runner: type[Any]) -> None:
    broken, said = BROKEN[kind]
    made = runner()
    async with running(made) as (engine, memory), asyncio.timeout(30):
        made.broken = broken
        futures = [engine.submit(submission(row(n), row(n))) for n in range(3)]
        for settled in await asyncio.gather(*futures, return_exceptions=True):
            assert isinstance(settled, RowFailed), settled
            assert len(settled.message) < 2 * MOST_CHARACTERS
            with pytest.raises(RowFailed, match=said):
                raise settled
        assert memory.outcomes == [Outcome.FAILED] * 3
        assert len(made.ran) <= 2 * 6 + 6  # each row in at most as many runs as it can be halved
        made.broken = None
        assert total((await engine.submit(submission(row(7)))).results[0]) == 7


class LosesOne(Sums):
    """Forgets the result of one kind of row."""

    def run(self, rows: Sequence[bytes], packing: Packing) -> Results:
        return [each for each in super().run(rows, packing) if total(each) != 13]


async def test_only_the_rows_at_fault_fail() -> None:
    async with running(LosesOne()) as (engine, _):
        futures = [engine.submit(submission(row(n))) for n in (1, 2, 13, 4, 5)]
        async with asyncio.timeout(30):
            settled = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(settled.pop(2), RowFailed)
        assert [total(each.results[0]) for each in settled if isinstance(each, Reply)] == [
            *(1, 2, 4, 5)
        ]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Unspeakable()])
def test_a_model_that_exits_in_its_warm_up_is_a_failed_start(error: BaseException) -> None:
    made = Breaks()
    made.broken = raising(error)
    with pytest.raises(StartupError, match="fails on a batch of 1 x 16 tokens"):
        warm_up(made, Packing.PADDED)


def test_what_a_model_says_is_one_line() -> None:
    assert said_by(ValueError("a\nforged line\r\n\tand more")) == "a forged line and more"
    assert said_by(ValueError()) == "ValueError"
