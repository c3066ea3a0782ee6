"""The generator on a GPU, as a pipeline: the device goes from step to step by itself.

    host      a step's slots, ids and positions are written into pinned memory
    device    copied in, run as two graphs (forward, choice), what was chosen copied out
    host      `results` waits for that step alone

What a row was given last is read on the device, so a step is launched while the one before it
runs, and nobody here has seen the ids that it goes on with. Where rows ask for more than the kernel
chooses by (penalties, biases, logprobs), sampling.py chooses for them behind it, still without
waiting.

Pinned memory is of torch's own cache, which gives none out again before the device has read it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from predictor.core.generation import Sampled
from predictor.core.model import ModelSpec
from predictor.core.rows import Piece
from predictor.engine.port import DeviceMemoryExhausted
from predictor.runner.cuda import lost
from predictor.runner.fused_decoder import Buffers, FusedDecoder, StepShape
from predictor.runner.generator import results_of
from predictor.runner.kernels import sampling as sampling_kernel
from predictor.runner.kernels import slots as slots_kernel
from predictor.runner.kernels.sampling import PARAMETERS, parameters_of
from predictor.runner.sampling import Draw, Logprobs, Sampler, tell_logprobs
from predictor.runner.step_graphs import Layout, StepGraphs, aligned
from predictor.runner.step_inputs import Occupants, Samples, StepInputs

_SOON_TOKENS = 2048  # a step of no more takes some milliseconds


@dataclass(frozen=True, slots=True, eq=False)
class _Apart:
    """What sampling.py chose: `ids` INT64 for `draws`, on the device."""

    draws: Sequence[Draw]
    ids: Tensor
    logprobs: Logprobs | None


class FusedGenerator:
    """Runs a decoder on `spec.device`. Called from one thread at a time."""

    def __init__(
        self,
        spec: ModelSpec,
        decoder: FusedDecoder,
        buffers: Buffers,
        graphs: StepGraphs,
        stream: torch.cuda.Stream | None,
    ) -> None:
        """Without a stream it runs in Triton's interpreter on the CPU, which is for tests."""
        self.spec = spec
        self._decoder = decoder
        self._buffers = buffers
        self._graphs = graphs
        self._stream = stream
        memory = decoder.memory
        vocabulary = decoder.weights.shape.vocabulary
        self._device = memory.tables.device
        self._nobody = memory.slots
        self._sampler = Sampler(memory.slots, vocabulary, self._device)
        self._occupants = Occupants(
            slots=memory.slots,
            pages=memory.pages,
            max_tokens=spec.max_tokens,
            vocabulary=vocabulary,
        )

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        """See StepRunner."""
        return self.launch_step(pieces).results()

    def launch_step(self, pieces: Sequence[Piece]) -> "LaunchedStep":
        """See PipelinedStepRunner."""
        step = self._occupants.lay_out(pieces)
        try:
            with torch.inference_mode():
                if self._stream is not None:
                    torch.cuda.set_stream(self._stream)  # of this thread, which uses no other
                return self._launch(step, pieces)
        except torch.OutOfMemoryError:
            self._occupants.roll_back()
        except RuntimeError as error:
            self._occupants.roll_back()
            raise lost(error) from None
        except BaseException:
            self._occupants.roll_back()
            raise
        # Here the traceback that kept the step's tensors alive is gone.
        torch.cuda.empty_cache()
        raise DeviceMemoryExhausted(
            f"no memory on {self.spec.device} for a step of {step.tokens} tokens"
        )

    def logits_of(self, pieces: Sequence[Piece]) -> Sequence[Tensor]:
        """Of each piece, float32 [tokens, vocabulary]: what the trial at load compares."""
        step = self._occupants.lay_out(pieces)
        with torch.inference_mode():
            self._make_ready(step)
            buffers = self._room_for(step, step.tokens)
            layout = self._layout_of(step, 0)
            buffer = self._staged(step, step.samples(), layout).to(self._device)
            self._decoder.forward(layout.staged(buffer), layout.shape, buffers)
            every = torch.arange(step.tokens, dtype=torch.int32, device=self._device)
            made = self._decoder.logits(every, buffers).to(torch.float32, copy=True)
        return [made[span] for _, span in sorted(step.spans().items())]

    def _launch(self, step: StepInputs, pieces: Sequence[Piece]) -> "LaunchedStep":
        samples = step.samples()
        launched = LaunchedStep(self._occupants, pieces, step.failures, samples.places)
        if not step.count:
            return launched
        self._make_ready(step)
        buffers = self._run(step, samples)
        apart = self._choose_apart(samples, buffers)
        rows = len(samples.places)
        if rows:
            launched.chosen = self._to_host(buffers.chosen[:rows])
        if apart is not None and apart.logprobs is not None:
            launched.logprobs = self._logprobs_to_host(apart.logprobs)
        if self._stream is not None:
            launched.event = torch.cuda.Event(blocking=step.tokens > _SOON_TOKENS)
            launched.event.record()
        if apart is not None:
            # The last thing, because what fails before it is run again.
            self._sampler.count(apart.draws, apart.ids)
        return launched

    def _make_ready(self, step: StepInputs) -> None:
        """Tell the device of rows that begin, and of pages that rows are given."""
        if not step.begun and not step.added:
            return
        begun = np.empty((len(step.begun), 1 + PARAMETERS), np.int32)
        for line, (slot, row, prompt, output) in zip(begun, step.begun, strict=True):
            assert row.progress is not None
            sampling = row.progress.sampling
            self._sampler.begin(slot, sampling, prompt, output)
            line[0], line[1:] = slot, parameters_of(sampling)
        pages = np.array(step.added, np.int32).ravel()
        second = aligned(pages.size)
        host = self._pinned(second + begun.size)
        host.numpy()[: pages.size] = pages
        host.numpy()[second:] = begun.ravel()
        told = host.to(self._device, non_blocking=True)
        slots_kernel.tell(
            told[: pages.size].view(-1, 3),
            told[second:].view(begun.shape),
            self._decoder.memory.tables,
            self._decoder.state.parameters,
        )

    def _run(self, step: StepInputs, samples: Samples) -> Buffers:
        """Forward and choice; where the results are."""
        rows, blocks = len(samples.places), step.blocks(self._buffers.block)
        found = self._graphs.forward_for(len(step.slots), step.tokens, blocks)
        if found is None:
            layout = self._layout_of(step, rows)
            buffers = self._room_for(step, rows)
            buffer = self._staged(step, samples, layout).to(self._device, non_blocking=True)
            self._decoder.forward(layout.staged(buffer), layout.shape, buffers)
            if rows:
                self._decoder.choose(layout.sampled(buffer, rows), buffers)
            return buffers
        layout, forward = found
        self._graphs.buffer[: layout.items].copy_(
            self._staged(step, samples, layout), non_blocking=True
        )
        forward.replay()
        if rows:
            self._graphs.choice_for(rows).replay()
        return self._buffers

    def _layout_of(self, step: StepInputs, rows: int) -> Layout:
        """Of a step that runs without a graph."""
        blocks = step.blocks(self._buffers.block)
        return Layout(StepShape(step.tokens, len(step.slots), blocks), rows)

    def _room_for(self, step: StepInputs, rows: int) -> Buffers:
        usual = self._buffers
        if usual.tokens >= step.tokens and usual.samples >= rows:
            return usual
        return Buffers(self._decoder.weights, step.tokens, len(step.slots), rows)

    def _staged(self, step: StepInputs, samples: Samples, layout: Layout) -> Tensor:
        host = self._pinned(layout.items)
        counts, sampled, tokens, blocks = layout.views(host.numpy())
        counts[:2] = len(step.slots), step.blocks(self._buffers.block)
        rows = len(samples.places)
        sampled[0, :rows] = samples.tokens
        sampled[1, :rows] = samples.slots
        sampled[2, :rows] = samples.positions
        sampled[0, rows:] = -1
        step.stage(tokens, self._nobody)
        step.stage_blocks(blocks, self._buffers.block)
        return host

    def _choose_apart(self, samples: Samples, buffers: Buffers) -> "_Apart | None":
        """For rows that ask for more, choose again."""
        apart = self._sampler.apart
        if not apart:
            return None
        lines = [line for line, slot in enumerate(samples.slots) if slot in apart]
        if not lines:
            return None
        draws = self._occupants.draws(samples.of(lines))
        where = self._sampler.tensor(lines)
        slots = self._sampler.tensor([draw.slot for draw in draws])
        parities = self._sampler.tensor([draw.position % 2 for draw in draws])
        choice = self._sampler.choose(buffers.logits[where].float(), draws)
        self._decoder.state.last[slots, parities] = choice.ids.int()
        buffers.chosen[where] = choice.ids.where(choice.finite, sampling_kernel.NOT_FINITE).int()
        logprobs = None if choice.logprobs is None else choice.logprobs.among(lines)
        return _Apart(draws, choice.ids, logprobs)

    def _pinned(self, items: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(items, dtype=dtype, pin_memory=self._stream is not None)

    def _to_host(self, values: Tensor) -> Tensor:
        """Its values when the step is done."""
        host = self._pinned(values.numel(), values.dtype).view(values.shape)
        host.copy_(values, non_blocking=True)
        return host

    def _logprobs_to_host(self, logprobs: Logprobs) -> Logprobs:
        own, ids, values = map(self._to_host, (logprobs.own, logprobs.ids, logprobs.values))
        return Logprobs(logprobs.indices, logprobs.wanted, own, ids, values)


class LaunchedStep:
    """A step on the device. `chosen` INT32 [rows], when `event` has come."""

    chosen: Tensor | None = None
    logprobs: Logprobs | None = None
    event: torch.cuda.Event | None = None

    def __init__(
        self,
        occupants: Occupants,
        pieces: Sequence[Piece],
        failures: Mapping[int, Exception],
        places: Sequence[int],
    ) -> None:
        """`places`: in `pieces`, of the rows that are given a token."""
        self._occupants = occupants
        self._pieces = pieces
        self._failures = failures
        self._places = places

    def results(self) -> Sequence[Sampled | Exception | None]:
        """Waits for the device. What `StepRunner.run_step` returns. To be called once."""
        if self.event is not None:
            try:
                self.event.synchronize()
            except RuntimeError as error:
                raise lost(error) from None
        return results_of(self._pieces, self._failures, self._sampled(), self._occupants)

    def _sampled(self) -> Mapping[int, Sampled | None]:
        """By place."""
        if self.chosen is None:
            return {}
        not_finite = sampling_kernel.NOT_FINITE
        sampled = [None if id_ == not_finite else Sampled(id_) for id_ in self.chosen.tolist()]
        if self.logprobs is not None:
            tell_logprobs(self.logprobs, sampled)
        return dict(zip(self._places, sampled, strict=True))
