"""How a process of ours ends: its exit code, and one line that says why."""

import logging
import sys

from predictor.core.errors import StartupError

EXIT_FAILED = 1
EXIT_STARTUP = 2  # a flag, a file, a port or a model is wrong: starting again is no use

_LOG = logging.getLogger("headway")


def report_failure(error: BaseException) -> int:
    """Say in one line on stderr why the process cannot go on, and return its exit code."""
    while isinstance(error, BaseExceptionGroup):  # the first of a task group is the cause
        error = error.exceptions[0]
    if isinstance(error, StartupError):
        code, message = EXIT_STARTUP, error.message
    else:
        code, message = EXIT_FAILED, f"{type(error).__name__}: {error}"
        _LOG.debug("the process failed", exc_info=error)
    sys.stderr.write(f"headway: {message}\n")
    sys.stderr.flush()
    return code
