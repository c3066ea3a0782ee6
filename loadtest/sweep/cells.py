"""A sweep's cells: what was set and what was seen, one row each in cells.csv."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from loadtest.bench.errors import BenchError
from loadtest.bench.scrapes import Scrape
from loadtest.driving import whole
from loadtest.k6.result import K6Result
from predictor.core.parameters import ModelParameters, Policy
from predictor.metrics import names

CELLS_FILE = "cells.csv"
MOST_CELLS = 5000

Positive = Annotated[float, Meta(gt=0)]


class Setting(msgspec.Struct, frozen=True):
    """How the model is batched in a cell. The adaptive policy has no window."""

    policy: Policy
    max_wait_ms: float
    max_batch_size: int

    def batching(self, base: ModelParameters) -> ModelParameters:
        return msgspec.structs.replace(
            base,
            policy=self.policy,
            max_wait_ms=self.max_wait_ms,
            max_batch_size=self.max_batch_size,
        )

    def __str__(self) -> str:
        if self.policy is Policy.ADAPTIVE:
            return f"adaptive, at most {self.max_batch_size}"
        return f"N {self.max_wait_ms:g} ms, K {self.max_batch_size}"


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep goes through: every wait with every size, and adaptive, at every rate."""

    waits_ms: Annotated[tuple[Annotated[float, Meta(ge=0)], ...], Meta(min_length=1)]
    sizes: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1)]
    rates_per_s: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    rounds: Annotated[int, Meta(ge=1, le=10)] = 1

    @property
    def settings(self) -> Sequence[Setting]:
        """Adaptive first, with the largest size as its limit."""
        constant = (
            Setting(Policy.CONSTANT, wait_ms, size)
            for wait_ms in self.waits_ms
            for size in self.sizes
        )
        return [Setting(Policy.ADAPTIVE, 0.0, max(self.sizes)), *constant]

    def places(self) -> Iterator["CellKey"]:
        """Rates change fastest: the fewest edits. A round goes through all before the next."""
        return (
            CellKey(number, setting, rate_per_s)
            for number in range(1, self.rounds + 1)
            for setting in self.settings
            for rate_per_s in self.rates_per_s
        )


class CellKey(NamedTuple):
    """Where a cell belongs."""

    round: int
    setting: Setting
    rate_per_s: float


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What one setting did at one rate. Latencies are the client's, of what was answered."""

    policy: Policy
    max_wait_ms: float
    max_batch_size: int
    rate_per_s: float
    sent: int
    answered: int
    within_slo: int
    refused: int
    failed: int
    dropped: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    utilisation: float  # of the device, over the run
    throughput_per_s: float
    goodput_per_s: float
    padding_share: float  # of all tokens computed
    mean_batch_rows: float
    cost_per_1000: float  # the devices' price, idle or not, over what was answered
    round: int = 1
    valid: bool = True  # False: k6 could not send what it should

    @property
    def setting(self) -> Setting:
        return Setting(self.policy, self.max_wait_ms, self.max_batch_size)

    @property
    def place(self) -> CellKey:
        return CellKey(self.round, self.setting, self.rate_per_s)


def best_of_rounds(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Of each setting and rate the round with most answers in time, and of those the fastest.

    A shared machine stutters. This makes all settings look slightly better, and equally so.
    """
    best: dict[tuple[Setting, float], Cell] = {}
    for cell in cells:
        at = (cell.setting, cell.rate_per_s)
        if at not in best or _merit(cell) > _merit(best[at]):
            best[at] = cell
    return list(best.values())


def _merit(cell: Cell) -> tuple[bool, int, float]:
    return cell.valid, cell.within_slo, -cell.mean_ms


def cell_of(
    place: CellKey,
    result: K6Result,
    between: Scrape,
    *,
    model: str,
    devices: int,
    price_per_hour: float,
) -> Cell:
    """`between`: the server's metrics over the run; `devices`: how many it has."""
    seen = whole(result)
    seconds = result.seconds
    padding = between.total(names.PADDING_TOKENS.name, model=model)
    computed = padding + between.total(names.TOKENS.name, model=model)
    busy_s = between.total(names.DEVICE_BUSY.name, model=model)
    throughput_per_s = seen.ok / seconds
    price_per_s = price_per_hour * devices / 3600
    return Cell(
        policy=place.setting.policy,
        max_wait_ms=place.setting.max_wait_ms,
        max_batch_size=place.setting.max_batch_size,
        rate_per_s=place.rate_per_s,
        round=place.round,
        sent=seen.requests,
        answered=seen.ok,
        within_slo=seen.within_slo,
        refused=seen.refused,
        failed=seen.failed,
        dropped=result.dropped,
        valid=result.valid,
        mean_ms=seen.mean_ms,
        p50_ms=seen.p50_ms,
        p99_ms=seen.p99_ms,
        utilisation=min(1.0, busy_s / seconds / devices),
        throughput_per_s=throughput_per_s,
        goodput_per_s=seen.within_slo / seconds,
        padding_share=padding / computed if computed else 0.0,
        mean_batch_rows=between.mean(names.BATCH_ROWS.name, model=model),
        cost_per_1000=1000 * price_per_s / throughput_per_s if throughput_per_s else 0.0,
    )


class CellsFile:
    """Cells on disk; each is there as soon as it was measured."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CELLS_FILE

    def read(self) -> list[Cell]:
        """Raises BenchError, naming the line, where a cell cannot be read. A cut-off last line,
        which a run that was killed may leave, is left out."""
        if not self._path.exists():
            return []
        cells = []
        with self._path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        if len(lines) > MOST_CELLS:
            raise BenchError(f"{self._path} has over {MOST_CELLS} cells")
        for number, line in enumerate(lines, start=2):
            try:
                cells.append(msgspec.convert(line, Cell, strict=False))
            except msgspec.ValidationError as error:
                if number == len(lines) + 1:
                    break
                raise BenchError(f"{self._path}, line {number}: {error}") from None
        return cells

    def write(self, cells: Sequence[Cell]) -> None:
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, Cell.__struct_fields__)
            writer.writeheader()
            writer.writerows(map(_plain, cells))

    def append(self, cell: Cell) -> None:
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, Cell.__struct_fields__).writerow(_plain(cell))


def _plain(cell: Cell) -> dict[str, object]:
    values = msgspec.to_builtins(cell)
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in values.items()
    }
