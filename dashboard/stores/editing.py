"""What every store of parameters does alike: check, edit, roll back, and keep the history.

A store that derives from this one knows where the document and its history lie, and how the two
are replaced together, and not over someone's edit.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from dashboard.changes import changed
from dashboard.ports import (
    Change,
    Conflict,
    HistoryEntry,
    Missing,
    NoData,
    NotAllowed,
    Refused,
    Stored,
)
from dashboard.stores import documents
from dashboard.stores.history import MOST_ENTRIES
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import MAX_GENERATION, Parameters, parse_document, parse_plain

MOST_REASON_CHARS = 500
MOST_WHO_CHARS = 200


class EditedStore(ABC):
    """The port `ParameterStore`, but for where the parameters lie."""

    def __init__(self, *, editable: bool, clock: Callable[[], float] = time.time) -> None:
        """`editable`: whether this dashboard may write at all. `clock` gives Unix time."""
        self._editable = editable
        self._clock = clock

    @property
    @abstractmethod
    def place(self) -> str: ...

    @abstractmethod
    def _read_document(self) -> bytes:
        """Raises SourceDown."""

    @abstractmethod
    def _read_history(self) -> list[HistoryEntry]:
        """Oldest first. Raises SourceDown."""

    @abstractmethod
    def _write(self, entry: HistoryEntry, expected: Stored) -> None:
        """Put `entry.after` in the place of `expected`, and the entry into the history.

        Raises Conflict (something else lies there by now), SourceDown, NotAllowed, Refused.
        """

    @property
    def editable(self) -> bool:
        return self._editable

    def read(self) -> Stored:
        return documents.stored(self._read_document())

    def check(self, proposal: Mapping[str, Any]) -> Parameters:
        return _parsed({**proposal, "generation": 0})

    def apply(
        self, proposal: Mapping[str, Any], *, expected: Stored, who: str, reason: str
    ) -> Stored:
        self._check_edit(who, reason)
        # An edit by hand may have gone back to a number that the history has given already.
        known = (entry.generation for entry in self._read_history())
        generation = max(expected.parameters.generation, *known, 0) + 1
        if generation > MAX_GENERATION:
            raise Refused("The generation is at its end; start the document anew.", "generation")
        parameters = _parsed({**proposal, "generation": generation})
        changes = changed(expected.parameters, parameters)
        if not changes:
            raise Refused("Nothing differs from what is in force; change a value first.")
        return self._put(parameters, changes, expected, who, reason)

    def roll_back(
        self, generation: int, *, expected: Stored | None, who: str, reason: str
    ) -> Stored:
        document = self._document_of(generation)
        try:
            proposal = msgspec.to_builtins(parse_document(document.encode()))
        except ParametersRefused as refusal:
            raise Refused(
                f"Generation {generation} is refused today: {refusal.message}", refusal.field
            ) from None
        if expected is None:
            return self._mend(proposal, who, reason)
        return self.apply(proposal, expected=expected, who=who, reason=reason)

    def history(self, limit: int = 50) -> Sequence[HistoryEntry]:
        return self._read_history()[::-1][: max(0, limit)]

    def _document_of(self, generation: int) -> str:
        for entry in self.history(MOST_ENTRIES):
            if entry.generation == generation:
                return entry.after
            if documents.generation(entry.before) == generation:
                return entry.before
        raise NoData(
            f"The history does not have generation {generation}; choose one that it lists."
        )

    def _in_place(self) -> bytes:
        """Empty where nothing lies there."""
        try:
            return self._read_document()
        except Missing:
            return b""

    def _mend(self, proposal: Mapping[str, Any], who: str, reason: str) -> Stored:
        """Put the proposal in the place of what is refused, or where nothing lies.

        Its generation is above any that may have been in force, by hand too.
        """
        self._check_edit(who, reason)
        content = self._in_place()
        document = documents.text(content)
        if documents.generation(document) is not None:
            raise Conflict("The parameters in place are right by now; load them and edit again.")
        named = documents.named_generations(document)
        past = (entry.generation for entry in self._read_history())
        highest = max(each for each in (*named, *past) if each < MAX_GENERATION)
        parameters = _parsed({**proposal, "generation": highest + 1})
        wrong = Stored(parameters, document, documents.version(content))
        return self._put(parameters, (), wrong, who, reason)

    def _put(
        self,
        parameters: Parameters,
        changes: tuple[Change, ...],
        expected: Stored,
        who: str,
        reason: str,
    ) -> Stored:
        document = documents.rendered(parameters, like=expected.document)
        new = documents.stored(document.encode())  # refused before it is written, if too long
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

    def _check_edit(self, who: str, reason: str) -> None:
        if not self._editable:
            raise NotAllowed(
                "This dashboard only reads; whoever runs it can allow edits in its configuration."
            )
        if not who.strip() or len(who) > MOST_WHO_CHARS or not who.isprintable():
            raise NotAllowed("It is not known who you are; sign in, then edit.")
        if not reason.strip() or len(reason) > MOST_REASON_CHARS:
            raise Refused(f"Give a reason, in at most {MOST_REASON_CHARS} characters.", "reason")


def _parsed(plain: Mapping[str, Any]) -> Parameters:
    try:
        return parse_plain(dict(plain))
    except ParametersRefused as refusal:
        raise Refused(refusal.message, refusal.field) from None
