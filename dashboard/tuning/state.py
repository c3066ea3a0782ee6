"""An edit in progress, kept in the reader's session: it outlives refreshes and other pages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import streamlit as st

from dashboard.ports import Stored
from dashboard.views.draft import Edits, Place, real_edits, value_at
from dashboard.views.knobs import Knob, shown, typed
from dashboard.views.preview import Comparison
from predictor.core.parameters import Parameters

_DRAFT, _DROPPED, _APPLIED, _FORECAST, _NOTICE, _WHY = (
    f"tuning-{name}" for name in ("draft", "dropped", "applied", "forecast", "notice", "why")
)


@dataclass(frozen=True, slots=True)
class Draft:
    """`texts`: what the fields hold, as typed, whether shown now or on another model's form.

    `number`: how many were dropped before it.
    """

    base: Stored
    texts: Mapping[Place, tuple[Knob, str]]
    number: int

    @property
    def edits(self) -> Edits:
        return real_edits(
            self.base.parameters,
            {place: typed(knob, text) for place, (knob, text) in self.texts.items()},
        )

    def text(self, place: Place) -> str:
        if place in self.texts:
            return self.texts[place][1]
        return shown(value_at(self.base.parameters, place))

    def key(self, place: Place) -> str:
        """Of the field's widget: another base makes another widget, with that base's value. So
        does another draft, because a browser keeps what was typed into a widget."""
        return f"knob:{self.number}:{self.base.version}:{place}"


@dataclass(frozen=True, slots=True)
class Applied:
    """An edit of this session that has not taken hold everywhere yet."""

    generation: int
    time_s: float


def draft(stored: Stored, knobs: Callable[[Parameters], Mapping[Place, Knob]]) -> Draft:
    """The edit in progress, with what its widgets hold, also what was typed since the last drawing;
    without one, a new one from what is stored. `knobs`: those that have widgets, of a document."""
    kept: Draft | None = st.session_state.get(_DRAFT)
    if kept is not None:
        kept = _gathered(kept, knobs(kept.base.parameters))
    if kept is None or (kept.base.version != stored.version and not kept.edits):
        new = Draft(stored, {}, st.session_state.get(_DROPPED, 0))
        kept = _gathered(new, knobs(stored.parameters))
    return _keep(kept)


def _gathered(current: Draft, knobs: Mapping[Place, Knob]) -> Draft:
    texts = dict(current.texts)
    for place, knob in knobs.items():
        held = st.session_state.get(current.key(place))
        if held is not None:
            texts[place] = (knob, str(held))
    return replace(current, texts=texts)


def drop() -> None:
    """Forget the edits; the next draft starts from the store, with fresh widgets."""
    st.session_state.pop(_DRAFT, None)
    st.session_state[_DROPPED] = st.session_state.get(_DROPPED, 0) + 1
    st.session_state.pop(_FORECAST, None)


def rebase(stored: Stored) -> None:
    """The same edits, on top of what is stored now; whatever was not edited follows the store."""
    kept: Draft = st.session_state[_DRAFT]
    mine = kept.edits
    _keep(replace(kept, base=stored, texts={place: kept.texts[place] for place in mine}))


def applied() -> Applied | None:
    found: Applied | None = st.session_state.get(_APPLIED)
    return found


def was_applied(stored: Stored, now_s: float) -> None:
    st.session_state[_APPLIED] = Applied(stored.parameters.generation, now_s)


def took_hold() -> None:
    st.session_state.pop(_APPLIED, None)


def keep_forecast(current: Draft, forecast: Comparison) -> None:
    st.session_state[_FORECAST] = (current.base.version, dict(current.edits), forecast)


def forecast(current: Draft) -> tuple[Comparison, bool] | None:
    """The last one, and whether it is of the edits as they are now."""
    kept = st.session_state.get(_FORECAST)
    if kept is None:
        return None
    version, edits, found = kept
    return found, (version, edits) == (current.base.version, dict(current.edits))


def notice(sentence: str) -> None:
    """What went wrong with a write, to be shown once, when the page is drawn next."""
    st.session_state[_NOTICE] = sentence


def ask_why(button: str | None) -> None:
    """The button of the roll back that waits for a reason; None: none does."""
    st.session_state[_WHY] = button


def asks_why(button: str) -> bool:
    return st.session_state.get(_WHY) == button


def take_notice() -> str | None:
    found: str | None = st.session_state.pop(_NOTICE, None)
    return found


def _keep(current: Draft) -> Draft:
    st.session_state[_DRAFT] = current
    return current
