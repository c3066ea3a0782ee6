"""Which prompts are given up, so that the most have their first token in time."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from predictor.core.rows import Row
from predictor.policy.promptness import Prompt, late_prompts


def prompts(*sizes: tuple[int, float]) -> list[Prompt]:
    made = [
        Prompt(Row("model", "tier", tokens, 0.0, deadline_s), tokens, deadline_s)
        for tokens, deadline_s in sizes
    ]
    return sorted(made, key=lambda prompt: prompt.deadline_s)


def all_in_time(chosen: list[Prompt]) -> bool:
    ends_s = 0.0
    for prompt in chosen:
        ends_s += prompt.tokens
        if ends_s > prompt.deadline_s:
            return False
    return True


def test_the_longest_gives_way() -> None:
    long, short = prompts((80, 100.0), (30, 101.0))
    assert late_prompts([long, short], 0.0, 1.0) == [long]
    assert late_prompts([long, short], 0.0, 2.0) == []
    assert late_prompts([long], 30.0, 1.0) == [long]
    assert late_prompts([long], 15.0, 1.0, step_s=10.0) == [long]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 80)), max_size=7))
def test_no_choice_has_more_in_time(sizes: list[tuple[int, int]]) -> None:
    everyone = prompts(*((tokens, float(deadline)) for tokens, deadline in sizes))
    late = late_prompts(everyone, 0.0, 1.0)
    kept = [prompt for prompt in everyone if prompt not in late]
    assert all_in_time(kept)
    most = max(
        size
        for size in range(len(everyone) + 1)
        if any(all_in_time(list(chosen)) for chosen in combinations(everyone, size))
    )
    assert len(kept) == most
