"""How pages ask sources: answers are kept for a while, and whatever fails is one sentence."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import streamlit as st

from dashboard.ports import DashboardError, NoData, SourceDown, Window
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

    Where a source that has answered is away, its last answer to the same question is given, of a
    time range of the same length. The page says so: see `aged`.
    """
    name = _name(question)
    answer, error = _kept(question, name, args, kwargs)
    windows = [each for each in args if isinstance(each, Window)]
    key = (name, tuple(_lasting(each) for each in args), tuple(sorted(kwargs.items())))
    if error is None:
        if windows:
            _last_answers().keep(key, answer, windows[0].end_s)
        return answer  # type: ignore[no-any-return]
    if windows and isinstance(error, SourceDown):
        last = _last_answers().of(key)
        if last is not None:
            _note(Aged(last.as_of_s, str(error)))
            return last.answer  # type: ignore[no-any-return]
    raise error


def _lasting(argument: Any) -> Any:
    """A window that moves, as that of any time."""
    if isinstance(argument, Window) and argument.moves:
        return ("last", argument.duration_s)
    return argument


@dataclass(frozen=True, slots=True)
class _Last:
    answer: Any
    as_of_s: float


class _LastAnswers:
    """Of all readers; the oldest are forgotten."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Any, _Last] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, key: Any, answer: Any, as_of_s: float) -> None:
        with self._lock:
            known = self._answers.get(key)
            if known is None or known.as_of_s <= as_of_s:
                self._answers[key] = _Last(answer, as_of_s)
            self._answers.move_to_end(key)
            if len(self._answers) > MOST_KEPT:
                self._answers.popitem(last=False)

    def of(self, key: Any) -> _Last | None:
        with self._lock:
            return self._answers.get(key)


@st.cache_resource(show_spinner=False)
def _last_answers() -> _LastAnswers:
    return _LastAnswers()


@dataclass(frozen=True, slots=True)
class Aged:
    """What is shown is of an earlier time."""

    as_of_s: float
    why: str  # the sentence of the source that is away


def aged() -> Aged | None:
    """Of this drawing so far, the oldest answer that was given for want of a new one."""
    return _aged.get(None)


def _note(found: Aged) -> None:
    known = _aged.get(None)
    if known is None or found.as_of_s < known.as_of_s:
        _aged.set(found)


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
_aged: ContextVar[Aged | None] = ContextVar("aged")


def begin() -> None:
    """A new drawing: what was said on the last one may be said again."""
    _said.set(set())
    _aged.set(None)


def was_said(sentence: str) -> bool:
    return sentence in _said.get(set())


def saying(sentence: str) -> None:
    """It stands on the page by now, and need not be said again."""
    _said.set({*_said.get(set()), sentence})


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
    if was_said(sentence):
        st.caption("Not shown, for the reason above.")
        return
    saying(sentence)
    show(escaped(sentence), icon=icon)


def optional(question: Callable[[], T], otherwise: D) -> T | D:
    """An answer that a part can do without: edits to mark, prices, replicas."""
    try:
        return question()
    except DashboardError:
        return otherwise
