"""The password of Redis: from the environment, because command lines are for all to read."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

PASSWORD_VARIABLE = "HEADWAY_REDIS_PASSWORD"  # noqa: S105 - the variable's name


def with_password(url: str, environment: Mapping[str, str]) -> str:
    """The URL with the password of the environment, where there is one. For a client alone."""
    password = environment.get(PASSWORD_VARIABLE, "")
    if not password:
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
