"""The port to where the parameters lie, and the history of their edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from predictor.core.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Stored:
    """The parameters as they lie in the store. `version` changes with every byte of it."""

    parameters: Parameters
    document: str
    version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One field that an edit changed; None: it was not there."""

    field: str  # "models.topics.max_batch_size"
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One edit that was applied."""

    generation: int  # that it made
    time_s: float
    who: str
    reason: str
    changes: tuple[Change, ...]
    before: str  # the documents, whole
    after: str


class ParameterStore(Protocol):
    """Where the parameters lie: a file, or a ConfigMap."""

    @property
    def place(self) -> str:
        """For the reader: the file's path, the ConfigMap's name."""
        ...

    @property
    def editable(self) -> bool:
        """Whether the configuration allows edits. A write may be refused all the same."""
        ...

    def read(self) -> Stored:
        """Raises Missing, SourceDown (unreadable) or Refused (what lies there is wrong)."""
        ...

    def check(self, proposal: Mapping[str, Any]) -> Parameters:
        """The proposal as parameters, by the predictor's own rules; writes nothing.

        A proposal is a document as plain dicts, with models and tiers; its generation is left
        out or ignored. Raises Refused, with the field.
        """
        ...

    def apply(
        self, proposal: Mapping[str, Any], *, expected: Stored, who: str, reason: str
    ) -> Stored:
        """Put the proposal in the place of `expected`, under the next generation.

        Raises NotAllowed, Refused (wrong, nothing changed, no reason given), Conflict
        (something else than `expected` lies there by now), SourceDown (cannot be written).
        """
        ...

    def roll_back(
        self, generation: int, *, expected: Stored | None, who: str, reason: str
    ) -> Stored:
        """Apply what was in force as `generation` once more, as a new edit.

        `expected` None: nothing lies there, or what `read` refuses, and is to be replaced. Raises
        like apply, and NoData where the history does not have the generation.
        """
        ...

    def history(self, limit: int = 50) -> Sequence[HistoryEntry]:
        """Newest first. Empty where there is none."""
        ...
