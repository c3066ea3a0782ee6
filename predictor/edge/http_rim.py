"""What all HTTP connections of an edge share, and the sentences that end one."""

from collections.abc import Callable
from http import HTTPStatus

import msgspec

from predictor.edge.connections import Connections
from predictor.edge.heads import Refusal

BUSY = HTTPStatus.SERVICE_UNAVAILABLE
_BUSY_RETRY_S = 1


class HttpTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """For the whole head, between two pieces of a body, and between two requests."""

    head_s: float = 10.0
    body_idle_s: float = 60.0
    keep_alive_s: float = 65.0


class HttpRim(msgspec.Struct, frozen=True):
    """The limits of a server, and whom to ask and tell about them."""

    connections: Connections
    timeouts: HttpTimeouts
    is_probe: Callable[[str, str], bool]  # method and path: answered beyond the limits, too
    on_refusal: Callable[[HTTPStatus], None]  # of what no app saw


def busy() -> Refusal:
    return Refusal(
        BUSY, "this server has all the connections it takes; try again shortly", _BUSY_RETRY_S
    )


def timed_out(what: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, f"{what}; send the request again")
