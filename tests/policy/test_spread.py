"""Which engine gets the next request."""

from predictor.policy.spread import least_loaded


def test_the_least_loaded_is_chosen() -> None:
    assert least_loaded([30, 10, 20], after=0) == 1


def test_equals_take_turns() -> None:
    chosen = [-1]
    for _ in range(6):
        position = least_loaded([5, 5, 9, 5], chosen[-1])
        assert position is not None
        chosen.append(position)
    assert chosen[1:] == [0, 1, 3, 0, 1, 3]


def test_only_those_that_can_be_asked_count() -> None:
    assert least_loaded([None, 10, None], after=1) == 1
    assert least_loaded([None, None], after=0) is None
    assert least_loaded([], after=-1) is None
