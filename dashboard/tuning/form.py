"""The form: a field for every knob that the parameter types know, and what to do with edits."""

import logging
from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit.errors import StreamlitAuthError

from dashboard.asking import guarded, optional
from dashboard.here import Here, here
from dashboard.ports import DashboardError, Missing, Refused, Replica, Stored
from dashboard.tuning import history, preview, state
from dashboard.tuning.following import lately
from dashboard.views.draft import (
    Place,
    edit_changes,
    edited,
    known_to_be,
    problems,
    told,
    value_at,
)
from dashboard.views.history import whose
from dashboard.views.knobs import Knob, knobs_of, shown
from dashboard.views.literal import escaped, one_line
from dashboard.views.tuning import clash, known_parameters, value_per_replica, without_effect
from predictor.core.parameters import ModelParameters, Parameters, TierParameters

Fields = Mapping[str, Mapping[Place, Knob]]  # by the heading that they stand under
MAX_REASON_LENGTH = 500
MOST_COLUMNS = 3  # sections side by side
_log = logging.getLogger(__name__)


def draw() -> None:
    """Typing redraws it, and so does a refresh: an edit of someone else is seen, what is in force
    is so now, and what is typed stays.

    What comes and goes has a container of its own, also while there is nothing in it. A field
    that moved to another place would be made anew in the browser, under the typing hands.
    """
    with guarded("The form"):
        spot = here()
        with st.container():
            _show_notice(spot)
        try:
            stored = spot.parts.store.read()
        except (Refused, Missing) as problem:
            _show_refused(spot, problem)
            return
        model = _model(spot, stored.parameters)
        current = state.draft(stored, lambda base: _knobs(_fields(base, model)))
        fields = _fields(current.base.parameters, model)
        wrong = problems(current.base.parameters, current.edits)
        clashes = current.base.version != stored.version
        with st.container():
            if clashes:
                _show_clash(spot, current, stored)
        _show_fields(spot, current, fields, wrong)
        _show_actions(spot, current, wrong, clashes=clashes)


def _model(spot: Here, parameters: Parameters) -> str | None:
    """Whose knobs to show; None where no model is known."""
    if spot.model is not None:
        return spot.model
    reported = optional(spot.parts.metrics.models, ())
    models = list(dict.fromkeys([*parameters.models, *reported]))
    if len(models) < 2:
        return models[0] if models else None
    return st.selectbox("Model to tune", models, key="tuning-model", width=300)


def _fields(base: Parameters, model: str | None) -> Fields:
    model_fields = {} if model is None else {f"Model {model}": _part("models", model)}
    return model_fields | {f"Tier {tier}": _part("tiers", tier) for tier in base.tiers}


def _knobs(fields: Fields) -> Mapping[Place, Knob]:
    return {place: knob for part in fields.values() for place, knob in part.items()}


def _part(section: str, name: str) -> Mapping[Place, Knob]:
    kind = ModelParameters if section == "models" else TierParameters
    return {Place(section, name, knob.name): knob for knob in knobs_of(kind)}


def _show_notice(spot: Here) -> None:
    for sentence in (state.take_notice(), spot.parts.login_problem()):
        if sentence:
            st.error(escaped(sentence))


def _show_refused(spot: Here, problem: DashboardError) -> None:
    """Someone wrote what no replica takes, or took it away: nothing to edit, but a way back."""
    st.error(escaped(f"{str(problem).rstrip('.')}. Replicas go on with what they have."))
    entries = spot.parts.store.history(1)
    if not entries:
        st.text(one_line(f"There is no edit to go back to; mend {spot.parts.store.place} by hand."))
        return
    st.text(
        one_line(f"Mend {spot.parts.store.place} by hand, or go back to the last edit made here.")
    )
    history.offer(spot, None, entries[0].generation, "tuning-mend")


def _show_clash(spot: Here, current: state.Draft, stored: Stored) -> None:
    made_by = whose(stored.document, optional(spot.parts.store.history, ()))
    found = clash(current.base.parameters, stored.parameters, current.edits, made_by)
    st.warning(escaped(found.text))
    lines = [f"Theirs: {line}" for line in found.theirs]
    lines += [f"Both of you changed {field}." for field in found.both]
    st.text("\n".join(map(one_line, lines)))  # names are other people's words, and never markup
    row = st.container(horizontal=True)
    generation = stored.parameters.generation
    if row.button(f"Put my edits on top of generation {generation}", key="tuning-rebase"):
        state.rebase(stored)
        st.rerun()
    if row.button(f"Drop my edits, start from generation {generation}", key="tuning-restart"):
        state.drop()
        st.rerun()


def _show_fields(
    spot: Here, current: state.Draft, fields: Fields, wrong: Mapping[Place | None, str]
) -> None:
    replicas: Sequence[Replica] = optional(lambda: lately(spot, spot.parts.metrics.replicas), ())
    known = known_parameters(
        current.base.parameters, replicas, lambda: optional(spot.parts.store.history, ())
    )
    edits = current.edits
    then = known_to_be(current.base.parameters, edits, wrong)
    served = [*current.base.parameters.models, *optional(spot.parts.metrics.models, ())]
    columns = min(len(fields), MOST_COLUMNS)
    for index, (heading, part) in enumerate(fields.items()):
        if index % columns == 0:
            row = st.columns(columns)
        with row[index % columns].container(border=True):
            st.markdown(f"**{escaped(heading)}**")
            for place, knob in part.items():
                idle = without_effect(place, then, served)
                # An edit that has no effect any more can still be taken back.
                _show_field(current, place, knob, disabled=bool(idle) and place not in edits)
                if place in wrong:
                    st.error(escaped(f"{knob.name}: {wrong[place]}. Range: {knob.range}."))
                    continue
                in_force = value_per_replica(place, replicas, known)
                before = shown(value_at(current.base.parameters, place)) or "none"
                said = f"In force: {in_force}" if in_force else f"In the document: {before}"
                mark = ":orange-badge[edited] " if place in edits else ""
                st.caption(mark + escaped(f"{said}{'. ' if idle else ''}{idle}"))


def _show_field(current: state.Draft, place: Place, knob: Knob, *, disabled: bool) -> None:
    text, key = current.text(place), current.key(place)
    if knob.choices:
        st.selectbox(
            knob.label,
            knob.choices,
            index=knob.choices.index(text) if text in knob.choices else 0,
            help=knob.help,
            key=key,
            disabled=disabled,
            persist_state="session",
        )
    else:
        st.text_input(
            knob.label,
            value=text,
            help=knob.help,
            placeholder="none" if knob.optional else "",
            live=True,  # validation as it is typed
            max_chars=40,
            key=key,
            disabled=disabled,
            persist_state="session",
        )


def _show_actions(
    spot: Here, current: state.Draft, wrong: Mapping[Place | None, str], *, clashes: bool
) -> None:
    with st.container(key="tuning-actions"):  # which stays on the screen
        wants_preview, wants_apply, who, reason = _show_buttons(spot, current, wrong, clashes)
    with st.container(), guarded("The preview"):
        preview.draw(spot, current, run=wants_preview)
    if wants_apply and who is not None:
        _apply(spot, current, who, reason)


def _show_buttons(
    spot: Here, current: state.Draft, wrong: Mapping[Place | None, str], clashes: bool
) -> tuple[bool, bool, str | None, str]:
    """Whether Preview and Apply were pressed, by whom, and why."""
    with st.container():
        if None in wrong:
            st.error(escaped(wrong[None]))
        if current.edits and not wrong:
            changes = edit_changes(current.base.parameters, current.edits)
            st.text("\n".join(one_line(told(each)) for each in changes))
    who = spot.who()
    row = st.container(horizontal=True, vertical_alignment="bottom")
    wants_preview = row.button("Preview", disabled=bool(wrong), key="tuning-preview")
    reason = row.text_input(
        "Reason",
        max_chars=MAX_REASON_LENGTH,
        placeholder="why this edit, for the history",
        live=True,
        key=f"tuning-reason:{current.number}",
    )
    obstacle = _obstacle(spot, current, who, reason, wrong=bool(wrong), clashes=clashes)
    wants_apply = row.button(
        "Apply", type="primary", disabled=obstacle is not None, key="tuning-apply"
    )
    if current.edits and row.button("Drop my edits", key="tuning-drop"):
        state.drop()
        st.rerun()
    with st.container():
        if obstacle:
            st.caption(escaped(obstacle))
        if not spot.parts.login_problem():
            _show_login(who)
    return wants_preview, wants_apply, who, reason


def _show_login(who: str | None) -> None:
    """Where a login is set up; elsewhere there is nothing to press."""
    logged_in = st.user.get("is_logged_in")
    if logged_in is False:
        st.button("Log in", on_click=_log_in, key="tuning-login")
    elif logged_in:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.caption(escaped(f"Edits carry the name {who}."))
        row.button("Log out", on_click=st.logout, key="tuning-logout")


def _log_in() -> None:
    try:
        st.login()
    except StreamlitAuthError:
        _log.exception("the login cannot be used")
        state.notice("Login is not set up right; the dashboard's log says why.")


def _obstacle(
    spot: Here,
    current: state.Draft,
    who: str | None,
    reason: str,
    *,
    wrong: bool,
    clashes: bool,
) -> str | None:
    """Why Apply is off, and what to do; None where it is on."""
    if not spot.parts.store.editable:
        return (
            "Read-only: editing is off in this dashboard's settings. Values can be tried with"
            " Preview all the same."
        )
    if who is None:
        if problem := spot.parts.login_problem():
            return problem
        return "Nothing tells who you are, and an edit carries a name: log in first."
    if not current.edits:
        return f"Nothing is edited. Parameters lie in {spot.parts.store.place}."
    if clashes:
        return "Someone else edited meanwhile: decide above what becomes of your edits."
    if wrong:
        return "Mend the fields marked above first."
    if not reason.strip():
        return "Say why in the reason field, then apply."
    return None


def _apply(spot: Here, current: state.Draft, who: str, reason: str) -> None:
    try:
        stored = spot.parts.store.apply(
            edited(current.base.parameters, current.edits),
            expected=current.base,
            who=who,
            reason=reason.strip(),
        )
    except DashboardError as error:
        state.notice(f"Not applied. {error}")
        st.rerun()
    state.drop()
    state.was_applied(stored, spot.parts.now())
    st.rerun()
