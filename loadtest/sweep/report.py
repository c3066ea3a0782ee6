"""What a sweep leaves beside its cells: a page, pictures, and a summary."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from dashboard.views.literal import escaped
from loadtest.bench.errors import BenchError
from loadtest.bench.report import Table, section_text, this_machine
from loadtest.sweep.cells import Cell, Grid, best_of_rounds
from loadtest.sweep.front import table_of
from loadtest.sweep.page import write_page
from loadtest.sweep.pictures import write_pictures

PAGE_FILE, SUMMARY_FILE = "sweep.html", "summary.md"


def write_report(
    folder: Path, cells: Sequence[Cell], grid: Grid, title: str, command: str
) -> Table:
    """Of the cells that are there. Returns the summary. Raises BenchError."""
    cells = best_of_rounds(cells)
    table = table_of(cells, title)
    try:
        write_page(folder / PAGE_FILE, cells, grid, title)
        write_pictures(folder, cells, grid, title)
        as_markdown = msgspec.structs.replace(table, title=escaped(title))
        summary = section_text(as_markdown, command, datetime.now(UTC), this_machine())
        (folder / SUMMARY_FILE).write_text(summary + "\n")
    except OSError as error:
        raise BenchError(f"the report cannot be written into {folder}: {error.strerror}") from None
    return table
