"""What bulk work leaves free is learned from urgent rows that miss their deadline."""

from predictor.policy.margin import INITIAL, LARGEST, MISSED, MOST_AT_ONCE, Margin


def test_in_the_end_nothing_is_left_free_where_nobody_misses() -> None:
    margin = Margin()
    margin.kept(100)
    assert 0.0 < margin.share < INITIAL
    margin.kept(10_000)
    assert margin.share == 0.0


def test_it_settles_where_few_rows_miss() -> None:
    """Rows miss less the wider the margin: here none from 0.2 on."""
    margin, missed, owed = Margin(), 0, 0.0
    for _ in range(20_000):
        margin.kept(10)
        owed += 10 * max(0.2 - margin.share, 0.0)
        margin.missed(int(owed))
        missed += int(owed)
        owed -= int(owed)
    assert abs(missed / 200_000 - MISSED) < MISSED / 4


def test_a_hiccup_that_makes_a_whole_batch_late_is_one_event() -> None:
    margin = Margin()
    margin.missed(500)
    assert margin.share <= INITIAL + MOST_AT_ONCE
    for _ in range(50):
        margin.missed(500)
    assert margin.share == LARGEST
