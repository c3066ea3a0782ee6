"""The history of edits as rows, with those that were made by hand between them.

The history has the edits that went through a dashboard. Each keeps the document before it and the
one after it, so that a document that does not follow from the one before tells of an edit by hand,
which left no name and no reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

from dashboard.changes import changed
from dashboard.ports import Edit, HistoryEntry, Stored
from dashboard.views.draft import told
from dashboard.views.times import clock
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import Parameters, parse_document

WRONG = "What lay there was wrong or missing, and was replaced whole."
BY_HAND = "Edited by hand: nobody and nothing says who and why"


@dataclass(frozen=True, slots=True)
class Row:
    """One state that was in place. `can_return`: a roll back to it is possible."""

    generation: int
    heading: str
    changes: str
    can_return: bool


def rows(entries: Sequence[HistoryEntry], stored: Stored | None, zone: tzinfo) -> Sequence[Row]:
    """Newest first, as `entries` are. `stored`: what lies there now; None where it is refused."""
    found: list[Row] = []
    in_place = stored.document if stored is not None else None
    now = stored.parameters.generation if stored is not None else None
    for entry in entries:
        if in_place is not None:
            found += _by_hand(entry, in_place, zone)
        heading = f"{clock(entry.time_s, zone)}, {entry.who}: {entry.reason}"
        changes = "; ".join(told(change) for change in entry.changes) or WRONG
        found.append(Row(entry.generation, heading, changes, can_return=True))
        in_place = entry.before
    oldest = parsed(entries[-1].before) if entries else None
    if oldest is not None:
        heading = "What was in force before the first edit shown."
        found.append(Row(oldest.generation, heading, "", can_return=True))
    return _returnable(found, now)


def _by_hand(entry: HistoryEntry, document: str, zone: tzinfo) -> list[Row]:
    """What lay there after an edit, where it is not what the edit had made."""
    before, after = parsed(entry.after), parsed(document)
    if before is None or after is None:
        return []
    changes = changed(before, after)
    if not changes and before.generation == after.generation:
        return []  # comments, or the order of lines
    heading = f"{BY_HAND}, after {clock(entry.time_s, zone)}"
    if after.generation <= before.generation:
        heading += f"; generation {after.generation} is no new number"
    text = "; ".join(told(change) for change in changes) or "the generation alone"
    return [Row(after.generation, heading, text, can_return=False)]


def _returnable(found: Sequence[Row], now: int | None) -> Sequence[Row]:
    """A roll back goes by the number: to none that is in force, and once for each number."""
    seen: set[int] = set()
    kept = []
    for row in found:
        can_return = row.can_return and row.generation not in seen and row.generation != now
        if row.can_return:
            seen.add(row.generation)
        kept.append(replace(row, can_return=can_return))
    return kept


def edited_by_hand(entries: Sequence[HistoryEntry], stored: Stored, zone: tzinfo) -> Row | None:
    """What lies there now, where no edit of the history made it."""
    if not entries:
        return None
    return next(iter(_by_hand(entries[0], stored.document, zone)), None)


def whose(document: str, entries: Sequence[HistoryEntry]) -> str:
    """ "ada (smaller batches)"; empty where it was made by hand."""
    made = next((entry for entry in entries if entry.after == document), None)
    return "" if made is None else f"{made.who} ({made.reason})"


def with_notes(edits: Sequence[Edit], entries: Sequence[HistoryEntry]) -> Sequence[Edit]:
    """Markers of plots with who and why."""
    notes = {entry.generation: f"{entry.who}: {entry.reason}" for entry in reversed(entries)}
    return [
        replace(edit, note=notes.get(edit.generation, "by hand" if entries else ""))
        for edit in edits
    ]


def parsed(document: str) -> Parameters | None:
    """None where the document cannot be read."""
    try:
        return parse_document(document.encode())
    except ParametersRefused:
        return None
