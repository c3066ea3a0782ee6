"""The parameter document in a file: read at start, watched while serving, replaced whole.

The folder is watched, not the file: an atomic replace and the `..data` swap of a mounted
ConfigMap put another file under the same name, and a watch on the file would stay with the
old one. A link is followed when the file is read, but only the folder that holds the link
is watched.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

from watchfiles import awatch

from predictor import small_files
from predictor.core.errors import ParametersRefused, StartupError
from predictor.core.parameters import MAX_DOCUMENT_BYTES, Parameters, parse_document

# An editor that writes in place truncates first, so a file is read once it has been quiet
# for a moment; in a folder that never rests, after the longer time all the same.
QUIET_MS = 50
LONGEST_WAIT_MS = 300


class FileStore:
    """The parameters in one file, YAML or JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._seen: bytes | str | None = None  # the last document, or why there was none

    def load(self) -> Parameters:
        """The parameters to start with.

        Raises:
            StartupError: the file is missing, unreadable or refused; the message says why.
        """
        found = self._look()
        if isinstance(found, ParametersRefused):
            raise StartupError(f"parameters file {self.path}: {found.message}") from None
        assert found is not None, "nothing was seen before"
        return found

    async def watch(self) -> AsyncGenerator[Parameters | ParametersRefused, None]:
        """Yield every new document, accepted or refused, well within a second of the edit.

        Begins with what differs from what `load` saw. The same content twice in a row is
        told once. A missing file is a refusal; it is seen again when it comes back. Goes on
        until closed, or until the folder is gone or cannot be watched, and says so.
        """
        folder = self.path.parent
        try:
            while True:
                watched = folder.stat()
                async with aclosing(_changes(folder)) as changes:
                    async for _ in changes:
                        news = await asyncio.to_thread(self._look)
                        if news is not None:
                            yield news
                        if not os.path.samestat(watched, folder.stat()):
                            break  # another folder has this name now
        except OSError as error:
            yield ParametersRefused(
                "", f"{folder} cannot be watched, restart to see edits again: {_reason(error)}"
            )

    def write(self, document: bytes, expected_generation: int | None = None) -> Parameters:
        """Replace the document atomically: a reader sees the old one or the new one, whole.

        Args:
            document: YAML or JSON; checked first, and kept as it is, comments too.
            expected_generation: the one that this document was made from. Where the file
                holds another by now, nothing is written, so that no edit of someone else
                is lost, and the new generation must be higher. None: replace whatever is there.

        Raises:
            ParametersRefused: the document is wrong, someone else was faster, or the
                file cannot be written.
        """
        parameters = parse_document(document)
        try:
            with small_files.locked(self.path.parent) as folder:
                if expected_generation is not None:
                    _check_generations(self.path, expected_generation, parameters.generation)
                small_files.replace(self.path, document)
                os.fsync(folder)
        except BlockingIOError:
            raise ParametersRefused("", "another write is under way; try again") from None
        except OSError as error:
            raise ParametersRefused(
                "", f"{self.path} cannot be written: {_reason(error)}"
            ) from None
        return parameters

    def _look(self) -> Parameters | ParametersRefused | None:
        """What the file says now, if that is news."""
        try:
            document = _read(self.path)
        except ParametersRefused as refusal:
            return refusal if self._is_news(refusal.message) else None
        if not self._is_news(document):
            return None
        try:
            return parse_document(document)
        except ParametersRefused as refusal:
            return refusal

    def _is_news(self, seen: bytes | str) -> bool:
        before, self._seen = self._seen, seen
        return seen != before


async def _changes(folder: Path) -> AsyncGenerator[None, None]:
    """Yield once when the folder is being watched, then after every change in it."""
    stop = asyncio.Event()
    watcher = awatch(
        folder,
        watch_filter=None,
        debounce=LONGEST_WAIT_MS,
        step=QUIET_MS,
        stop_event=stop,
        recursive=False,
    )
    change = asyncio.ensure_future(anext(watcher))
    try:
        await asyncio.sleep(0)  # its first step, which arms the watch: later edits are seen
        while True:
            yield
            await change
            change = asyncio.ensure_future(anext(watcher))
    finally:
        stop.set()
        with suppress(OSError, StopAsyncIteration, asyncio.CancelledError):
            await change


def _read(path: Path) -> bytes:
    """At most one byte more than a document may have. Raises ParametersRefused."""
    try:
        return small_files.read_up_to(path, MAX_DOCUMENT_BYTES + 1)
    except small_files.NotRegularError:
        raise ParametersRefused("", "not a regular file") from None
    except OSError as error:
        raise ParametersRefused("", f"the file cannot be read: {_reason(error)}") from None


def _check_generations(path: Path, expected: int, new: int) -> None:
    current = parse_document(_read(path)).generation
    if current != expected:
        raise ParametersRefused(
            "generation", f"{expected} was edited, but {current} is in place now; start from that"
        )
    if new <= expected:
        raise ParametersRefused("generation", f"is {new}; must be above {expected}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
