"""How pages ask sources: answers are kept for a while, and whatever fails is one sentence."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import streamlit as st

from dashboard.ports import DashboardError, NoData
from dashboard.views.literal import escaped

KEPT_S = 60  # a window in the question moves on sooner than that, and asks anew
MOST_KEPT = 500

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")
_log = logging.getLogger(__name__)


def ask(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer of a source's method, kept for all readers who ask the same.

    An error is kept too, so that a page of ten plots does not wait ten times for a Prometheus
    that is down. What asks about now, not about a window, goes through `ask_now`.
    """
    answer, error = _kept(question, _name(question), args, kwargs)
    if error is not None:
        raise error
    return answer  # type: ignore[no-any-return]


@st.cache_data(ttl=KEPT_S, max_entries=MOST_KEPT, show_spinner=False)
def _kept(
    _question: Callable[..., Any],
    name: str,  # noqa: ARG001 - part of the key, as the underscore keeps the method out of it
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Any, DashboardError | None]:
    try:
        return _question(*args, **kwargs), None
    except DashboardError as error:
        return None, error


def ask_now(question: Callable[[], T], step: float) -> T:
    """The same for a question without a window: `step` changes when the answer is too old."""
    answer, error = _kept(question, f"{_name(question)}@{step:.0f}", (), {})
    if error is not None:
        raise error
    return answer  # type: ignore[no-any-return]


def _name(question: Callable[..., Any]) -> str:
    """Tells one source's method from another's."""
    owner = getattr(question, "__self__", None)
    return f"{type(owner).__module__}.{getattr(question, '__qualname__', question)}#{id(owner)}"


_said: ContextVar[set[str]] = ContextVar("said")


def begin() -> None:
    """A new drawing: what was said on the last one may be said again."""
    _said.set(set())


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Draw a part of a page; if it fails, a sentence stands there and the rest goes on."""
    try:
        yield
    except NoData as error:
        _say(str(error), st.info, ":material/hourglass_empty:")
    except DashboardError as error:
        _say(str(error), st.warning, ":material/cloud_off:")
    except Exception:
        _log.exception("%s could not be drawn", what)
        _say(
            f"{what} could not be drawn. The dashboard's log says why; the rest of the page works.",
            st.warning,
            ":material/error:",
        )


def _say(sentence: str, show: Callable[..., Any], icon: str) -> None:
    """Once on a page: ten parts that need Prometheus need not say ten times that it is away."""
    said = _said.get(set())
    if sentence in said:
        st.caption("Not shown, for the reason above.")
        return
    _said.set({*said, sentence})
    show(escaped(sentence), icon=icon)


def optional(question: Callable[[], T], otherwise: D) -> T | D:
    """An answer that a part can do without: edits to mark, prices, replicas."""
    try:
        return question()
    except DashboardError:
        return otherwise
