"""Series into blocks that a Prometheus can begin with.

Text is written for one block at a time, and a series at a time within it: neither memory nor disk
holds all of it, whatever its length.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TextIO

from loadtest.bench.errors import BenchError
from loadtest.bench.past import Line
from loadtest.bench.prometheus import program

BLOCK_S = 54 * 3600  # the longest that its own compaction makes of blocks of two hours, nearly
IMPORT_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lines that have a sample every `every_s` seconds in [from_s, to_s).

    Those of one name stand together. A value is kept for `holds_s`: to write a number takes longer
    than all else.
    """

    lines: Sequence[Line]
    from_s: int
    to_s: int
    every_s: int
    holds_s: int

    def times_s(self, from_s: int, to_s: int) -> Sequence[int]:
        first_s = max(self.from_s, from_s)
        first_s += -(first_s - self.from_s) % self.every_s
        return range(first_s, min(self.to_s, to_s), self.every_s)


def write_blocks(folder: Path, stretches: Sequence[Stretch]) -> int:
    """How many samples were written.

    Raises:
        BenchError: promtool is missing, or took none of it.
    """
    promtool = program("promtool")
    from_s = min(each.from_s for each in stretches)
    to_s = max(each.to_s for each in stretches)
    samples = 0
    for begins_s in range(from_s - from_s % BLOCK_S, to_s, BLOCK_S):
        with tempfile.TemporaryDirectory(prefix="headway-past-") as name:
            text = Path(name) / "block.om"
            with text.open("w", buffering=1 << 20) as file:
                for stretch in stretches:
                    samples += _write(file, stretch, begins_s, begins_s + BLOCK_S)
                file.write("# EOF\n")
            _import(promtool, text, folder)
    return samples


def _write(file: TextIO, stretch: Stretch, from_s: int, to_s: int) -> int:
    times_s = stretch.times_s(from_s, to_s)
    held = [
        (since * stretch.holds_s, [f" {time_s}\n" for time_s in group])
        for since, group in groupby(times_s, key=lambda time_s: time_s // stretch.holds_s)
    ]
    written = 0
    for name, family in groupby(stretch.lines if held else (), key=lambda line: line.name):
        file.write(f"# TYPE {name} gauge\n")
        for line in family:
            start, at = str(line), line.at
            for since_s, ends in held:
                sample = f"{start} {at(since_s):.6g}"
                file.writelines([sample + end for end in ends])
            written += len(times_s)
    return written


def _import(promtool: str, text: Path, folder: Path) -> None:
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    command += [f"--max-block-duration={BLOCK_S // 3600}h", str(text), str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=IMPORT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"promtool took more than {IMPORT_LIMIT_S:.0f} s for a block") from None
    if done.returncode:
        raise BenchError(f"promtool took none of the past: {done.stderr.strip()[-400:]}")
