"""What may stand in a message, a page or a log line: of others' text little, of secrets nothing.

Addresses carry secrets: a name and a password before the host, a token in the query. Wherever an
address is shown, or a text of a library that may quote one, it goes through `without_secrets`.
"""

import re

MOST_SHOWN = 128  # characters; a name that means anything here is no longer

HIDDEN = "***"
# Up to the last @: a password that was not encoded may hold any character of an address.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>]*@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>?#]*)[?#][^\s\"'<>]*")


def without_secrets(text: str) -> str:
    """The text with `***` for who logs in at any address in it, and for what follows its path."""
    return _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def shown(text: str) -> str:
    """Quoted, without control characters; cut before it is looked at."""
    return repr(text) if len(text) <= MOST_SHOWN else repr(text[:MOST_SHOWN] + "…")


def shown_in_path(key: object) -> str:
    """The same without quotes where none are needed, as a part of a path such as tiers.bulk."""
    text = str(key)[:MOST_SHOWN]
    return text if text.isprintable() else ascii(text)
