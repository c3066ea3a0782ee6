"""Small files that others read meanwhile: read whole, replaced whole, one writer at a time."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dashboard.ports import SourceDown

NEW_FILE_MODE = 0o644  # the predictor may run as someone else


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Raises SourceDown where it is missing, unreadable, too large or no file."""
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourceDown(f"{path} is no regular file; name the right one.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(most_bytes + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SourceDown(f"{path} cannot be read ({error.strerror}); is it in place?") from None
    if len(content) > most_bytes:
        raise SourceDown(f"{path} is over {most_bytes} bytes; make it shorter.")
    return content


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the folder's lock. Raises BlockingIOError where another holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """A reader sees the old content or the new, whole, under the same permissions."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else NEW_FILE_MODE
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.fchmod(temporary.fileno(), mode)
            os.fsync(temporary.fileno())
            Path(temporary.name).replace(path)
        except OSError:
            Path(temporary.name).unlink(missing_ok=True)
            raise
