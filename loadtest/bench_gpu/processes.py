"""A measurement in a process of its own: what it should do as JSON in, what it found out.

The device's memory and the interpreter's lock are then its alone, and a crash is one
benchmark's, not all of them.
"""

import subprocess
import sys
from typing import TypeVar

import msgspec

from loadtest.bench.errors import BenchError

_Found = TypeVar("_Found")


def run_module(module: str, told: msgspec.Struct, answer: type[_Found], limit_s: float) -> _Found:
    """The JSON on the last line that the module prints, as `answer`.

    Raises:
        BenchError: it failed, with the end of its stderr, or did not end within `limit_s`.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=msgspec.json.encode(told),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{module} did not end within {limit_s:.0f} s") from None
    if done.returncode != 0:
        raise BenchError(done.stderr.decode(errors="replace").strip()[-2000:])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=answer)
