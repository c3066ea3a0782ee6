"""How many connections an edge holds, in all and of one client, and which it turns away.

Where a limit is reached, a few more are let in, each for one request: the load balancer and
Prometheus open new connections, and have to learn that this server is alive. Any other request
on such a connection is refused. When these few are taken as well, the oldest of them that has not
asked for anything makes room for the newest.
"""

import enum
import logging
import resource
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

_LOG = logging.getLogger("headway.edge")
_OTHER_FILES = 128  # descriptors that are no client's: files, engines, Redis, listeners
_MOST_BY_DEFAULT = 4096  # of HTTP; each may hold a head of 64 KiB
_HTTP_SHARE = 0.7  # of the descriptors; the rest is gRPC's
_RESERVED = 32
_LOG_EVERY_S = 10.0


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`most` of HTTP in all, `most_per_client` of one address, `reserved` beyond them for probes.

    `most_grpc` is for gRPC, in all.
    """

    most: int
    most_per_client: int
    most_grpc: int
    reserved: int = _RESERVED


def connection_limits(
    most: int | None = None, most_per_client: int | None = None
) -> ConnectionLimits:
    """What was asked for, else what the descriptors of this process allow.

    By default one client gets half, so that one alone never shuts the others out.
    """
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors == resource.RLIM_INFINITY:
        descriptors = 1 << 20
    free = max(descriptors - _OTHER_FILES - 2 * _RESERVED, 64)
    if most is None:
        most = min(int(free * _HTTP_SHARE), _MOST_BY_DEFAULT)
    return ConnectionLimits(
        most=most,
        most_per_client=most_per_client or max(most // 2, 1),
        most_grpc=max(int(free * (1 - _HTTP_SHARE)), 16),
    )


class Admission(enum.Enum):
    OPEN = enum.auto()
    RESERVED = enum.auto()  # beyond the limits: for one answer to a probe
    REFUSED = enum.auto()  # to be told so
    DROPPED = enum.auto()  # to be told so without waiting until it is read: there are too many


class Reserved(Protocol):
    """A connection from the reserve."""

    def give_way(self) -> bool:
        """Close, unless a request is being answered. Returns whether it closes."""
        ...


class Connections:
    """Counts the connections of one listener."""

    def __init__(self, limits: ConnectionLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._open = 0
        self._of_client: Counter[str] = Counter()
        self._reserved: dict[Reserved, None] = {}  # the oldest first
        self._refused = 0
        self._turned_away = 0  # since the last line in the log
        self._logged_s: float | None = None

    def opened(self, connection: Reserved, client: str | None) -> Admission:
        """Count a new connection, or not. `client` is an address; None where it is not known."""
        limits = self._limits
        if self._open < limits.most and (
            client is None or self._of_client[client] < limits.most_per_client
        ):
            self._open += 1
            if client is not None:
                self._of_client[client] += 1
            return Admission.OPEN
        self._tell(client)
        if len(self._reserved) >= limits.reserved:
            idle = next((held for held in self._reserved if held.give_way()), None)
            if idle is None:
                if self._refused >= limits.reserved:
                    return Admission.DROPPED
                self._refused += 1
                return Admission.REFUSED
            del self._reserved[idle]
        self._reserved[connection] = None
        return Admission.RESERVED

    def closed(self, connection: Reserved, client: str | None, admission: Admission) -> None:
        """Take back what `opened` counted."""
        if admission is Admission.RESERVED:
            self._reserved.pop(connection, None)
        elif admission is Admission.REFUSED:
            self._refused -= 1
        elif admission is Admission.OPEN:
            self._open -= 1
            if client is not None:
                self._of_client[client] -= 1
                if not self._of_client[client]:
                    del self._of_client[client]

    def _tell(self, client: str | None) -> None:
        self._turned_away += 1
        now_s = self._clock()
        if self._logged_s is not None and now_s - self._logged_s < _LOG_EVERY_S:
            return
        whole = self._open >= self._limits.most
        _LOG.warning(
            "%d HTTP connections are open%s; %d new ones were beyond the limit",
            self._open,
            "" if whole else f", {self._of_client[client or '']} of them from {client}",
            self._turned_away,
        )
        self._logged_s = now_s
        self._turned_away = 0
