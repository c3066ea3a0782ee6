"""Who makes an edit: an OIDC login, a header that a trusted proxy sets, or the OS user."""

from collections.abc import Callable, Mapping

from dashboard.login import Login
from dashboard.parts import Reader

MAX_NAME_LENGTH = 200


def identity(
    *,
    trusted_header: str | None,
    os_user: str | None,
    login: Callable[[], Login],
    at_this_machine: Callable[[Mapping[str, str]], bool],
) -> Callable[[Reader], str | None]:
    """A reader's name; None where nobody vouches for one.

    Args:
        trusted_header: only named where a proxy sets it for every request and drops it from
            clients: whoever reaches the port past the proxy could write any name there.
        os_user: the person at this machine; None where others can reach the port.
        login: whether one is set up. One that is set up wrong vouches for nobody.
        at_this_machine: by the headers of a request, in lower case, whether its reader is.
    """

    def who(reader: Reader) -> str | None:
        known = login()
        if known.problem:
            return None
        if reader.login:
            return _clean(reader.login)
        if reader.must_log_in or known.is_set_up:
            return None
        headers = {name.lower(): value for name, value in reader.headers.items()}
        if trusted_header is not None:
            return _clean(headers.get(trusted_header.lower(), ""))
        return os_user if at_this_machine(headers) else None

    return who


def _clean(name: str) -> str | None:
    """Printable, on one line, of bounded length; None where nothing is left."""
    kept = "".join(letter for letter in name.strip() if letter.isprintable())
    return kept[:MAX_NAME_LENGTH] or None
