"""BENCHMARKS.md: one marked section a benchmark, each with its own machine, date and command.

A run replaces the sections it measured and leaves every other line of the file alone, so
figures of different days and machines can stand in one file without being mixed up.
"""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from loadtest.bench.errors import BenchError

PREAMBLE = "# Benchmarks\n\nMeasured, not promised. Ratios compare figures of the same run.\n"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What one benchmark found, ready to print. Every row has a cell per column."""

    title: str
    intro: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Machine(msgspec.Struct, frozen=True):
    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    gpu: str = ""

    def __str__(self) -> str:
        parts = (
            self.gpu,
            self.cpu,
            f"{self.cores} cores",
            f"{self.memory_gib:.0f} GiB",
            self.system,
            f"Python {self.python}",
        )
        return ", ".join(filter(None, parts))


def this_machine(gpu: str = "") -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 0,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=_system_name(),
        python=platform.python_version(),
        gpu=gpu,
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def verdict(held: bool | None) -> str:
    """A cell that says whether a bound held; None: no bound was set."""
    return "-" if held is None else "yes" if held else "**no**"


def section_text(table: Table, command: str, when: datetime, machine: Machine) -> str:
    """The section in Markdown, without its markers."""
    lines = [
        f"## {table.title}",
        "",
        f"`{command}`, {when.astimezone(UTC):%Y-%m-%d %H:%M} UTC, on {machine}.",
        "",
        table.intro,
        "",
        _markdown_row(table.columns),
        _markdown_row(["---"] * len(table.columns)),
        *map(_markdown_row, table.rows),
    ]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def replace_section(document: str, name: str, text: str) -> str:
    """The document with that section's text replaced, or added at the end.

    Raises:
        BenchError: the document opens the section but does not close it after that.
    """
    opening, closing = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{opening}\n{text.strip()}\n{closing}"
    before, found, rest = document.partition(opening)
    if not found:
        head = document.rstrip() or PREAMBLE.rstrip()
        return f"{head}\n\n{section}\n"
    _, found, after = rest.partition(closing)
    if not found:
        raise BenchError(f"BENCHMARKS.md has {opening!r} but no {closing!r} after it; add it")
    return f"{before}{section}{after}"


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the section in the file, atomically. The file is made where there is none."""
    document = path.read_text() if path.exists() else ""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(replace_section(document, name, text))
    fresh.replace(path)
