"""Sockets bound to the addresses that flags name."""

import socket

from predictor.core.errors import StartupError


def bound_socket(host: str, port: int, flag: str, *, shared: bool = False) -> socket.socket:
    """A TCP socket bound to an address, not listening yet.

    Raises StartupError if somebody else has the address. A `shared` one can be bound again,
    by `shared` sockets of this user; the kernel spreads connections over those that listen.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartupError(
            f"cannot listen on {host}:{port}: {reason}; stop what uses it or choose another {flag}"
        ) from None
    return listener
