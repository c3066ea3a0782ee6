"""The kernel chooses what sampling.py chooses; `tell` writes what the host knows of slots."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from predictor.core.generation import GREEDY, Sampling
from predictor.runner.kernels.sampling import NOT_FINITE, PARAMETERS, choose, parameters_of
from predictor.runner.kernels.slots import tell
from predictor.runner.sampling import Draw, Sampler
from tests.runner.kernels import DEVICE

UNTOUCHED = 77


def asks(**sampling: float) -> Sampling:
    return Sampling(max_tokens=9, **sampling)  # type: ignore[arg-type]


def logits_of(rows: int, vocabulary: int, *, spread: float = 3.0) -> Tensor:
    random = torch.Generator().manual_seed(vocabulary)
    return (torch.randn(rows, vocabulary, generator=random) * spread).to(DEVICE)


def choose_both(
    logits: Tensor, asked: Sequence[Sampling], positions: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Of the kernel, and of sampling.py: ids, NOT_FINITE where logits are no numbers.

    The row in line i is in slot n - 1 - i.
    """
    rows, vocabulary = logits.shape
    slots = list(reversed(range(rows)))
    sampler = Sampler(rows, vocabulary, DEVICE)
    parameters = torch.zeros((rows + 1, PARAMETERS), dtype=torch.int32)
    for slot, each in zip(slots, asked, strict=True):
        sampler.begin(slot, each, np.zeros(1, np.int64), [])
        parameters[slot] = torch.from_numpy(parameters_of(each))
    draws = [Draw(slot, position, 1) for slot, position in zip(slots, positions, strict=True)]
    expected = sampler.choose(logits.clone(), draws)
    last = torch.full((rows + 1, 2), UNTOUCHED, dtype=torch.int32, device=DEVICE)
    chosen = torch.full((rows,), UNTOUCHED, dtype=torch.int32, device=DEVICE)

    def told(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=DEVICE)

    choose(
        logits, told(range(rows)), told(slots), told(positions), parameters.to(DEVICE), last, chosen
    )
    for slot, position, id_ in zip(slots, positions, chosen.tolist(), strict=True):
        assert last[slot, position % 2] == max(id_, 0)
        assert last[slot, 1 - position % 2] == UNTOUCHED
    ids = expected.ids.where(expected.finite, NOT_FINITE)
    return chosen.tolist(), ids.tolist()


MIXED = [
    asks(temperature=GREEDY),
    asks(),
    asks(temperature=0.3, top_p=0.9),
    asks(temperature=2.0, top_k=5),
    asks(temperature=2.0, top_k=5, top_p=0.5),
    asks(temperature=1.5, min_p=0.05),
    asks(temperature=3.0, min_p=0.01, top_k=20, top_p=0.7),
    asks(temperature=100.0),
    asks(temperature=1e-3),
    asks(temperature=GREEDY, top_k=3, top_p=0.5, min_p=0.1),
]


@pytest.mark.parametrize("vocabulary", [16, 300])
def test_rows_are_chosen_for_by_their_own_parameters(vocabulary: int) -> None:
    asked = [msgspec.structs.replace(each, seed=seed) for seed, each in enumerate(MIXED)]
    positions = range(30_001, 30_001 + len(MIXED))
    made, expected = choose_both(logits_of(len(MIXED), vocabulary), asked, positions)
    assert made == expected
    assert len(set(made)) > len(MIXED) // 2


def test_a_vocabulary_larger_than_a_block() -> None:
    logits = logits_of(4, 9001, spread=1.0)
    logits[0, 9000] = 50.0
    logits[1, 4096] = logits[1, 8192] = 50.0  # of equal ones, the first
    asked = [asks(temperature=GREEDY), asks(temperature=GREEDY), asks(seed=4), asks(top_k=50)]
    made, expected = choose_both(logits, asked, [3, 4, 5, 6])
    assert made == expected
    assert made[:2] == [9000, 4096]


@pytest.mark.parametrize(
    "seed", [0, 1, -1, 2**32 - 1, 2**32, 2**63 - 1, -(2**63), 2**64 - 1, 0x80000000]
)
def test_seeds_of_any_size(seed: int) -> None:
    made, expected = choose_both(logits_of(2, 500, spread=0.3), [asks(seed=seed)] * 2, [7, 2**20])
    assert made == expected
    assert made[0] != made[1]


BORDERS = {
    "top_k 1": asks(temperature=5.0, top_k=1),
    "top_k of all": asks(top_k=40),
    "top_k of all but one": asks(temperature=9.0, top_k=39),
    "top_k of more": asks(top_k=41),
    "top_k of far more": asks(top_k=2**40),
    "top_p tiny": asks(temperature=5.0, top_p=1e-9),
    "top_p nearly all": asks(temperature=9.0, top_p=1 - 1e-7),
    "min_p all": asks(temperature=5.0, min_p=1.0),
    "min_p tiny": asks(temperature=5.0, min_p=1e-30),
    "temperature tiny": asks(temperature=1e-30),
    "temperature huge": asks(temperature=1e30),
}


@pytest.mark.parametrize("border", BORDERS)
def test_borders(border: str) -> None:
    made, expected = choose_both(logits_of(2, 40), [BORDERS[border]] * 2, [1, 2])
    assert made == expected
    if border in {"top_k 1", "top_p tiny", "min_p all", "temperature tiny"}:
        assert made == logits_of(2, 40).argmax(-1).tolist()


@pytest.mark.parametrize(
    "sampling", [asks(top_k=2), asks(top_p=0.5), asks(min_p=0.5), asks(top_k=3, top_p=0.6)]
)
def test_as_likely_as_the_last_that_is_kept_is_kept_too(sampling: Sampling) -> None:
    """Half, and six times a twelfth: beside the first, there is no telling the others apart."""
    weights = torch.tensor([6.0, 1, 1, 1, 0, 1, 1, 1]).to(DEVICE)
    logits = weights.log().expand(8, 8).contiguous()
    made, expected = choose_both(logits, [sampling] * 8, range(1, 9))
    assert made == expected
    assert 4 not in made
    kept = {0} if sampling.top_p == 0.5 or sampling.min_p else set(range(8)) - {4}
    assert set(made) <= kept
    assert (len(set(made)) > 2) == (len(kept) > 1)


@pytest.mark.parametrize("temperature", [GREEDY, 1.0])
def test_logits_that_are_no_numbers(temperature: float) -> None:
    logits = logits_of(7, 4200)
    logits[0, 0] = logits[1, 4199] = math.nan
    logits[2, 5] = math.inf
    logits[3] = -math.inf
    logits[4, 10], logits[4, 4100] = math.nan, math.inf
    logits[5, ::2] = -math.inf  # half of them cannot be chosen, which is fine
    made, expected = choose_both(logits, [asks(temperature=temperature)] * 7, [9] * 7)
    assert made == expected
    assert made[:5] == [NOT_FINITE] * 5
    assert made[5] % 2 == 1
    assert made[6] >= 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_sixteen_bits(dtype: torch.dtype) -> None:
    """Many of them are equal."""
    logits = logits_of(3, 300).to(dtype)
    asked = [asks(temperature=GREEDY), asks(top_k=7), asks(top_p=0.8)]
    made, _ = choose_both(logits, asked, [1, 2, 3])
    assert made == choose_both(logits.float(), asked, [1, 2, 3])[1]


def test_where_there_is_no_row_nothing_is_written() -> None:
    logits = logits_of(2, 40)
    none = torch.tensor([-1, -1], dtype=torch.int32, device=DEVICE)
    last = torch.full((3, 2), UNTOUCHED, dtype=torch.int32, device=DEVICE)
    chosen = torch.full((2,), UNTOUCHED, dtype=torch.int32, device=DEVICE)
    parameters = torch.zeros((3, PARAMETERS), dtype=torch.int32, device=DEVICE)
    zeros = torch.zeros(2, dtype=torch.int32, device=DEVICE)
    choose(logits, none, zeros, zeros, parameters, last, chosen)
    assert (last == UNTOUCHED).all()
    assert (chosen == UNTOUCHED).all()


@pytest.mark.parametrize(
    ("pages", "begun"), [(0, 1), (1, 0), (3, 2), (130, 1), (2, 129), (257, 140)]
)
def test_tell(pages: int, begun: int) -> None:
    random = torch.Generator().manual_seed(0)
    slots, places = 150, 4

    def drawn(lines: int, *sides: int) -> Tensor:
        """Distinct places of a table with such sides, in any order."""
        chosen = torch.randperm(math.prod(sides), generator=random)[:lines]
        return torch.stack(torch.unravel_index(chosen, sides), dim=1).int()

    numbers = torch.arange(1000, 1000 + pages, dtype=torch.int32)[:, None]
    told = torch.cat((drawn(pages, slots, places), numbers), dim=1)
    lines = torch.randint(-(2**31), 2**31, (begun, PARAMETERS), generator=random).int()
    started = torch.cat((drawn(begun, slots), lines), dim=1)
    tables = torch.full((slots + 1, places), UNTOUCHED, dtype=torch.int32)
    parameters = torch.full((slots + 1, PARAMETERS), UNTOUCHED, dtype=torch.int32)
    made = tables.to(DEVICE, copy=True), parameters.to(DEVICE, copy=True)
    tell(told.to(DEVICE), started.to(DEVICE), *made)
    for slot, place, page in told.tolist():
        tables[slot, place] = page
    for slot, *line in started.tolist():
        parameters[slot] = torch.tensor(line)
    assert torch.equal(made[0].cpu(), tables)
    assert torch.equal(made[1].cpu(), parameters)
