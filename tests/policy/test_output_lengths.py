"""Output lengths: what rows will come to, from those that have ended."""

import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.policy.output_lengths import OutputLengths

MOST = 100_000


def learned(lengths: list[int], max_tokens: int = MOST) -> OutputLengths:
    made = OutputLengths()
    for length in lengths:
        made.add(min(length, max_tokens), cut=length > max_tokens)
    return made


def lognormal(median: float, sigma: float, count: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [max(1, round(median * rng.lognormvariate(0, sigma))) for _ in range(count)]


@pytest.mark.parametrize("generated", [0, 50, 150, 400])
def test_what_is_learned_is_conditioned_on_what_was_generated(generated: int) -> None:
    made = learned(lognormal(150, 0.8, 4000))
    rest = sorted(each for each in lognormal(150, 0.8, 40_000, seed=2) if each > generated)
    assert made.expected(generated, MOST) == pytest.approx(mean(rest), rel=0.15)
    for share in (0.5, 0.9):
        true = rest[int(share * len(rest))]
        assert made.quantile(share, generated, MOST) == pytest.approx(true, rel=0.4)


def test_rows_that_were_cut_off_do_not_hide_how_long_they_would_have_been() -> None:
    lengths = lognormal(200, 0.6, 4000)
    made = OutputLengths()
    for number, length in enumerate(lengths):
        most = 100 if number % 2 else MOST
        made.add(min(length, most), cut=length > most)
    assert made.expected(0, MOST) == pytest.approx(mean(lengths), rel=0.15)


def test_rows_that_max_tokens_ends_are_as_long_as_they_were() -> None:
    """How long they would have been is not known, and nobody will see."""
    lengths = lognormal(150, 0.8, 1000)
    made = OutputLengths()
    for length in lengths:
        made.add(length, cut=True)
    assert made.mean == pytest.approx(mean(lengths[-400:]), rel=0.15)


def test_a_change_is_followed() -> None:
    made = learned(lognormal(1000, 0.5, 3000))
    for length in lognormal(50, 0.5, 3000):
        made.add(length, cut=False)
    assert made.expected(0, MOST) == pytest.approx(57, rel=0.4)


def test_before_anything_is_known_lengths_are_moderate() -> None:
    made = OutputLengths()
    assert 50 < made.expected(0, MOST) < 1000
    assert 50 < made.mean < 1000
    assert made.expected(0, 10) <= 10


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.booleans()), max_size=60),
    st.integers(0, 3000),
    st.integers(1, 3000),
    st.floats(0.05, 0.99),
)
def test_predictions_are_within_what_is_possible(
    ended: list[tuple[int, bool]], generated: int, more: int, share: float
) -> None:
    made = OutputLengths()
    for tokens, cut in ended:
        made.add(tokens, cut=cut)
    most = generated + more
    assert generated < made.expected(generated, most) <= most
    assert generated < made.quantile(share, generated, most) <= most
    assert made.quantile(share, generated, most) <= made.quantile(0.995, generated, most)
