"""For every test."""

import signal


def pytest_configure() -> None:
    """Shells start what runs in the background deaf to Ctrl-C, and so would be all that tests
    start, and stop by it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
