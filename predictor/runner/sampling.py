"""How a step's tokens are chosen: on the device, for each row by its own parameters.

In this order, as vLLM and OpenAI do: `logit_bias` is added, stop tokens are banned until
`min_tokens`, penalties, temperature, `min_p`, `top_k`, `top_p`. Presence and frequency penalties
count what was generated, the repetition penalty the prompt too. Logprobs are those of the model:
of its logits before any of that.

What is drawn depends on the row's seed and the token's position alone: a hash of the two gives
one number in [0, 1), at which the cumulative probabilities are cut (inverse transform). It is
computed on the host, so that it is the same on every device and in every step. `top_p` needs no
sorting: the smallest probability that is kept is found by bisection over the bits of a float,
thirty sums over the vocabulary whatever the distribution.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictor.core.generation import GREEDY, Sampled, Sampling

_MASKED = float("-inf")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FLOAT_BITS = 53


@dataclass(frozen=True, slots=True)
class Draw:
    """A token to choose: for the row in `slot`, at `position`, its `count`-th one (from 0)."""

    slot: int
    position: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Logprobs:
    """Of some of the tokens that were chosen, by `indices`: their own, and the likeliest.

    `own` [n], `ids` and `values` [n, most]; `wanted`: how many of the likeliest each asked for.
    """

    indices: Sequence[int]
    wanted: Sequence[int]
    own: Tensor
    ids: Tensor
    values: Tensor

    def among(self, lines: Sequence[int]) -> "Logprobs":
        """The same, where those that were chosen for are these lines of more."""
        indices = [lines[index] for index in self.indices]
        return Logprobs(indices, self.wanted, self.own, self.ids, self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """`ids` INT64 [n] and whether the logits were `finite`, on the device."""

    ids: Tensor
    finite: Tensor
    logprobs: Logprobs | None

    def sampled(self) -> list[Sampled | None]:
        """What there is to tell of each: None where the logits are no numbers. Waits for the
        device."""
        sampled: list[Sampled | None] = [
            Sampled(token) if fine else None
            for token, fine in zip(self.ids.tolist(), self.finite.tolist(), strict=True)
        ]
        if self.logprobs is not None:
            tell_logprobs(self.logprobs, sampled)
        return sampled


def tell_logprobs(logprobs: Logprobs, sampled: list[Sampled | None]) -> None:
    """Put them where they are asked for."""
    rows = zip(
        logprobs.indices,
        logprobs.wanted,
        logprobs.own.tolist(),
        logprobs.ids.tolist(),
        logprobs.values.tolist(),
        strict=True,
    )
    for index, wanted, own, ids, values in rows:
        token = sampled[index]
        if token is not None:
            top = tuple(zip(ids[:wanted], values[:wanted], strict=True))
            sampled[index] = Sampled(token.id, own, top)


class Sampler:
    """Chooses tokens, and keeps for each slot what its row asks for and has had so far."""

    def __init__(self, slots: int, vocabulary: int, device: torch.device) -> None:
        self._asked: list[Sampling] = [Sampling(max_tokens=1)] * slots
        self._biases: dict[int, tuple[Tensor, Tensor]] = {}  # by slot: ids, values
        self._stops: dict[int, Tensor] = {}  # by slot
        self.apart: set[int] = set()  # slots whose rows ask for what the kernel does not do
        self._vocabulary = vocabulary
        self._device = device
        self._slots = slots
        # Both [slots, vocabulary], made for the first row with a penalty.
        self._generated: Tensor | None = None
        self._in_prompt: Tensor | None = None

    def begin(
        self, slot: int, sampling: Sampling, prompt: NDArray[np.int64], output: Sequence[int]
    ) -> None:
        """A row begins in `slot`, or begins again with what it has generated before."""
        self._asked[slot] = sampling
        self._biases.pop(slot, None)
        self._stops.pop(slot, None)
        self.apart.discard(slot)
        if _asks_more(sampling):
            self.apart.add(slot)
        if sampling.logit_bias:
            ids, values = zip(*sampling.logit_bias, strict=True)
            self._biases[slot] = (self.tensor(ids), self.tensor(values, torch.float32))
        if sampling.min_tokens and sampling.stop_ids:
            self._stops[slot] = self.tensor(sampling.stop_ids)
        if _penalised(sampling):
            generated, in_prompt = self._tables()
            generated[slot] = 0
            in_prompt[slot] = False
            in_prompt[slot, self.tensor(prompt.tolist())] = True
            if output:
                earlier = self.tensor(output)
                generated[slot].index_add_(0, earlier, torch.ones_like(earlier, dtype=torch.int32))

    def choose(self, logits: Tensor, draws: Sequence[Draw]) -> Choice:
        """From `logits` float32 [n, vocabulary], a row for each of `draws`. Counts nothing yet."""
        most, ids = logits.max(dim=-1)
        special = [index for index, draw in enumerate(draws) if self._is_special(draw)]
        if special:
            where = self.tensor(special)
            ids[where], most[where] = self._specially(logits[where], [draws[i] for i in special])
        return Choice(ids, torch.isfinite(most), self._logprobs(logits, draws, ids))

    def count(self, draws: Sequence[Draw], ids: Tensor) -> None:
        """What `choose` chose for `draws` counts as generated."""
        penalised = [i for i, draw in enumerate(draws) if _penalised(self._asked[draw.slot])]
        if penalised:
            generated, _ = self._tables()
            slots = self.tensor([draws[index].slot for index in penalised])
            generated[slots, ids[self.tensor(penalised)]] += 1  # a slot has one token in a step

    def _is_special(self, draw: Draw) -> bool:
        asked = self._asked[draw.slot]
        return (
            asked.temperature != GREEDY
            or draw.slot in self._biases
            or draw.count < asked.min_tokens
            or _penalised(asked)
        )

    def _specially(self, logits: Tensor, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        """Ids, and the largest logit that was left. `logits` is a copy, and is changed."""
        asked = [self._asked[draw.slot] for draw in draws]
        for index, draw in enumerate(draws):
            if draw.slot in self._biases:
                ids, values = self._biases[draw.slot]
                logits[index].index_add_(0, ids, values)
            if draw.count < asked[index].min_tokens and draw.slot in self._stops:
                logits[index, self._stops[draw.slot]] = _MASKED
        rows = [index for index, each in enumerate(asked) if _penalised(each)]
        if rows:
            where = self.tensor(rows)
            logits[where] = self._penalise(
                logits[where], [draws[i].slot for i in rows], [asked[i] for i in rows]
            )
        most, chosen = logits.max(dim=-1)
        rows = [index for index, each in enumerate(asked) if each.temperature != GREEDY]
        if rows:
            where = self.tensor(rows)
            seeds, positions = (
                [asked[index].seed for index in rows],
                [draws[index].position for index in rows],
            )
            chosen[where] = draw_tokens(
                logits[where],
                [asked[index] for index in rows],
                on_device(uniforms(seeds, positions), torch.float64, self._device),
            )
        return chosen, most

    def _penalise(self, logits: Tensor, slots: Sequence[int], asked: Sequence[Sampling]) -> Tensor:
        generated, in_prompt = self._tables()
        where = self.tensor(slots)
        counts = generated[where]
        seen = counts > 0
        repetition = self._column(asked, lambda each: each.repetition_penalty)
        repeated = torch.where(logits > 0, logits / repetition, logits * repetition)
        logits = torch.where(seen | in_prompt[where], repeated, logits)
        logits = logits - counts * self._column(asked, lambda each: each.frequency_penalty)
        return logits - seen * self._column(asked, lambda each: each.presence_penalty)

    def _logprobs(self, logits: Tensor, draws: Sequence[Draw], ids: Tensor) -> Logprobs | None:
        wanted = {
            index: most
            for index, draw in enumerate(draws)
            if (most := self._asked[draw.slot].logprobs) is not None
        }
        if not wanted:
            return None
        where = self.tensor(list(wanted))
        logprobs = logits[where].log_softmax(dim=-1)
        own = logprobs.gather(1, ids[where][:, None])[:, 0]
        likeliest = logprobs.topk(min(max(wanted.values()), self._vocabulary))
        return Logprobs(
            list(wanted), list(wanted.values()), own, likeliest.indices, likeliest.values
        )

    def _tables(self) -> tuple[Tensor, Tensor]:
        if self._generated is None or self._in_prompt is None:
            size = (self._slots, self._vocabulary)
            self._generated = torch.zeros(size, dtype=torch.int32, device=self._device)
            self._in_prompt = torch.zeros(size, dtype=torch.bool, device=self._device)
        return self._generated, self._in_prompt

    def _column(self, asked: Sequence[Sampling], of: Callable[[Sampling], float]) -> Tensor:
        return self.tensor([of(each) for each in asked], torch.float32)[:, None]

    def tensor(
        self, values: Sequence[int] | Sequence[float], dtype: torch.dtype = torch.int64
    ) -> Tensor:
        return on_device(values, dtype, self._device)


def on_device(
    values: Sequence[int] | Sequence[float] | NDArray[np.float64],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """`values` there, without waiting for what the device is at."""
    pin = device.type == "cuda"
    return torch.tensor(values, dtype=dtype, pin_memory=pin).to(device, non_blocking=True)


def draw_tokens(logits: Tensor, asked: Sequence[Sampling], uniform: Tensor) -> Tensor:
    """INT64 [n] drawn from `logits` float32 [n, vocabulary] at `uniform` float64 [n] in [0, 1)."""
    device = logits.device

    def column(of: Callable[[Sampling], float]) -> Tensor:
        values = [of(each) for each in asked]
        return on_device(values, torch.float32, device)[:, None]

    # The largest is taken off first: dividing by a tiny temperature would overflow.
    weights = (
        (logits - logits.amax(-1, keepdim=True)) / column(lambda each: each.temperature)
    ).exp()
    if any(each.min_p > 0 for each in asked):
        weights = weights.where(weights >= column(lambda each: each.min_p), 0.0)
    vocabulary = logits.shape[-1]
    kept = [each.top_k if 0 < each.top_k < vocabulary else vocabulary for each in asked]
    if min(kept) < vocabulary:
        weights = _keep_likeliest(weights, kept)
    if any(each.top_p < 1 for each in asked):
        weights = _keep_nucleus(weights, column(lambda each: each.top_p))
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    # Rounding up to the total would choose what has no weight at all.
    cut = torch.minimum(uniform[:, None] * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, cut, right=True)[:, 0].clamp(max=vocabulary - 1)


def _keep_likeliest(weights: Tensor, kept: Sequence[int]) -> Tensor:
    """The `kept` largest of each row, and what is as large as the last of them."""
    vocabulary = weights.shape[-1]
    most = max(each for each in kept if each < vocabulary)
    count = on_device(kept, torch.int64, weights.device)[:, None]
    least = weights.topk(most).values.gather(1, (count - 1).clamp(max=most - 1))
    return weights.where((weights >= least) | (count >= vocabulary), 0.0)


def _keep_nucleus(weights: Tensor, top_p: Tensor) -> Tensor:
    """The fewest largest of each row that are `top_p` [n, 1] of its sum, and ties of the last.

    Weights are from 0 to 1, where a float's bits, taken as an integer, have its order.
    """
    needed = weights.sum(-1, keepdim=True) * top_p
    bits = weights.view(torch.int32)
    enough = torch.zeros_like(needed, dtype=torch.int32)  # keeping from these bits on is enough
    short = torch.full_like(enough, _bits_of(1.0) + 1)
    for _ in range(_bits_of(1.0).bit_length()):
        middle = (enough + short) // 2
        held = weights.where(bits >= middle, 0.0).sum(-1, keepdim=True)
        holds = held >= needed
        enough, short = enough.where(~holds, middle), short.where(holds, middle)
    return weights.where((bits >= enough) | (top_p >= 1), 0.0)


def uniforms(seeds: Sequence[int], positions: Sequence[int]) -> NDArray[np.float64]:
    """A number in [0, 1) for each pair, as a hash of it.

    SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
    2014) over the seed, then over what that gives stepped on by the position.
    """
    state = np.array([seed & (2**64 - 1) for seed in seeds], dtype=np.uint64)
    stepped = _finalise(state) + np.array(positions, dtype=np.uint64) * _GOLDEN
    whole = _finalise(stepped) >> np.uint64(64 - _FLOAT_BITS)
    return whole.astype(np.float64) * 2.0**-_FLOAT_BITS


def _finalise(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _bits_of(value: float) -> int:
    return int(np.float32(value).view(np.int32))


def _penalised(sampling: Sampling) -> bool:
    return (
        sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
        or sampling.repetition_penalty != 1
    )


def _asks_more(sampling: Sampling) -> bool:
    """More than temperature, `min_p`, `top_k` and `top_p`."""
    counted = _penalised(sampling) or sampling.min_tokens > 0
    return counted or bool(sampling.logit_bias) or sampling.logprobs is not None
