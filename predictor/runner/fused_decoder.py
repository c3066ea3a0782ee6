"""A decoder's step on a GPU: decoder.py's forward with kernels of our own, in buffers that stay.

Products are torch's. What lies between them is one kernel each (kernels/). Everything is written
into buffers whose addresses do not change, so that a step can be captured as a graph; the largest
step's are shared by all, because only one runs at a time. Products of the attention and of the
feed-forward are added to the residual as they are computed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from predictor.runner.decoder import DecoderWeights
from predictor.runner.decoder_config import DecoderShape
from predictor.runner.kernels import attention, decoder, sampling
from predictor.runner.kernels.attention import HeadShape
from predictor.runner.kernels.sampling import PARAMETERS
from predictor.runner.paged_memory import PagedMemory


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a step has room for: tokens in all, of which so many `singles` are a row's only one
    (they come first), and `blocks` of positions of chunks."""

    tokens: int
    singles: int
    blocks: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """A step's input, all INT32. `counts`: how many singles and blocks there are; `slots`, `ids`
    and `positions` [T]; `blocks` [n, 4] as attention.attend_chunks takes them."""

    counts: Tensor
    slots: Tensor
    ids: Tensor
    positions: Tensor
    blocks: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The rows of a step that are given a token, INT32 [n] each: which token of the step is a row's
    last (-1: there is no row), its slot, and the position of what is chosen."""

    tokens: Tensor
    slots: Tensor
    positions: Tensor


class SlotState:
    """What lasts from step to step, by slot. The one past the last belongs to nobody.

    `last` is the token that a row was given last, one for even and one for odd positions: so a step
    does not overwrite what it began with, and may be run again.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self.last = torch.zeros((slots + 1, 2), dtype=torch.int32, device=device)
        self.parameters = torch.zeros((slots + 1, PARAMETERS), dtype=torch.int32, device=device)


class Buffers:
    """Room for steps of up to `tokens` tokens, `singles` rows of one token, and `samples` rows that
    are given one."""

    def __init__(self, weights: DecoderWeights, tokens: int, singles: int, samples: int) -> None:
        shape = weights.shape
        self.tokens = tokens
        self.samples = samples
        self.heads = self.heads_of(shape)
        self.block = attention.block_positions(self.heads)  # positions in a block of a chunk
        first = weights.layers[0]

        def room(*size: int, dtype: torch.dtype = weights.embedding.dtype) -> Tensor:
            return torch.empty(size, dtype=dtype, device=weights.embedding.device)

        self.places = room(tokens, dtype=torch.int64)
        self.rotations = room(tokens, shape.head_size, dtype=torch.float32)
        self.hidden = room(tokens, shape.hidden)
        self.normed = room(tokens, shape.hidden)
        self.joint = room(tokens, len(first.qkv))
        self.attended = room(tokens, shape.heads * shape.head_size)
        self.gate_up = room(tokens, len(first.gate_up))
        self.gated = room(tokens, len(first.gate_up) // 2)
        self.parts = room(
            max(
                [attention.part_items(rows, self.heads) for rows in range(1, singles + 1)],
                default=0,
            ),
            dtype=torch.float32,
        )
        self.arrivals = torch.zeros(
            (singles, shape.kv_heads), dtype=torch.int32, device=weights.embedding.device
        )
        self.sampled_hidden = room(samples, shape.hidden)
        self.logits = room(samples, shape.vocabulary)
        self.chosen = room(samples, dtype=torch.int32)

    @staticmethod
    def heads_of(shape: DecoderShape) -> HeadShape:
        return HeadShape(shape.heads, shape.kv_heads, shape.head_size)


class FusedDecoder:
    """Weights, pages and slots, and how a step goes through them."""

    def __init__(self, weights: DecoderWeights, memory: PagedMemory, state: SlotState) -> None:
        self.weights = weights
        self.memory = memory
        self.state = state

    def forward(self, staged: Staged, shape: StepShape, buffers: Buffers) -> None:
        """Leaves the hidden states of the step's tokens in `buffers.hidden`, not normed yet."""
        weights, memory, tokens = self.weights, self.memory, shape.tokens
        epsilon = weights.shape.epsilon
        hidden, normed = buffers.hidden[:tokens], buffers.normed[:tokens]
        joint, attended = buffers.joint[:tokens], buffers.attended[:tokens]
        gate_up, gated = buffers.gate_up[:tokens], buffers.gated[:tokens]
        places, rotations = buffers.places[:tokens], buffers.rotations[:tokens]
        for index, layer in enumerate(weights.layers):
            if index == 0:
                decoder.begin(
                    staged.ids, staged.positions, staged.slots, self.state.last, memory.tables,
                    weights.frequencies, weights.rotation_scale, weights.embedding,
                    layer.attention_norm, epsilon, places, rotations, hidden, normed,
                )  # fmt: skip
            else:
                decoder.norm(hidden, layer.attention_norm, epsilon, normed)
            _product(normed, layer.qkv, layer.qkv_bias, joint)
            keys, values = memory.keys[index], memory.values[index]
            decoder.rotate_and_keep(
                joint, rotations, places, layer.qk_norm, epsilon, keys, values, weights.shape.heads
            )
            self._attend(staged, shape, index, joint, attended, buffers)
            _add_product(hidden, attended, layer.output, layer.output_bias)
            decoder.norm(hidden, layer.mlp_norm, epsilon, normed)
            _product(normed, layer.gate_up, layer.gate_up_bias, gate_up)
            decoder.gate(gate_up, gated)
            _add_product(hidden, gated, layer.down, layer.down_bias)

    def _attend(
        self,
        staged: Staged,
        shape: StepShape,
        layer: int,
        joint: Tensor,
        attended: Tensor,
        buffers: Buffers,
    ) -> None:
        memory = self.memory
        keys, values = memory.keys[layer], memory.values[layer]
        window = self.weights.shape.windows[layer]
        if shape.singles:
            attention.attend_decodes(
                buffers.heads, joint, keys, values, attended, buffers.parts, buffers.arrivals,
                memory.tables, staged.counts, staged.slots, staged.positions, shape.singles, window,
            )  # fmt: skip
        if shape.blocks:
            attention.attend_chunks(
                buffers.heads, joint, keys, values, attended, memory.tables, staged.counts,
                staged.blocks, window,
            )  # fmt: skip

    def choose(self, sampled: Sampled, buffers: Buffers) -> None:
        """A next token for each of `sampled`, in `buffers.chosen`, from `buffers.logits`."""
        chosen = buffers.chosen[: len(sampled.tokens)]
        sampling.choose(
            self.logits(sampled.tokens, buffers), sampled.tokens, sampled.slots, sampled.positions,
            self.state.parameters, self.state.last, chosen,
        )  # fmt: skip

    def logits(self, tokens: Tensor, buffers: Buffers) -> Tensor:
        """[n, vocabulary] of those of the step's tokens that `tokens` INT32 [n] names."""
        weights, samples = self.weights, len(tokens)
        hidden, logits = buffers.sampled_hidden[:samples], buffers.logits[:samples]
        decoder.norm_of(buffers.hidden, tokens, weights.norm, weights.shape.epsilon, hidden)
        _product(hidden, weights.head, None, logits)
        return logits


def _product(lines: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if bias is None:
        torch.mm(lines, weight.t(), out=out)
    else:
        torch.addmm(bias, lines, weight.t(), out=out)


def _add_product(sums: Tensor, lines: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    sums.addmm_(lines, weight.t())
    if bias is not None:
        sums.add_(bias)
