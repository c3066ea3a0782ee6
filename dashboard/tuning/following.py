"""How closely the Tuning page follows the replicas: every second while an edit takes hold."""

from collections.abc import Callable
from typing import TypeVar

from dashboard.asking import ask_now
from dashboard.here import Here
from dashboard.tuning import state

FOLLOW_S = 1.0  # while an edit takes hold
LATELY_S = 5.0  # an answer is new enough for so long, when none does

T = TypeVar("T")


def follow_s() -> float | None:
    """How often to draw anew; None where nothing is on its way. What was drawn so goes on so until
    the page is drawn whole: to draw it whole by itself, at the moment that an edit is in force
    everywhere, would bring back a reader who has just gone to another page."""
    return FOLLOW_S if state.applied() is not None else None


def lately(spot: Here, question: Callable[[], T]) -> T:
    """The answer of now while an edit takes hold; else one that all readers may share."""
    if state.applied() is not None:
        return question()
    return ask_now(question, spot.parts.now() // LATELY_S)
