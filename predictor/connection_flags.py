"""Flags about connections: how many, how long, and which pings gRPC takes."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_MOST_MS = 1 << 31  # above it the library wraps around
_DESCRIPTORS = 1 << 20


class GrpcKeepalive(msgspec.Struct, frozen=True, kw_only=True):
    """Named as Triton's flags are; times in ms.

    Triton ends a connection whose client pings more often than every 5 minutes beside a long
    call. Clients and load balancers do so every few seconds, and a ping costs nothing.
    """

    grpc_keepalive_time: int = 7_200_000  # the server's own pings
    grpc_keepalive_timeout: int = 20_000
    grpc_keepalive_permit_without_calls: bool = True
    grpc_http2_max_pings_without_data: int = 2
    grpc_http2_min_recv_ping_interval_without_data: int = 250
    grpc_http2_max_ping_strikes: int = 2  # pings that came too early, after which it ends
    grpc_max_connection_age: int | None = None  # after that, calls in flight may end
    grpc_max_connection_age_grace: int | None = None


# Smallest and largest value of each number.
CONNECTION_LIMITS: Mapping[str, tuple[float, float]] = {
    "header_timeout_s": (0.1, 3600),
    "max_connections": (1, _DESCRIPTORS),
    "max_connections_per_client": (1, _DESCRIPTORS),
    "grpc_keepalive_time": (1, _MOST_MS - 1),
    "grpc_keepalive_timeout": (1, _MOST_MS - 1),
    "grpc_http2_max_pings_without_data": (0, _MOST_MS - 1),
    "grpc_http2_min_recv_ping_interval_without_data": (0, _MOST_MS - 1),
    "grpc_http2_max_ping_strikes": (0, _MOST_MS - 1),
    "grpc_max_connection_age": (1, _MOST_MS - 1),
    "grpc_max_connection_age_grace": (1, _MOST_MS - 1),
}


def add_connection_flags(parser: argparse.ArgumentParser, boolean: Callable[[str], bool]) -> None:
    """Adds them to `parser`. Those of Triton may be written with its dashes, too."""
    group = parser.add_argument_group("connections")
    group.add_argument(
        "--header_timeout_s",
        type=float,
        help="give up a request whose headers take longer; default 10",
    )
    group.add_argument(
        "--max_connections",
        type=int,
        help="HTTP connections of an edge; beyond them probes alone are answered; default: as many"
        " as file descriptors allow, at most 4096",
    )
    group.add_argument(
        "--max_connections_per_client",
        type=int,
        help="of one address; default: half of --max_connections",
    )
    for name, text in _GRPC.items():
        is_boolean = name == "grpc_keepalive_permit_without_calls"
        group.add_argument(
            f"--{name}",
            f"--{name.replace('_', '-')}",
            type=boolean if is_boolean else int,
            help=text,
        )


_GRPC = {
    "grpc_keepalive_time": "ms between the server's pings on an idle connection; default 2 h",
    "grpc_keepalive_timeout": "ms to wait for the answer to a ping; default 20000",
    "grpc_keepalive_permit_without_calls": "ping also where no call is in flight; default true",
    "grpc_http2_max_pings_without_data": "the server's pings without data between; default 2",
    "grpc_http2_min_recv_ping_interval_without_data": "clients may ping every so many ms;"
    " default 250",
    "grpc_http2_max_ping_strikes": "pings that came too early before a connection ends; default 2",
    "grpc_max_connection_age": "ms after which a client is asked to connect again; default: never",
    "grpc_max_connection_age_grace": "ms for its calls in flight then; default: as they need",
}


def grpc_keepalive(given: Mapping[str, Any]) -> GrpcKeepalive:
    """From the values of flags, as far as they are given."""
    return GrpcKeepalive(
        **{name: given[name] for name in GrpcKeepalive.__struct_fields__ if name in given}
    )
