"""Who loses a place among the bodies of jobs; time is an argument."""

import pytest

from predictor.core.errors import QueueFull
from predictor.edge.streams import MIN_BYTES_PER_S, WINDOW_S, Stream, Streams


def moving(bytes_per_s: float, seconds: float) -> Stream:
    """A stream whose client moved so much in each second before 0."""
    stream = Stream()
    for second in range(int(seconds)):
        stream.waits(second - seconds)
        stream.moved(int(bytes_per_s), second + 1 - seconds)
    return stream


def full(*streams: Stream) -> Streams:
    places = Streams(len(streams))
    for stream in streams:
        places.enter(stream, 0.0)
    return places


@pytest.mark.parametrize("pace", [1, 1000, MIN_BYTES_PER_S, 10 * MIN_BYTES_PER_S])
@pytest.mark.parametrize("seconds", [WINDOW_S, 7 * WINDOW_S])
def test_a_pace_is_what_the_client_moves(pace: int, seconds: float) -> None:
    assert moving(pace, seconds).bytes_per_s(0.0) == pytest.approx(pace, rel=0.1, abs=1)


def test_the_slowest_goes_first() -> None:
    slow, slower, fast = moving(900, 20), moving(100, 20), moving(1e6, 20)
    places = full(slow, slower, fast)
    for lost in (slower, slow):
        places.enter(moving(1e6, 20), 0.0)
        assert lost.too_slow
        places.leave(lost)
    with pytest.raises(QueueFull):
        places.enter(Stream(), 0.0)
    assert not fast.too_slow


def test_a_new_client_and_a_slow_server_are_given_time() -> None:
    new = Stream()
    new.waits(0.0)
    kept_by_us = moving(1e6, 20)  # since then it was not waited for
    places = full(new, kept_by_us)
    with pytest.raises(QueueFull):
        places.enter(Stream(), WINDOW_S / 4)
    places.enter(Stream(), 2 * WINDOW_S)
    assert new.too_slow
    assert not kept_by_us.too_slow


def test_a_client_that_stops_is_slow_whatever_it_moved_before() -> None:
    stopped = moving(MIN_BYTES_PER_S, 20)
    stopped.waits(0.0)
    full(stopped).enter(Stream(), 3 * WINDOW_S)
    assert stopped.too_slow


def test_a_stream_that_left_holds_no_place() -> None:
    left = moving(1, 20)
    places = full(left)
    places.leave(left)
    places.enter(Stream(), 0.0)
    assert not left.too_slow
