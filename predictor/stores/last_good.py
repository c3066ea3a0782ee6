"""The parameters that took hold last, for a restart beside a document that is refused.

Parameters in force outlive a broken edit. They would not outlive a restart, and a process that a
broken document keeps from starting is started again and again. So what took hold is kept in a file
of this program's own, and read where the present document is refused at start.
"""

import logging
import os
import stat
import tempfile
from pathlib import Path

from predictor import small_files
from predictor.core.document import commented_document
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import MAX_DOCUMENT_BYTES, Parameters, parse_document

_LOG = logging.getLogger("headway.parameters")


class LastGood:
    """One file. Where it cannot be written, nothing is kept, and the log says so once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failed = False

    @classmethod
    def beside(cls, path: Path) -> "LastGood":
        """Of the document in a file: a hidden file in the same folder."""
        return cls(path.with_name(f".{path.name}.last-good"))

    @classmethod
    def in_temporary_folder(cls, name: str) -> "LastGood":
        """Of a document that lies elsewhere. An emptyDir there outlives a container."""
        return cls(Path(tempfile.gettempdir()) / f"headway-{os.geteuid()}" / f"{name}.last-good")

    def keep(self, parameters: Parameters) -> None:
        document = commented_document(parameters).encode()
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            small_files.replace(self.path, document, new_mode=0o600)
        except OSError as error:
            if not self._failed:
                _LOG.warning(
                    "%s cannot be written (%s): after a restart, a document that is refused has"
                    " nothing to fall back on",
                    self.path,
                    error.strerror or error,
                )
            self._failed = True

    def read(self) -> Parameters | None:
        """None where nothing usable was kept, or where somebody else may have written it."""
        try:
            status = self.path.stat(follow_symlinks=False)
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
                return None
            document = small_files.read_up_to(self.path, MAX_DOCUMENT_BYTES + 1)
            return parse_document(document)
        except (OSError, small_files.NotRegularError, ParametersRefused):
            return None
