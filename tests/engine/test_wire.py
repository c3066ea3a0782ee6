"""Messages through frames, whole and in pieces, and what must not pass."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.core import errors
from predictor.core.facts import EdgeRefused, EdgeTimed
from predictor.core.model import ModelSpec, Task
from predictor.core.rows import Outcome
from predictor.engine import wire
from predictor.engine.port import EngineStatus, Reply, RowInput, Submission
from predictor.engine.wire import FROM_EDGE, FROM_ENGINE, FrameReader, FromEdge, FromEngine

IDS = st.integers(0, 2**63)
SECONDS = st.floats(0, 1e9)
MAYBE_SECONDS = st.none() | SECONDS
SIZES = st.integers(0, 2**31)
SPECS = st.builds(ModelSpec, st.text(), st.sampled_from(Task), st.text(), st.text(), SIZES, SIZES)
FROM_EDGES: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        wire.Submit,
        IDS,
        st.builds(
            Submission,
            model=st.text(),
            rows=st.lists(
                st.builds(
                    RowInput,
                    st.binary(),
                    st.integers(0, 2**31),
                    page_hashes=st.lists(st.binary(max_size=16)).map(tuple),
                )
            ),
            tier=st.none() | st.text(),
            priority=st.none() | st.integers(0, 1000),
            timeout_s=MAYBE_SECONDS,
            arrived_s=MAYBE_SECONDS,
            return_s=SECONDS,
        ),
    ),
    st.builds(wire.Cancel, IDS),
    st.builds(wire.AskMetrics, IDS, st.text()),
    st.builds(EdgeTimed, st.text(), st.text(), SECONDS, SECONDS, SECONDS),
    st.builds(EdgeRefused, st.text(), st.text(), st.sampled_from(Outcome)),
)
FROM_ENGINES: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        wire.Answered,
        IDS,
        st.builds(Reply, st.lists(st.binary()), SECONDS, SECONDS, st.integers(1, 1000)),
    ),
    st.builds(wire.Failed, IDS, st.text(), st.text(), SECONDS),
    st.builds(wire.Exposed, IDS, st.binary(), st.text()),
    st.builds(
        wire.Status,
        st.builds(
            EngineStatus,
            st.booleans(),
            st.integers(0, 2**31),
            st.dictionaries(st.text(), SPECS),
            st.lists(st.text()).map(tuple),
        ),
    ),
)


def pieces(data: bytes, ends: list[int]) -> list[bytes]:
    cuts = [0, *sorted(end % (len(data) + 1) for end in ends), len(data)]
    return [data[start:end] for start, end in pairwise(cuts)]


def turns(messages: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.lists(messages), max_size=5)


@given(
    turns(FROM_EDGES).map(lambda said: (FROM_EDGE, said))
    | turns(FROM_ENGINES).map(lambda said: (FROM_ENGINE, said)),
    st.lists(st.integers(0), max_size=9),
)
def test_all_is_understood_however_the_bytes_come(spoken: tuple[Any, Any], ends: list[int]) -> None:
    decoder, said = spoken
    data = b"".join(map(wire.encode, said))
    reader: FrameReader[Any] = FrameReader(decoder)
    heard = [message for piece in pieces(data, ends) for message in reader.feed(piece)]
    assert heard == [message for turn in said for message in turn]


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    reader: FrameReader[FromEdge] = FrameReader(FROM_EDGE)
    try:
        reader.feed(data)
    except wire.WireError:
        return


def test_a_frame_over_the_limit_is_refused_by_its_length() -> None:
    reader: FrameReader[FromEdge] = FrameReader(FROM_EDGE)
    with pytest.raises(wire.WireError, match="is over"):
        reader.feed((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "little"))


def answered(request_id: int, size: int) -> wire.Answered:
    return wire.Answered(request_id, Reply([bytes(size)], 0.0, 0.0, 1))


def test_a_turn_over_the_limit_takes_several_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 300)
    messages = [answered(number, 100) for number in range(7)]
    reader: FrameReader[FromEngine] = FrameReader(FROM_ENGINE)
    assert reader.feed(wire.encode(messages)) == messages


def test_an_answer_over_the_limit_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 300)
    reader: FrameReader[FromEngine] = FrameReader(FROM_ENGINE)
    first, second, third = reader.feed(
        wire.encode([answered(1, 9), answered(2, 400), answered(3, 9)])
    )
    assert (first, third) == (answered(1, 9), answered(3, 9))
    assert isinstance(second, wire.Failed)
    assert second.id == 2
    assert isinstance(wire.error_of(second), errors.RowFailed)
    with pytest.raises(wire.WireError):
        wire.encode([wire.AskMetrics(1, "x" * 400)])


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("a"),
        errors.RequestTooLarge("b"),
        errors.UnknownModel("c"),
        errors.QueueFull("d", 2.5),
        errors.Shed("e", 0.25),
        errors.DeadlineExceeded("f"),
        errors.Unavailable("g", 7.0),
        errors.RowFailed("h"),
    ],
)
def test_errors_cross_as_they_are(error: errors.HeadwayError) -> None:
    crossed = wire.error_of(wire.failed(1, error))
    assert type(crossed) is type(error)
    assert vars(crossed) == vars(error)
    assert crossed.message == error.message


def test_an_error_of_nobody_crosses_as_the_base_class() -> None:
    crossed = wire.error_of(wire.failed(1, ZeroDivisionError("division by zero")))
    assert type(crossed) is errors.HeadwayError
    assert crossed.message == "division by zero"


def test_a_message_that_is_no_text_crosses_all_the_same() -> None:
    message = wire.failed(1, errors.RowFailed("a path: \udcff"))
    reader: FrameReader[FromEngine] = FrameReader(FROM_ENGINE)
    assert reader.feed(wire.encode([message])) == [message]
