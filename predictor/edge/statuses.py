"""The one table from an error to what a client sees, on HTTP and on gRPC."""

import math
from collections.abc import Mapping
from http import HTTPStatus

import grpc
import msgspec

from predictor.core import errors


class Status(msgspec.Struct, frozen=True):
    http: HTTPStatus
    grpc: grpc.StatusCode


INTERNAL = Status(HTTPStatus.INTERNAL_SERVER_ERROR, grpc.StatusCode.INTERNAL)
INTERNAL_MESSAGE = "internal error; the server's log says more"

# A class not named here has the status of its nearest base that is.
_TABLE: Mapping[type[errors.HeadwayError], Status] = {
    errors.InvalidRequest: Status(HTTPStatus.BAD_REQUEST, grpc.StatusCode.INVALID_ARGUMENT),
    errors.RequestTooLarge: Status(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED
    ),
    errors.BodyTimeout: Status(HTTPStatus.REQUEST_TIMEOUT, grpc.StatusCode.DEADLINE_EXCEEDED),
    errors.UnknownModel: Status(HTTPStatus.NOT_FOUND, grpc.StatusCode.NOT_FOUND),
    errors.UnknownJob: Status(HTTPStatus.NOT_FOUND, grpc.StatusCode.NOT_FOUND),
    errors.JobsNotKept: Status(HTTPStatus.SERVICE_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
    errors.Overloaded: Status(HTTPStatus.TOO_MANY_REQUESTS, grpc.StatusCode.RESOURCE_EXHAUSTED),
    errors.DeadlineExceeded: Status(HTTPStatus.GATEWAY_TIMEOUT, grpc.StatusCode.DEADLINE_EXCEEDED),
    errors.Unavailable: Status(HTTPStatus.SERVICE_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
    errors.HeadwayError: INTERNAL,
}


class _ErrorBody(msgspec.Struct):
    error: str


_ENCODER = msgspec.json.Encoder()


def status_of(error: errors.HeadwayError) -> Status:
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)


def retry_after(error: errors.HeadwayError) -> str | None:
    """Whole seconds for `Retry-After`, at least 1; None where another try is no use."""
    if isinstance(error, errors.Overloaded):
        return str(max(1, math.ceil(min(error.retry_after_s, 86_400.0))))
    return None


def error_body(message: str) -> bytes:
    return _ENCODER.encode(_ErrorBody(message))
