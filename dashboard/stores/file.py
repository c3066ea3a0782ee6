"""Parameters in a file: replaced whole, never in part, never over someone's edit.

All who write hold the lock of the folder, as the predictor's own tools do. Under it the file is
compared, byte for byte, with what the edit was made from. The history goes first into a file
beside: should the machine stop in between, the history has an edit that is not in force, never
the other way round.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from dashboard.files import read_whole
from dashboard.ports import Conflict, HistoryEntry, SourceDown, Stored
from dashboard.stores import documents
from dashboard.stores.editing import EditedStore
from dashboard.stores.history import HISTORY_SUFFIX, decoded, encoded
from predictor.core.parameters import MAX_DOCUMENT_BYTES
from predictor.small_files import locked, replace

MOST_HISTORY_BYTES = 8 << 20


class FileParameterStore(EditedStore):
    """Parameters in one file, YAML or JSON, and their history in another beside it."""

    def __init__(
        self, path: Path, *, editable: bool, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(editable=editable, clock=clock)
        self._path = path.absolute()
        self._history_path = self._path.with_name(self._path.name + HISTORY_SUFFIX)

    @property
    def place(self) -> str:
        return str(self._path)

    def _read_document(self) -> bytes:
        return read_whole(self._path, MAX_DOCUMENT_BYTES)

    def _read_history(self) -> list[HistoryEntry]:
        try:
            return decoded(read_whole(self._history_path, MOST_HISTORY_BYTES))
        except SourceDown:
            if self._history_path.exists():
                raise
            return []

    def _write(self, entry: HistoryEntry, expected: Stored) -> None:
        try:
            with locked(self._path.parent) as folder:
                in_place = self._in_place()
                if documents.version(in_place) != expected.version:
                    raise Conflict(documents.conflict(in_place, expected))
                known = self._read_history()
                replace(self._history_path, encoded([*known, entry], MOST_HISTORY_BYTES))
                try:
                    replace(self._path, entry.after.encode())
                except OSError:
                    replace(self._history_path, encoded(known, MOST_HISTORY_BYTES))
                    raise
                os.fsync(folder)
        except BlockingIOError:
            raise Conflict("Another edit is being written at this moment; try again.") from None
        except OSError as error:
            raise SourceDown(
                f"{self._path} cannot be written ({error.strerror}); correct the permissions of"
                " its folder."
            ) from None
