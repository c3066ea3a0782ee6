"""Errors in OpenAI's shape, with the statuses that every protocol has here."""

import re
from http import HTTPStatus

import msgspec

from predictor.core import errors
from predictor.core.errors import HeadwayError
from predictor.edge.statuses import retry_after, status_of

_PARAM = re.compile(r"([A-Za-z_][\w.\[\]]*): ")
_TYPES: tuple[tuple[type[HeadwayError], str, str | None], ...] = (
    (errors.UnknownModel, "invalid_request_error", "model_not_found"),
    (errors.InvalidRequest, "invalid_request_error", None),
    (errors.RequestTooLarge, "invalid_request_error", None),
    (errors.Unavailable, "service_unavailable_error", None),  # which is an Overloaded, too
    (errors.Overloaded, "rate_limit_error", "rate_limit_exceeded"),
    (errors.DeadlineExceeded, "timeout_error", None),
)


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class _Body(msgspec.Struct):
    error: _Error


def openai_error(error: HeadwayError) -> tuple[HTTPStatus, bytes, tuple[tuple[bytes, bytes], ...]]:
    """Status, body and the headers that are this error's own."""
    seconds = retry_after(error)
    headers = () if seconds is None else ((b"retry-after", seconds.encode()),)
    return status_of(error).http, error_body(error), headers


def error_body(error: HeadwayError) -> bytes:
    kind, code = next(
        ((kind, code) for each, kind, code in _TYPES if isinstance(error, each)),
        ("server_error", None),
    )
    named = _PARAM.match(error.message) if isinstance(error, errors.InvalidRequest) else None
    param = named[1] if named else "model" if isinstance(error, errors.UnknownModel) else None
    return msgspec.json.encode(_Body(_Error(error.message, kind, param, code)))
