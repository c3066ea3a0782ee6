"""What may go wrong behind a port: each message is one sentence that a page shows as it is."""


class DashboardError(Exception):
    """Base of all that a source or a store may raise; `str()` of it is for the reader."""


class SourceDown(DashboardError):
    """Prometheus, the store or the results folder does not answer."""


class Missing(SourceDown):
    """Nothing lies where the parameters should."""


class NoData(DashboardError):
    """It answers, and has nothing for what was asked: no traffic yet, or a missing metric."""


class Conflict(DashboardError):
    """Someone else changed the parameters since they were read; nothing was written."""


class Refused(DashboardError):
    """The parameters are wrong; `field` is the path of what is wrong, empty for the whole."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotAllowed(DashboardError):
    """Editing is off here, or not for this person."""
