"""Files that the dashboard reads, with what is wrong with them in a sentence."""

from pathlib import Path

from dashboard.ports import Missing, SourceDown
from predictor.small_files import NotRegularError, read_up_to


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Raises Missing, or SourceDown where it is unreadable, too large or no file."""
    try:
        content = read_up_to(path, most_bytes + 1)
    except NotRegularError:
        raise SourceDown(f"{path} is no regular file; name the right one.") from None
    except FileNotFoundError:
        raise Missing(f"{path} is not there; put it back, or name the right one.") from None
    except OSError as error:
        raise SourceDown(
            f"{path} cannot be read ({error.strerror}); correct its permissions."
        ) from None
    if len(content) > most_bytes:
        raise SourceDown(f"{path} is over {most_bytes} bytes; make it shorter.")
    return content
