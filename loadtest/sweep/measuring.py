"""Goes through a grid of settings and rates, editing the server live. Can stop and go on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.driving import Driver, Load
from loadtest.sweep.cells import Cell, CellKey, CellsFile, Grid, Setting, cell_of
from loadtest.target import GENERATION, LiveParameters, Target

PLAN_FILE = "sweep.json"


class SweepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that must stay the same when a sweep goes on. It lies beside the cells."""

    grid: Grid
    load: Load
    price_per_hour: float
    serve: str | None = None  # flags of the server that the sweep starts; None: one is there
    title: str
    command: str  # that measures the same again

    def write(self, folder: Path) -> None:
        text = msgspec.json.format(msgspec.json.encode(self))
        (folder / PLAN_FILE).write_bytes(text)


def read_plan(folder: Path) -> SweepPlan:
    """Raises BenchError where no sweep lies in the folder."""
    try:
        return msgspec.json.decode((folder / PLAN_FILE).read_bytes(), type=SweepPlan)
    except (OSError, msgspec.MsgspecError) as error:
        raise BenchError(f"--resume {folder}: {PLAN_FILE} cannot be read: {error}") from None


class Sweep:
    """Cells that are in the folder already are not measured again."""

    def __init__(
        self,
        plan: SweepPlan,
        folder: Path,
        target: Target,
        driver: Driver,
        live: LiveParameters,
    ) -> None:
        self._plan = plan
        self._target = target
        self._driver = driver
        self._live = live
        self._file = CellsFile(folder)
        self.cells = self._file.read()
        self._file.write(self.cells)  # a header, and no cut-off line
        self._in_force: Setting | None = None

    @property
    def remaining(self) -> Sequence[CellKey]:
        done = {cell.place for cell in self.cells}
        return [place for place in self._plan.grid.places() if place not in done]

    def run(self, measured: Callable[[Cell], None]) -> None:
        """Measure what remains. `measured` is told of each cell, after it is on disk.

        A run that does not count comes first: a server that has just begun has to learn how
        long its batches take, and the first cell would pay for it.
        """
        if self.remaining:
            self._driver.steady(min(self._plan.grid.rates_per_s))
        for place in self.remaining:
            self._put_in_force(place.setting)
            cell = self._measure(place)
            self._file.append(cell)
            self.cells.append(cell)
            measured(cell)

    def _put_in_force(self, setting: Setting) -> None:
        if setting != self._in_force:
            model = self._target.model
            self._live.edit(model, setting.batching(self._live.original.for_model(model)))
            self._in_force = setting

    def _measure(self, place: CellKey) -> Cell:
        before = self._target.scrape()
        result = self._driver.steady(place.rate_per_s)
        after = self._target.scrape()
        return cell_of(
            place,
            result,
            after.since(before),
            model=self._target.model,
            devices=len(after.values(GENERATION)),
            price_per_hour=self._plan.price_per_hour,
        )
