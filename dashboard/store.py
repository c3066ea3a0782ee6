"""The port `ParameterStore` on a file: replaced whole, never in part, never over someone's edit.

All who write hold the lock of the folder, as the predictor's own tools do. Under it the file is
compared, byte for byte, with what the edit was made from. The history goes first into a file
beside: should the machine stop in between, the history has an edit that is not in force, never
the other way round.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dashboard.changes import changed
from dashboard.files import read_whole
from dashboard.ports import (
    Change,
    Conflict,
    HistoryEntry,
    NoData,
    NotAllowed,
    Refused,
    SourceDown,
    Stored,
)
from predictor.core.document import commented_document
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import (
    MAX_DOCUMENT_BYTES,
    MAX_GENERATION,
    Parameters,
    parse_document,
    parse_plain,
)
from predictor.small_files import locked, replace

HISTORY_SUFFIX = ".history.jsonl"
MOST_ENTRIES = 200
MOST_HISTORY_BYTES = 8 << 20
MOST_REASON_CHARS = 500
MOST_WHO_CHARS = 200
_GENERATION = re.compile(r"\bgeneration\"?\s*:\s*(\d{1,18})\b")  # also where all else is wrong


class FileParameterStore:
    """Parameters in one file, YAML or JSON, and their history in another beside it."""

    def __init__(
        self, path: Path, *, editable: bool, clock: Callable[[], float] = time.time
    ) -> None:
        """`editable`: whether this dashboard may write at all. `clock` gives Unix time."""
        self._path = path.absolute()
        self._history_path = self._path.with_name(self._path.name + HISTORY_SUFFIX)
        self._editable = editable
        self._clock = clock

    @property
    def place(self) -> str:
        return str(self._path)

    @property
    def editable(self) -> bool:
        return self._editable

    def read(self) -> Stored:
        document = read_whole(self._path, MAX_DOCUMENT_BYTES)
        return _stored(document)

    def check(self, proposal: Mapping[str, Any]) -> Parameters:
        return _parsed({**proposal, "generation": 0})

    def apply(
        self, proposal: Mapping[str, Any], *, expected: Stored, who: str, reason: str
    ) -> Stored:
        self._check_edit(who, reason)
        generation = expected.parameters.generation + 1
        if generation > MAX_GENERATION:
            raise Refused("The generation is at its end; start the file anew.", "generation")
        parameters = _parsed({**proposal, "generation": generation})
        changes = changed(expected.parameters, parameters)
        if not changes:
            raise Refused("Nothing differs from what is in force; change a value first.")
        return self._put(parameters, changes, expected, who, reason)

    def _put(
        self,
        parameters: Parameters,
        changes: tuple[Change, ...],
        expected: Stored,
        who: str,
        reason: str,
    ) -> Stored:
        document = _rendered(parameters, like=expected.document)
        new = _stored(document.encode())  # refused before it is written, if it is too long
        entry = HistoryEntry(
            generation=parameters.generation,
            time_s=self._clock(),
            who=who.strip(),
            reason=reason.strip(),
            changes=changes,
            before=expected.document,
            after=document,
        )
        self._write(entry, expected)
        return new

    def roll_back(
        self, generation: int, *, expected: Stored | None, who: str, reason: str
    ) -> Stored:
        for entry in self.history(MOST_ENTRIES):
            if entry.generation == generation:
                document = entry.after
                break
            if _generation_of(entry.before) == generation:
                document = entry.before
                break
        else:
            raise NoData(
                f"The history does not have generation {generation}; choose one that it lists."
            )
        try:
            proposal = msgspec.to_builtins(parse_document(document.encode()))
        except ParametersRefused as refusal:
            raise Refused(
                f"Generation {generation} is refused today: {refusal.message}", refusal.field
            ) from None
        if expected is None:
            return self._mend(proposal, who, reason)
        return self.apply(proposal, expected=expected, who=who, reason=reason)

    def _mend(self, proposal: Mapping[str, Any], who: str, reason: str) -> Stored:
        """Put the proposal in the place of what is refused.

        Its generation is above any that may have been in force, by hand too.
        """
        self._check_edit(who, reason)
        content = read_whole(self._path, MAX_DOCUMENT_BYTES)
        document = content.decode(errors="replace")
        if _generation_of(document) is not None:
            raise Conflict("The parameters in place are right by now; load them and edit again.")
        named = (int(number) for number in _GENERATION.findall(document))
        past = (entry.generation for entry in self._entries())
        highest = max(each for each in (*named, *past) if each < MAX_GENERATION)
        parameters = _parsed({**proposal, "generation": highest + 1})
        wrong = Stored(parameters, document, _version(content))
        return self._put(parameters, (), wrong, who, reason)

    def history(self, limit: int = 50) -> Sequence[HistoryEntry]:
        return self._entries()[::-1][: max(0, limit)]

    def _check_edit(self, who: str, reason: str) -> None:
        if not self._editable:
            raise NotAllowed(
                "This dashboard only reads; whoever runs it can allow edits in its configuration."
            )
        if not who.strip() or len(who) > MOST_WHO_CHARS or not who.isprintable():
            raise NotAllowed("It is not known who you are; sign in, then edit.")
        if not reason.strip() or len(reason) > MOST_REASON_CHARS:
            raise Refused(f"Give a reason, in at most {MOST_REASON_CHARS} characters.", "reason")

    def _entries(self) -> list[HistoryEntry]:
        """Oldest first. Lines that are no entries are passed over."""
        try:
            lines = read_whole(self._history_path, MOST_HISTORY_BYTES).splitlines()
        except SourceDown:
            if self._history_path.exists():
                raise
            return []
        entries = []
        for line in lines:
            try:
                entries.append(msgspec.json.decode(line, type=HistoryEntry))
            except msgspec.DecodeError:
                continue
        return entries

    def _write(self, entry: HistoryEntry, expected: Stored) -> None:
        try:
            with locked(self._path.parent) as folder:
                in_place = read_whole(self._path, MAX_DOCUMENT_BYTES)
                if _version(in_place) != expected.version:
                    raise Conflict(_conflict(in_place, expected))
                known = self._entries()
                replace(self._history_path, _history_text([*known, entry]))
                try:
                    replace(self._path, entry.after.encode())
                except OSError:
                    replace(self._history_path, _history_text(known))
                    raise
                os.fsync(folder)
        except BlockingIOError:
            raise Conflict("Another edit is being written at this moment; try again.") from None
        except OSError as error:
            raise SourceDown(
                f"{self._path} cannot be written ({error.strerror}); correct the permissions of"
                " its folder."
            ) from None


def _parsed(plain: Mapping[str, Any]) -> Parameters:
    try:
        return parse_plain(dict(plain))
    except ParametersRefused as refusal:
        raise Refused(refusal.message, refusal.field) from None


def _stored(document: bytes) -> Stored:
    try:
        parameters = parse_document(document)
    except ParametersRefused as refusal:
        raise Refused(
            f"The parameters in place are wrong: {refusal.message}", refusal.field
        ) from None
    return Stored(parameters, document.decode(errors="replace"), _version(document))


def _version(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def _generation_of(document: str) -> int | None:
    try:
        return parse_document(document.encode()).generation
    except ParametersRefused:
        return None


def _conflict(in_place: bytes, expected: Stored) -> str:
    found = _generation_of(in_place.decode(errors="replace"))
    ours = expected.parameters.generation
    if found is None:
        return "The parameters in place were changed by hand and are wrong; look at the file."
    if found == ours:
        return f"Generation {ours} was changed in place since you read it; load it and edit again."
    return f"You edited generation {ours}, but {found} is in place by now; load it and edit again."


def _rendered(parameters: Parameters, like: str) -> str:
    """In the format of the document before: JSON stays JSON."""
    if like.lstrip().startswith("{"):
        return msgspec.json.format(msgspec.json.encode(parameters)).decode() + "\n"
    return commented_document(parameters)


def _history_text(entries: Sequence[HistoryEntry]) -> bytes:
    """The newest entries that fit, a line each."""
    lines: list[bytes] = []
    room = MOST_HISTORY_BYTES
    for entry in reversed(entries[-MOST_ENTRIES:]):
        line = msgspec.json.encode(entry) + b"\n"
        room -= len(line)
        if room < 0:
            break
        lines.append(line)
    return b"".join(reversed(lines))
