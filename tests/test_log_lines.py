"""One record, one line."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from predictor.log_lines import LogRecord, escaped

FORGED = "x\n2026-01-01 ERROR forged\r\x1b[31m\u2028\x85\u202e"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(LogRecord)
    logger = logging.getLogger("of.a.library")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logging.setLogRecordFactory(before)
    logger.removeHandler(handler)


@pytest.mark.parametrize("args", [(FORGED,), ("%s", FORGED), ("%(a)s", {"a": FORGED})])
def test_what_clients_send_stays_in_its_line(written: io.StringIO, args: tuple[object]) -> None:
    logging.getLogger("of.a.library").warning(*args)
    (line,) = written.getvalue().splitlines()
    assert line == "WARNING " + escaped(FORGED)
    assert escaped(FORGED) == r"x\n2026-01-01 ERROR forged\r\x1b[31m\u2028\x85\u202e"


def test_lines_of_a_trace_are_indented(written: io.StringIO) -> None:
    try:
        int(FORGED)
    except ValueError:
        logging.getLogger("of.a.library").exception("it failed")
    first, *rest = written.getvalue().splitlines()
    assert first == "ERROR it failed"
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_plain_text_is_as_it_was() -> None:
    assert escaped("é 日本 a\\b 100%") == "é 日本 a\\b 100%"


def test_an_error_that_nobody_catches() -> None:
    script = (
        "from predictor.log_lines import escape_log_lines as e\ne()\nraise ValueError('a\\nFORGED')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "a" in ended.stderr
    assert not any(line.startswith("FORGED") for line in ended.stderr.splitlines())
