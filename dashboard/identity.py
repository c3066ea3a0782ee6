"""Who makes an edit: an OIDC login, a header that a trusted proxy sets, or the OS user."""

from collections.abc import Callable

from dashboard.parts import Reader

MAX_NAME_LENGTH = 200


def identity(*, trusted_header: str | None, os_user: str | None) -> Callable[[Reader], str | None]:
    """A reader's name; None where nobody vouches for one.

    Args:
        trusted_header: only named where a proxy sets it for every request and drops it from
            clients: whoever reaches the port past the proxy could write any name there.
        os_user: the person at this machine; None where others can reach the port.
    """

    def who(reader: Reader) -> str | None:
        if reader.login:
            return _clean(reader.login)
        if reader.must_log_in:
            return None
        if trusted_header is not None:
            headers = {name.lower(): value for name, value in reader.headers.items()}
            return _clean(headers.get(trusted_header.lower(), ""))
        return os_user

    return who


def _clean(name: str) -> str | None:
    """Printable, on one line, of bounded length; None where nothing is left."""
    kept = "".join(letter for letter in name.strip() if letter.isprintable())
    return kept[:MAX_NAME_LENGTH] or None
