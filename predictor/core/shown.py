"""What others sent, as a message or a log line may hold it: short, printable, on one line."""

MOST_SHOWN = 128  # characters; a name that means anything here is no longer


def shown(text: str) -> str:
    """Quoted, without control characters; cut before it is looked at."""
    return repr(text) if len(text) <= MOST_SHOWN else repr(text[:MOST_SHOWN] + "…")


def shown_in_path(key: object) -> str:
    """The same without quotes where none are needed, as a part of a path such as tiers.bulk."""
    text = str(key)[:MOST_SHOWN]
    return text if text.isprintable() else ascii(text)
