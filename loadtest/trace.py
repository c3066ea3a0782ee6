"""Arrival traces: CSV with a header, or NDJSON; a line for each request.

time_s   seconds from any zero; ascending is not needed
tokens   optional: length of the row; the mix of lengths decides where it is not given
tier     optional: the default tier where it is not given
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from loadtest.bench.errors import BenchError

MAX_TRACE_BYTES = 256 << 20
MAX_REQUESTS = 1_000_000
NDJSON_SUFFIXES = (".ndjson", ".jsonl", ".json")


class TracedRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    time_s: Annotated[float, Meta(ge=0, le=1e12)]
    tokens: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    tier: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


def read_trace(path: Path) -> list[TracedRequest]:
    """The requests of a trace in the order of their times, which begin at 0.

    Raises:
        BenchError: it cannot be read, is empty or too large, or a line is wrong; names the line.
    """
    try:
        if path.stat().st_size > MAX_TRACE_BYTES:
            raise BenchError(f"{path} is over {MAX_TRACE_BYTES >> 20} MiB; cut it")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BenchError(f"{path} is not text in UTF-8") from None
    ndjson = path.suffix in NDJSON_SUFFIXES or text.lstrip().startswith("{")
    requests = []
    for number, plain in _ndjson(path, text) if ndjson else _csv(path, text):
        try:
            requests.append(msgspec.convert(plain, TracedRequest, strict=ndjson))
        except msgspec.ValidationError as error:
            raise BenchError(f"{path}, line {number}: {error}") from None
        if len(requests) > MAX_REQUESTS:
            raise BenchError(f"{path} has over {MAX_REQUESTS} requests; cut it")
    if not requests:
        raise BenchError(f"{path} has no request")
    requests.sort(key=lambda request: request.time_s)
    start_s = requests[0].time_s
    return [
        msgspec.structs.replace(request, time_s=request.time_s - start_s) for request in requests
    ]


def _ndjson(path: Path, text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise BenchError(f"{path}, line {number}: not JSON: {error}") from None


def _csv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    """An empty cell is a value that is not given."""
    reader = csv.DictReader(text.splitlines())
    names = [name.strip() for name in reader.fieldnames or ()]
    known = TracedRequest.__struct_fields__
    if "time_s" not in names or not set(names) <= set(known):
        raise BenchError(
            f"{path}, line 1: the header must be time_s, and tokens and tier where known; "
            f"it is {','.join(names) or 'empty'}"
        )
    reader.fieldnames = names
    for row in reader:
        if None in row:
            raise BenchError(f"{path}, line {reader.line_num}: more values than the header has")
        yield reader.line_num, {name: value.strip() for name, value in row.items() if value}
