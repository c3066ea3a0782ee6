"""One record, one line: what clients send cannot forge lines of the log.

Clients choose model names, paths and the text of protocol errors, and each may hold line ends and
terminal commands. They are escaped as a record is made, so in whatever handler of whichever
library it ends up. The lines of a trace are indented.
"""

import logging
import os
import re
import sys
import traceback
from types import TracebackType
from typing import Any

# C0 and C1 controls, and Unicode's line ends and overrides of direction.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INDENT = "    "


def escaped(text: str) -> str:
    r"""`text` as one line: `\n`, `\x1b` and their like as Python writes them."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class LogRecord(logging.LogRecord):
    """A record whose message is one line, whatever its arguments hold."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info:
            self.exc_text = _trace(self.exc_info)
        if self.stack_info:
            self.stack_info = _indented(self.stack_info)

    def getMessage(self) -> str:  # noqa: N802 - the library's name
        return escaped(super().getMessage())


def escape_log_lines() -> None:
    """For every logger of this process, and for what asks for none.

    To be called before gRPC starts: its core writes to stderr by itself, and at its level INFO
    what a client said on its way out, as it came.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.setLogRecordFactory(LogRecord)
    sys.excepthook = _excepthook


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(_trace((kind, error, trace)) + "\n")


def _trace(found: Any) -> str:
    return _indented("".join(traceback.format_exception(*found)).rstrip("\n"))


def _indented(text: str) -> str:
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))
