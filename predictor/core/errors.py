"""The error tree. Every way a request, a document or a start can be refused is here.

The edge maps each class to a status in one table (predictor/edge/statuses.py);
nothing else in the project knows a status code. Messages are shown to clients,
so each one names the field at fault and says what to do.
"""

from typing import ClassVar

from predictor.core.rows import Outcome

# What is quoted from others is cut where it is quoted (core/shown.py); this holds whatever was not.
MAX_MESSAGE_CHARACTERS = 4096


class HeadwayError(Exception):
    """Base of all errors that Headway raises on purpose."""

    outcome: ClassVar[Outcome] = Outcome.FAILED  # what a request that it ends is counted as

    @property
    def message(self) -> str:
        text = str(self.args[0]) if self.args else type(self).__name__
        return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + "…"


class InvalidRequest(HeadwayError):
    """The request itself is wrong: shape, datatype, JSON, unknown tier."""

    outcome = Outcome.INVALID


class RequestTooLarge(InvalidRequest):
    """The body is over the size limit."""


class BodyTimeout(InvalidRequest):
    """The body stopped coming, or came too slowly."""


class UnknownModel(HeadwayError):
    """No model of that name, or no such version of it, is served here."""

    outcome = Outcome.INVALID


class UnknownJob(HeadwayError):
    """No job of that id is kept."""

    outcome = Outcome.INVALID


class JobsNotKept(HeadwayError):
    """This server was started without a place to keep jobs."""

    outcome = Outcome.UNAVAILABLE


class Overloaded(HeadwayError):
    """Refused now; worth another try after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Overloaded):
    """The tier's queue holds `max_queue_size` rows already."""

    outcome = Outcome.QUEUE_FULL


class Shed(Overloaded):
    """The row would miss its deadline, so it was refused before it cost anything."""

    outcome = Outcome.SHED


class DeadlineExceeded(HeadwayError):
    """The deadline passed while the row waited. The row never ran."""

    outcome = Outcome.EXPIRED


class Unavailable(Overloaded):
    """Draining, loading or restarting; another replica, or this one later, will answer."""

    outcome = Outcome.UNAVAILABLE


class StoreFull(Unavailable):
    """The store of jobs has no room now; it has some when others have ended and were forgotten."""


class RowFailed(HeadwayError):
    """The model raised for this row when it ran on its own."""


class ParametersRefused(HeadwayError):
    """A parameter document was refused whole; `field` is the path of what is wrong in it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


class StartupError(HeadwayError):
    """The process cannot start as it was told to: a flag, a file, a port or a model is wrong."""
