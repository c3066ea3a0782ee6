"""Silence counts only for those who could have heard."""

from hypothesis import given
from hypothesis import strategies as st

from predictor.engine.pulse import BEAT_S, DEAD_S, SILENT_S, Pulse


@given(st.integers(0, 100))
def test_silence_is_as_long_as_nothing_is_heard(beats: int) -> None:
    pulse = Pulse(10.0)
    silent_s = [pulse.silent_s(10.0 + BEAT_S * beat) for beat in range(beats + 1)]
    assert silent_s == [BEAT_S * beat for beat in range(beats + 1)]
    pulse.heard(10.0 + BEAT_S * beats)
    assert pulse.silent_s(10.0 + BEAT_S * (beats + 1)) == BEAT_S


@given(
    st.lists(st.tuples(st.floats(0.9, 1.5), st.booleans()), min_size=1),
    st.floats(2 * DEAD_S, 1e6),
)
def test_who_stood_still_itself_knows_nothing(
    beats: list[tuple[float, bool]], stood_still_s: float
) -> None:
    pulse, now_s = Pulse(0.0), 0.0
    for gap_s, heard in beats:
        now_s += gap_s
        if heard:
            pulse.heard(now_s)
        before_s = pulse.silent_s(now_s)
    now_s += stood_still_s
    assert pulse.silent_s(now_s) <= before_s + BEAT_S + 1e-6


def test_a_replica_is_not_ready_long_before_it_is_started_again() -> None:
    assert 3 * BEAT_S <= SILENT_S <= DEAD_S / 3
