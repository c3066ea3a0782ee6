"""A runner of steps: pieces of rows in, the tokens that they sampled out.

A step is laid out on the host (step_inputs.py), staged in one copy, and run: forward, logits of
the rows that sample, choice. What a row was given last stays on the device, by slot, and is its
next piece's input, so that a step can be planned before the one before it has ended. Nothing of a
row advances before the step is whole: one that fails may be run again with fewer pieces.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from predictor.core.generation import Sampled
from predictor.core.model import ModelSpec
from predictor.core.rows import Piece
from predictor.engine.port import DeviceMemoryExhausted
from predictor.runner.decoder import DecoderWeights, forward, logits
from predictor.runner.paged_attention import GatheredAttention
from predictor.runner.paged_memory import PagedMemory
from predictor.runner.sampling import Choice, Sampler
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
        results: list[Sampled | Exception | None] = [None] * len(pieces)
        for place, failure in step.failures.items():
            results[place] = failure
        if not step.rows:
            return results
        try:
            with torch.inference_mode():
                choice = self._run(step)
        except torch.OutOfMemoryError:
            self._occupants.roll_back()
        except BaseException:
            self._occupants.roll_back()
            raise
        else:
            for index, token in zip(step.samples, choice.sampled, strict=True):
                if token is None:
                    self._occupants.fail(step.rows[index].slot, FloatingPointError(NOT_FINITE))
                results[step.places[index]] = token or FloatingPointError(NOT_FINITE)
            return results
        # Here the traceback that kept the step's tensors alive is gone.
        torch.cuda.empty_cache()
        raise DeviceMemoryExhausted(
            f"no memory on {self.spec.device} for a step of {len(step.rows)} rows"
        )

    def logits_of(self, pieces: Sequence[Piece]) -> Tensor:
        """Float32 [tokens of all pieces, vocabulary]: what the trial at load compares."""
        with torch.inference_mode():
            return logits(self._weights, self._hidden(self._occupants.lay_out(pieces)))

    def _run(self, step: StepInputs) -> Choice:
        hidden = self._hidden(step)
        if not step.samples:
            return Choice(self._last[:0], ())
        ends = [step.rows[index].first + step.rows[index].tokens - 1 for index in step.samples]
        chosen = logits(self._weights, hidden[torch.tensor(ends, device=self._device)])
        choice = self._sampler.choose(chosen, step.draws)
        slots = [draw.slot for draw in step.draws]
        self._last[torch.tensor(slots, device=self._device)] = choice.ids
        self._sampler.count(step.draws, choice.ids)
        return choice

    def _hidden(self, step: StepInputs) -> Tensor:
        """Hidden states [T, hidden] of the step's tokens, after its slots were made ready."""
        memory = self._memory
        for slot, row, prompt, output in step.begun:
            assert row.progress is not None
            self._sampler.begin(slot, row.progress.sampling, prompt, output)
        if step.added:
            slots, places, pages = zip(*step.added, strict=True)
            memory.append(slots, places, pages)
        if step.fresh_pages:
            memory.clear(step.fresh_pages)
        ids, positions, slots_of = torch.from_numpy(step.staged()).to(self._device).unbind()
        ids = ids.where(ids != FROM_SLOT, self._last[slots_of])
        attention = GatheredAttention(
            memory,
            step.rows,
            memory.places(slots_of, positions),
            self._weights.shape.windows,
        )
        return forward(self._weights, ids, positions, attention)
