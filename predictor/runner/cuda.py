"""The encoder on a CUDA device, as a pipeline: the device goes from batch to batch by itself.

A batch takes five steps, on three streams, so that copies run beside the arithmetic:

    host      ids and row starts are written into pinned memory
    copy in   pinned memory -> device
    compute   into the graph's input, replay (or the network itself), out of its output
    copy out  device -> pinned memory
    host      `results` waits for that copy alone

`launch` returns when all of it is queued, so the next batch can be queued behind the running
one. Each batch on its way has a slot, with buffers of its own.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictor.core.model import ModelSpec
from predictor.core.rows import Packing
from predictor.runner.attention import RowLayout
from predictor.runner.capture import Graph, Graphs
from predictor.runner.encoder import checked_rows, memory_exhausted, row_starts
from predictor.runner.ids import IdRows, encode_results, pad_rows
from predictor.runner.networks import Network, PackedTokens, PaddedTokens

_LEAST_ITEMS = 1 << 16  # of a slot's buffers, which grow when a batch needs more


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
        self._copy_in = torch.cuda.Stream(self._device)
        self._copy_out = torch.cuda.Stream(self._device)
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
        with self._launching:
            slot = self._free.pop() if self._free else _Slot(self._device)
            try:
                with torch.inference_mode():
                    if self.spec.packed and packing is Packing.PACKED:
                        self._queue_packed(batch, slot, graph)
                    else:
                        self._queue_padded(batch, slot)
                shape = (len(batch.lengths), self.spec.result_width)
                return LaunchedBatch(slot, shape, self._free)
            except torch.OutOfMemoryError:
                pass  # handled below: until here the traceback keeps the batch's tensors alive
            del slot
        raise memory_exhausted(self.spec, batch)

    def _queue_packed(self, batch: IdRows, slot: "_Slot", graph: Graph | None) -> None:
        tokens, rows = len(batch.ids), len(batch.lengths)
        room = graph.step.tokens if graph else tokens
        most_rows = graph.step.rows if graph else rows
        host = slot.host_input(room + most_rows + 1)
        host[:tokens] = batch.ids
        host[tokens:room] = 0  # any id that exists
        starts = row_starts(batch)
        host[room : room + rows + 1] = starts
        host[room + rows + 1 :] = tokens
        staged = slot.send(self._copy_in, self._compute)
        with torch.cuda.stream(self._compute):
            if graph:
                slot.receive(_replay(graph, staged, rows), self._compute, self._copy_out)
                return
            layout = RowLayout(staged[room:], int(batch.lengths.max()), starts.tolist())
            output = self._network(PackedTokens(staged[:room], layout))
            slot.receive(output, self._compute, self._copy_out)

    def _queue_padded(self, batch: IdRows, slot: "_Slot") -> None:
        padded = pad_rows(batch, self._pad_id)
        rows, longest = padded.ids.shape
        host = slot.host_input(rows * (longest + 1))
        host[: rows * longest] = padded.ids.ravel()
        host[rows * longest :] = batch.lengths
        staged = slot.send(self._copy_in, self._compute)
        with torch.cuda.stream(self._compute):
            lengths = staged[rows * longest :]
            mask = torch.arange(longest, device=self._device) < lengths[:, None]
            ids = staged[: rows * longest].view(rows, longest).long()
            output = self._network(PaddedTokens(ids, mask.long()))
            slot.receive(output, self._compute, self._copy_out)


def _replay(graph: Graph, staged: Tensor, rows: int) -> Tensor:
    graph.input.copy_(staged)
    graph.graph.replay()
    return graph.output[:rows].clone()  # the next replay may come before this one is copied out


class LaunchedBatch:
    """A batch on the device, in a slot that is free again when its results are out."""

    def __init__(self, slot: "_Slot", shape: tuple[int, int], free: "list[_Slot]") -> None:
        self._slot = slot
        self._shape = shape
        self._free = free

    def results(self) -> Sequence[bytes]:
        """Waits for the device. To be called once."""
        results = encode_results(self._slot.host_output(self._shape))
        self._free.append(self._slot)
        return results


class _Slot:
    """Buffers for one batch on its way: pinned and device memory, and when each is ready."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._items = 0
        self._sent = torch.cuda.Event()
        self._computed = torch.cuda.Event()
        # Blocking: the waiting thread sleeps, where it would spin on a core the edges need.
        self._received = torch.cuda.Event(blocking=True)
        self._in = _pinned(_LEAST_ITEMS, torch.int32)
        self._in_array: NDArray[Any] = self._in.numpy()
        self._staged = torch.empty(_LEAST_ITEMS, dtype=torch.int32, device=device)
        self._out = _pinned(_LEAST_ITEMS, torch.float32)
        self._output: Tensor | None = None

    def host_input(self, items: int) -> NDArray[Any]:
        """INT32 [items] to be written before `send`."""
        if items > len(self._in):
            self._in = _pinned(2 * items, torch.int32)
            self._in_array = self._in.numpy()
            self._staged = torch.empty(2 * items, dtype=torch.int32, device=self._device)
        self._items = items
        view: NDArray[Any] = self._in_array[:items]
        return view

    def send(self, copy_in: torch.cuda.Stream, compute: torch.cuda.Stream) -> Tensor:
        """The input on the device, INT32 [items], for use on `compute` from now on."""
        staged = self._staged[: self._items]
        with torch.cuda.stream(copy_in):
            staged.copy_(self._in[: self._items], non_blocking=True)
            self._sent.record(copy_in)
        compute.wait_event(self._sent)
        return staged

    def receive(
        self, output: Tensor, compute: torch.cuda.Stream, copy_out: torch.cuda.Stream
    ) -> None:
        """Bring `output` FP32 [rows, width] to the host behind what `compute` was given."""
        items = output.numel()
        if items > len(self._out):
            self._out = _pinned(2 * items, torch.float32)
        self._computed.record(compute)
        copy_out.wait_event(self._computed)
        with torch.cuda.stream(copy_out):
            self._out[:items].copy_(output.view(-1), non_blocking=True)
            self._received.record(copy_out)
        self._output = output  # its memory must not be used again before the copy is over

    def host_output(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Waits for the copy that `receive` queued."""
        self._received.synchronize()
        self._output = None
        values: NDArray[np.float32] = self._out[: shape[0] * shape[1]].numpy()
        return values.reshape(shape)


def _pinned(items: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(items, dtype=dtype, pin_memory=True)
