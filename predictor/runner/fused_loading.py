"""Puts a generator together on a GPU: buffers, compiled kernels, captured graphs."""

import os
import shutil

import torch

from predictor.core.errors import StartupError
from predictor.core.model import ModelSpec
from predictor.runner.decoder import DecoderWeights
from predictor.runner.fused_decoder import Buffers, FusedDecoder, SlotState
from predictor.runner.fused_generator import FusedGenerator
from predictor.runner.paged_memory import PagedMemory
from predictor.runner.step_graphs import Layout, StepGraphs, capture, ladder

_EAGER_TOKENS = 256  # of a step that is not captured, and has room in buffers that stay


def fuse(
    spec: ModelSpec,
    weights: DecoderWeights,
    memory: PagedMemory,
    device: torch.device,
    *,
    graphs: bool,
) -> FusedGenerator:
    """Raises StartupError where there is no C compiler, OutOfMemoryError where there is no room."""
    _find_compiler()
    slots = memory.slots
    stream = torch.cuda.Stream(device)
    decoder = FusedDecoder(weights, memory, SlotState(slots, device))
    heads = Buffers.heads_of(weights.shape)
    shapes = ladder(slots, heads) if graphs else []
    tokens = max([shape.tokens for shape in shapes], default=_EAGER_TOKENS)
    buffers = Buffers(weights, tokens, slots, slots)
    items = max([Layout(shape, slots).items for shape in shapes], default=0)
    buffer = torch.zeros(items, dtype=torch.int32, device=device)
    captured = (
        capture(decoder, buffers, buffer, shapes, slots, stream)
        if shapes
        else StepGraphs(buffer, slots, (), ())
    )
    return FusedGenerator(spec, decoder, buffers, captured, stream)


def _find_compiler() -> None:
    """Triton compiles what launches its kernels with the compiler in CC, gcc or clang."""
    named = os.environ.get("CC")
    if not any(shutil.which(name) for name in ([named] if named else ["gcc", "clang"])):
        raise StartupError(
            "text generation on a GPU compiles its kernels as it starts, for which it needs a C"
            f" compiler: {f'{named}, which CC names, is not there' if named else 'there is none'};"
            " install gcc (apt-get install gcc), or name another in the variable CC"
        )
