"""A runner of steps: pieces of rows in, the tokens that they sampled out.

A step is laid out on the host (step_inputs.py), staged in one copy, and run: forward, logits of
the rows that sample, choice. What a row was given last stays on the device, by slot, and is its
next piece's input, so that a step can be planned before the one before it has ended. Nothing of a
row advances before the step is whole: one that fails may be run again with fewer pieces.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from predictor.core.generation import Sampled
from predictor.core.model import ModelSpec
from predictor.core.rows import Piece
from predictor.engine.port import DeviceMemoryExhausted
from predictor.runner.decoder import DecoderWeights, forward, logits
from predictor.runner.paged_attention import GatheredAttention
from predictor.runner.paged_memory import PagedMemory
from predictor.runner.sampling import Sampler
from predictor.runner.step_inputs import FROM_SLOT, Occupants, StepInputs

NOT_FINITE = (
    "the model's output for this input is not finite, so no token can be chosen; try dtype float32"
)


class Generator:
    """Runs a decoder whose weights and memory are on `spec.device` already."""

    def __init__(self, spec: ModelSpec, weights: DecoderWeights, memory: PagedMemory) -> None:
        self.spec = spec
        self._weights = weights
        self._memory = memory
        self._device = torch.device(spec.device)
        vocabulary = weights.shape.vocabulary
        self._last = torch.zeros(memory.slots, dtype=torch.int64, device=self._device)
        self._sampler = Sampler(memory.slots, vocabulary, self._device)
        self._occupants = Occupants(
            slots=memory.slots,
            pages=memory.pages,
            max_tokens=spec.max_tokens,
            vocabulary=vocabulary,
        )

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        """See StepRunner. Called from one thread at a time.

        Raises DeviceMemoryExhausted where the device has no room for the step.
        """
        step = self._occupants.lay_out(pieces)
        if not step.count:
            return results_of(pieces, step.failures, {}, self._occupants)
        try:
            with torch.inference_mode():
                sampled = self._run(step)
        except torch.OutOfMemoryError:
            self._occupants.roll_back()
        except BaseException:
            self._occupants.roll_back()
            raise
        else:
            return results_of(pieces, step.failures, sampled, self._occupants)
        # Here the traceback that kept the step's tensors alive is gone.
        torch.cuda.empty_cache()
        raise DeviceMemoryExhausted(
            f"no memory on {self.spec.device} for a step of {step.count} rows"
        )

    def logits_of(self, pieces: Sequence[Piece]) -> Sequence[Tensor]:
        """Of each piece, float32 [tokens, vocabulary]: what the trial at load compares."""
        step = self._occupants.lay_out(pieces)
        with torch.inference_mode():
            made = logits(self._weights, self._hidden(step))
        return [made[span] for _, span in sorted(step.spans().items())]

    def _run(self, step: StepInputs) -> Mapping[int, Sampled | None]:
        """What was chosen, by place."""
        hidden = self._hidden(step)
        samples = step.samples()
        if not samples.tokens:
            return {}
        draws = self._occupants.draws(samples)
        ends = torch.tensor(samples.tokens, device=self._device)
        choice = self._sampler.choose(logits(self._weights, hidden[ends]), draws)
        self._last[torch.tensor(samples.slots, device=self._device)] = choice.ids
        self._sampler.count(draws, choice.ids)
        return dict(zip(samples.places, choice.sampled(), strict=True))

    def _hidden(self, step: StepInputs) -> Tensor:
        """Hidden states [T, hidden] of the step's tokens, after its slots were made ready."""
        memory = self._memory
        for slot, row, prompt, output in step.begun:
            assert row.progress is not None
            self._sampler.begin(slot, row.progress.sampling, prompt, output)
        if step.added:
            memory.append(step.added)
        if step.fresh_pages:
            memory.clear(step.fresh_pages)
        staged = np.empty((3, step.tokens), np.int32)
        step.stage(staged)
        slots, ids, positions = torch.from_numpy(staged).to(self._device).long().unbind()
        ids = ids.where(ids != FROM_SLOT, self._last[slots])
        attention = GatheredAttention(
            memory,
            step.rows(),
            memory.places(slots, positions),
            self._weights.shape.windows,
        )
        return forward(self._weights, ids, positions, attention)


def results_of(
    pieces: Sequence[Piece],
    failures: Mapping[int, Exception],
    sampled: Mapping[int, Sampled | None],
    occupants: Occupants,
) -> Sequence[Sampled | Exception | None]:
    """What a step gave, in the order of `pieces`. `failures` and what was `sampled` are by place;
    None of the latter where logits were no numbers: that row cannot go on."""
    results: list[Sampled | Exception | None] = [None] * len(pieces)
    for place, failure in failures.items():
        results[place] = failure
    for place, token in sampled.items():
        results[place] = token
        if token is None:
            piece = pieces[place]
            results[place] = not_finite = FloatingPointError(NOT_FINITE)
            occupants.fail(piece.slot, piece.row, not_finite)
    return results
