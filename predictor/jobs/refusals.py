"""Why Redis does not do what it is asked, in words for clients, who must not learn where it is."""

import re
from enum import Enum

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)


class Refusal(Enum):
    """What a client is told. All but AWAY answer what only reads."""

    FULL = (
        "the store of jobs is full: lines begin again when other jobs have ended and were"
        " forgotten, or when it is given more memory"
    )
    NO_DISK = (
        "the store of jobs cannot write to its disk: lines begin again when it can; its log says"
        " what is wrong"
    )
    READ_ONLY = "the store of jobs only reads: lines begin again when it is a primary again"
    NOT_LET_IN = "the store of jobs does not let this server in: its password or rights are wrong"
    LOADING = "the store of jobs is starting and reads what it kept; try again shortly"
    AWAY = "the store of jobs does not answer; try again shortly"


# By the client's class of error where it knows the code. What a script was refused has the code
# within its text instead.
_BY_CLASS: tuple[tuple[type[RedisError], Refusal], ...] = (
    (OutOfMemoryError, Refusal.FULL),
    (ReadOnlyError, Refusal.READ_ONLY),
    (BusyLoadingError, Refusal.LOADING),
    (NoPermissionError, Refusal.NOT_LET_IN),
    (AuthenticationError, Refusal.NOT_LET_IN),
)
_BY_CODE = {
    "OOM": Refusal.FULL,
    "MISCONF": Refusal.NO_DISK,
    "READONLY": Refusal.READ_ONLY,
    "NOREPLICAS": Refusal.READ_ONLY,
    "NOPERM": Refusal.NOT_LET_IN,
    "NOAUTH": Refusal.NOT_LET_IN,
    "WRONGPASS": Refusal.NOT_LET_IN,
    "already authenticated": Refusal.NOT_LET_IN,  # what is left of NOAUTH to a client's greeting
    "executing the script can't run": Refusal.NOT_LET_IN,  # NOPERM before Redis 7
    "LOADING": Refusal.LOADING,
}
_CODE = re.compile(rf"\b({'|'.join(_BY_CODE)})\b")


def refusal_of(error: Exception) -> Refusal:
    for kind, refusal in _BY_CLASS:
        if isinstance(error, kind):
            return refusal
    return refusal_in(str(error)) or Refusal.AWAY


def refusal_in(text: str) -> Refusal | None:
    """By the code in what Redis said."""
    found = _CODE.search(text)
    return None if found is None else _BY_CODE[found[1]]
