"""The encoder on a CUDA device, as a pipeline: the device goes from batch to batch by itself.

    host      ids and row starts are written into pinned memory
    device    copied in, computed (a graph's replay, or the network itself), copied out
    host      `results` waits for that batch alone

`launch` returns when all of it is queued, so a batch is staged and queued while the one before
it runs, and its results are read while the next one runs. Each batch on its way has a slot,
with pinned buffers of its own. Copies go through the stream that computes: streams of their
own would hide some 20 us of copying a batch, and cost 280 us of Python for switching streams
and for the events between them, on a thread that has 100 us for each row at 10,000 rows/s.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictor.core.model import ModelSpec
from predictor.core.rows import Packing
from predictor.engine.port import DeviceLost
from predictor.runner.capture import Graph, Graphs
from predictor.runner.checkpoint import first_line
from predictor.runner.encoder import checked_rows, memory_exhausted, packed_tokens
from predictor.runner.ids import IdRows, encode_results, pack_rows, pad_rows
from predictor.runner.networks import Network, PaddedTokens, Tokens

_LEAST_ITEMS = 1 << 16  # of a slot's buffers, which grow when a batch needs more
_SOON_TOKENS = 2048  # a step of no more takes about a millisecond


class CudaEncoderRunner:
    """Runs a network on `spec.device`. May be called from several threads."""

    def __init__(
        self,
        spec: ModelSpec,
        network: Network,
        pad_id: int,
        graphs: Graphs,
        compute: torch.cuda.Stream,
    ) -> None:
        self.spec = spec
        self._network = network
        self._pad_id = pad_id
        self._graphs = graphs
        self._device = compute.device
        self._compute = compute
        self._free: list[_Slot] = []
        self._launching = threading.Lock()

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        """Results in order. Raises as EncoderRunner.run does."""
        batch = checked_rows(self.spec, rows)
        return self._queue(batch, packing, self._graph_for(batch, packing)).results()

    def launch(self, rows: Sequence[bytes], packing: Packing) -> "LaunchedBatch | None":
        """Queue a batch behind those before it, if there is a graph for it."""
        batch = checked_rows(self.spec, rows)
        graph = self._graph_for(batch, packing)
        return None if graph is None else self._queue(batch, packing, graph)

    def _graph_for(self, batch: IdRows, packing: Packing) -> Graph | None:
        if packing is not Packing.PACKED:
            return None
        return self._graphs.smallest_for(len(batch.ids), len(batch.lengths))

    def _queue(self, batch: IdRows, packing: Packing, graph: Graph | None) -> "LaunchedBatch":
        rows = len(batch.lengths)
        with self._launching:
            slot = self._free.pop() if self._free else _Slot()
            torch.cuda.set_stream(self._compute)  # of this thread, which uses no other
            try:
                if graph is not None:
                    self._replay(batch, graph, slot)
                else:
                    with torch.inference_mode():
                        packed = self.spec.packed and packing is Packing.PACKED
                        tokens = self._packed(batch, slot) if packed else self._padded(batch, slot)
                        slot.receive(self._network(tokens))
                return LaunchedBatch(slot, (rows, self.spec.result_width), self._free)
            except torch.OutOfMemoryError:
                pass  # handled below: until here the traceback keeps the batch's tensors alive
            except RuntimeError as error:
                raise lost(error) from None
            del slot
        raise memory_exhausted(self.spec, batch)

    def _replay(self, batch: IdRows, graph: Graph, slot: "_Slot") -> None:
        stage = slot.stage(graph)
        pack_rows(batch, graph.step.tokens, stage.host_input)
        graph.input.copy_(stage.input, non_blocking=True)
        graph.graph.replay()
        # Whole, with rows that are not there: a view of the others takes longer than copying these.
        stage.output.copy_(graph.output, non_blocking=True)
        slot.record(soon=graph.step.tokens <= _SOON_TOKENS)

    def _packed(self, batch: IdRows, slot: "_Slot") -> Tokens:
        tokens = len(batch.ids)
        host = slot.host_input(tokens + len(batch.lengths) + 1)
        pack_rows(batch, tokens, host)
        staged = slot.pinned_input().to(self._device, non_blocking=True)
        return packed_tokens(batch, host, staged)

    def _padded(self, batch: IdRows, slot: "_Slot") -> Tokens:
        padded = pad_rows(batch, self._pad_id)
        rows, longest = padded.ids.shape
        host = slot.host_input(rows * (longest + 1))
        host[: rows * longest] = padded.ids.ravel()
        host[rows * longest :] = batch.lengths
        staged = slot.pinned_input().to(self._device, non_blocking=True)
        lengths = staged[rows * longest :]
        mask = torch.arange(longest, device=self._device) < lengths[:, None]
        return PaddedTokens(staged[: rows * longest].view(rows, longest).long(), mask.long())


class LaunchedBatch:
    """A batch on the device, in a slot that is free again when its results are out."""

    def __init__(self, slot: "_Slot", shape: tuple[int, int], free: "list[_Slot]") -> None:
        self._slot = slot
        self._shape = shape
        self._free = free

    def results(self) -> Sequence[bytes]:
        """Waits for the device. To be called once."""
        try:
            results = encode_results(self._slot.host_output(self._shape))
        except RuntimeError as error:
            raise lost(error) from None
        self._free.append(self._slot)
        return results


class _Slot:
    """Pinned buffers for one batch on its way, and when its results are in them."""

    def __init__(self) -> None:
        self._items = 0
        self._in = _pinned(_LEAST_ITEMS, torch.int32)
        self._in_array: NDArray[Any] = self._in.numpy()
        self._out = _pinned(_LEAST_ITEMS, torch.float32)
        self._out_array: NDArray[Any] = self._out.numpy()
        self._stages: dict[Graph, _Stage] = {}
        # Whoever waits for a short batch may keep its core busy, and has the results some
        # 0.1 ms sooner; whoever waits for a long one sleeps and leaves its core to the edges.
        self._soon = torch.cuda.Event()
        self._later = torch.cuda.Event(blocking=True)
        self._received = self._later

    def host_input(self, items: int) -> NDArray[Any]:
        """INT32 [items], to be written before `pinned_input` is copied."""
        if items > len(self._in):
            self._in = _pinned(2 * items, torch.int32)
            self._in_array = self._in.numpy()
            self._stages.clear()
        self._items = items
        view: NDArray[Any] = self._in_array[:items]
        return view

    def pinned_input(self) -> Tensor:
        return self._in[: self._items]

    def stage(self, graph: Graph) -> "_Stage":
        """The parts of the buffers that a batch in this graph takes."""
        stage = self._stages.get(graph)
        if stage is None:
            host_input = self.host_input(len(graph.input))
            output = self._room(graph.output.numel()).view(graph.output.shape)
            stage = self._stages[graph] = _Stage(host_input, self.pinned_input(), output)
        return stage

    def receive(self, output: Tensor) -> None:
        """Queue the copy of `output` FP32 [rows, width] behind what computes it."""
        self._room(output.numel()).copy_(output.view(-1), non_blocking=True)
        self.record(soon=False)

    def record(self, *, soon: bool) -> None:
        """What was queued until now is what `host_output` waits for."""
        self._received = self._soon if soon else self._later
        self._received.record()

    def host_output(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Waits for the copy of the results, or for that of their first `shape[0]` rows."""
        self._received.synchronize()
        values: NDArray[np.float32] = self._out_array[: shape[0] * shape[1]]
        return values.reshape(shape)

    def _room(self, items: int) -> Tensor:
        """For so many results."""
        if items > len(self._out):
            self._out = _pinned(2 * items, torch.float32)
            self._out_array = self._out.numpy()
            self._stages.clear()
        return self._out[:items]


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """Views of a slot's buffers for one graph, kept: making them takes longer than a copy."""

    host_input: NDArray[np.int32]
    input: Tensor
    output: Tensor


def lost(error: RuntimeError) -> Exception:
    """What an error of torch means: CUDA's own stays until the process ends, any other is the
    batch's."""
    told = first_line(error)
    return DeviceLost(told) if "CUDA error" in told else error


def _pinned(items: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(items, dtype=dtype, pin_memory=True)
