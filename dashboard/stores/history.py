"""The history of edits as text: one entry a line, in JSON, the oldest first."""

from collections.abc import Sequence

import msgspec

from dashboard.ports import HistoryEntry

HISTORY_SUFFIX = ".history.jsonl"  # after the name of what the document lies in
MOST_ENTRIES = 200


def decoded(text: bytes) -> list[HistoryEntry]:
    """Oldest first. Lines that are no entries are passed over."""
    entries = []
    for line in text.splitlines():
        try:
            entries.append(msgspec.json.decode(line, type=HistoryEntry))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return entries


def encoded(entries: Sequence[HistoryEntry], most_bytes: int) -> bytes:
    """The newest entries that fit; the very newest in any case."""
    lines: list[bytes] = []
    room = most_bytes
    for entry in reversed(entries[-MOST_ENTRIES:]):
        line = msgspec.json.encode(entry) + b"\n"
        room -= len(line)
        if room < 0 and lines:
            break
        lines.append(line)
    return b"".join(reversed(lines))
