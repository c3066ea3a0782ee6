"""The port `RunResults` on a folder: what load tests leave behind.

A run is a folder with run.json (what it was) and summary.json (what it measured); a sweep, one
with cells.csv. A capacity search or a sweep keeps its runs in folders within its own.
"""

import csv
import math
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from dashboard.files import read_whole
from dashboard.ports import (
    LoadPhase,
    LoadRun,
    LoadTier,
    NoData,
    ResultsFound,
    SourceDown,
    Sweep,
)
from predictor.core.shown import without_secrets

RUN_FILE, SUMMARY_FILE, CELLS_FILE = "run.json", "summary.json", "cells.csv"
MOST_FILE_BYTES = 16 << 20
MOST_CELLS = 5000
MOST_SWEEPS = 50
MOST_FOLDERS = 20_000
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class _Run(msgspec.Struct, frozen=True):
    script: str
    settings: Mapping[str, str]
    started: datetime
    generation: int | None = None
    revision: str | None = None
    machine: Mapping[str, Any] = {}


class _Threshold(msgspec.Struct, frozen=True):
    text: str
    seen: str
    ok: bool
    validity: bool = False


class _Summary(msgspec.Struct, frozen=True):
    seconds: float
    dropped: int
    tiers: Mapping[str, LoadTier]
    phases: tuple[LoadPhase, ...] = ()
    thresholds: tuple[_Threshold, ...] = ()


class ResultsFolder:
    """Reads `folder` anew at each call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, limit: int = 100) -> ResultsFound:
        try:
            folders = sorted(self._folders(), key=lambda folder: folder.name, reverse=True)
        except OSError as error:
            raise SourceDown(
                f"{self._folder} cannot be read ({error.strerror}); name the folder that load"
                " tests write to."
            ) from None
        runs: list[LoadRun] = []
        sweeps: list[Sweep] = []
        unreadable: list[str] = []
        for folder in folders:
            name = os.fsencode(folder.relative_to(self._folder)).decode(errors="replace")
            try:
                if len(runs) < limit and (folder / SUMMARY_FILE).exists():
                    runs.append(_run(name, folder))
                if len(sweeps) < min(limit, MOST_SWEEPS) and (folder / CELLS_FILE).exists():
                    sweeps.append(_sweep(name, folder / CELLS_FILE))
            except (SourceDown, msgspec.DecodeError, csv.Error, UnicodeDecodeError) as error:
                unreadable.append(f"{name} cannot be read: {error}")
        if not (runs or sweeps or unreadable):
            raise NoData(f"No load test has written into {self._folder} yet; run one with k6.")
        return ResultsFound(tuple(runs), tuple(sweeps), tuple(unreadable[:limit]))

    def _folders(self) -> Iterator[Path]:
        """Those within, and those within them."""
        seen = 0
        for folder in sorted(self._folder.iterdir(), reverse=True):
            if not folder.is_dir():
                continue
            yield folder
            for inner in folder.iterdir():
                seen += 1
                if seen > MOST_FOLDERS:
                    return
                if inner.is_dir():
                    yield inner


def _run(name: str, folder: Path) -> LoadRun:
    run = msgspec.json.decode(read_whole(folder / RUN_FILE, MOST_FILE_BYTES), type=_Run)
    text = read_whole(folder / SUMMARY_FILE, MOST_FILE_BYTES)
    summary = msgspec.json.decode(text, type=_Summary)
    machine = run.machine
    parts = [machine.get("gpu"), machine.get("cpu")]
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    sent_as_asked = all(each.ok for each in summary.thresholds if each.validity)
    return LoadRun(
        name=name,
        script=run.script,
        started_s=run.started.timestamp(),
        seconds=summary.seconds,
        settings={name: without_secrets(value) for name, value in run.settings.items()},
        generation=run.generation,
        revision=run.revision,
        machine=", ".join(str(part) for part in parts if part),
        dropped=summary.dropped,
        valid=summary.dropped == 0 and sent_as_asked,
        missed=tuple(
            f"{each.text}; seen {each.seen}." for each in summary.thresholds if not each.ok
        ),
        tiers=summary.tiers,
        phases=summary.phases,
    )


def _sweep(name: str, path: Path) -> Sweep:
    lines = read_whole(path, MOST_FILE_BYTES).decode().splitlines()
    columns, *rows = list(csv.reader(lines[: MOST_CELLS + 1])) or [[]]
    whole = [row for row in rows if len(row) == len(columns)]  # the last may be cut off
    return Sweep(name, tuple(columns), tuple(tuple(map(_value, row)) for row in whole))


def _value(text: str) -> str | float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
