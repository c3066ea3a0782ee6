"""A runner for text encoders on any device: one batch in, one result per row out."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictor.core.model import ModelSpec
from predictor.core.rows import Packing
from predictor.engine.port import DeviceMemoryExhausted
from predictor.runner.attention import RowLayout
from predictor.runner.ids import IdRows, decode_rows, encode_results, pack_rows, pad_rows
from predictor.runner.networks import Network, PackedTokens, PaddedTokens, Tokens


class EncoderRunner:
    """Runs a network of networks.py, which is on `spec.device` already. Results are FP32."""

    def __init__(self, spec: ModelSpec, network: Network, pad_id: int) -> None:
        self.spec = spec
        self._network = network
        self._pad_id = pad_id
        self._device = torch.device(spec.device)

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        """Results in order. Pads where `spec.packed` is false, whatever `packing` says.

        Raises:
            ValueError: a row is empty, too long, or has ids that the model does not know.
            DeviceMemoryExhausted: the batch did not fit; what it had taken is free again.
        """
        batch = checked_rows(self.spec, rows)
        packed = self.spec.packed and packing is Packing.PACKED
        try:
            with torch.inference_mode():
                tokens = self._pack(batch) if packed else self._pad(batch)
                return encode_results(self._network(tokens).cpu().numpy())
        except torch.OutOfMemoryError:
            pass  # handled below: until here the traceback keeps the batch's tensors alive
        raise memory_exhausted(self.spec, batch)

    def _pack(self, batch: IdRows) -> Tokens:
        tokens = len(batch.ids)
        host = np.empty(tokens + len(batch.lengths) + 1, dtype=np.int32)
        pack_rows(batch, tokens, host)
        return packed_tokens(batch, host, torch.from_numpy(host).to(self._device))

    def _pad(self, batch: IdRows) -> Tokens:
        padded = pad_rows(batch, self._pad_id)
        return PaddedTokens(
            torch.from_numpy(padded.ids).to(self._device),
            torch.from_numpy(padded.mask).to(self._device),
        )


def checked_rows(spec: ModelSpec, rows: Sequence[bytes]) -> IdRows:
    """The rows' ids. A bad id or position stops a CUDA device for good, so none may get there.

    Raises ValueError, saying which limit a row breaks.
    """
    batch = decode_rows(rows)
    longest = int(np.maximum.reduce(batch.lengths))
    if longest > spec.max_tokens:
        raise ValueError(f"a row has {longest} tokens; the most is {spec.max_tokens}")
    # Without a sign, what is negative is larger than any.
    if np.maximum.reduce(batch.ids.view(np.uint64)) >= spec.vocabulary_size:
        raise ValueError(f"an id is not in 0 to {spec.vocabulary_size - 1}")
    return batch


def packed_tokens(batch: IdRows, host: NDArray[np.int32], staged: Tensor) -> PackedTokens:
    """A batch that `pack_rows` wrote to `host` with no room to spare; `staged` is its copy on the
    device."""
    tokens = len(batch.ids)
    longest = int(batch.lengths.max())
    layout = RowLayout(staged[tokens:], longest, host[tokens:].tolist())
    return PackedTokens(staged[:tokens], layout)


def memory_exhausted(spec: ModelSpec, batch: IdRows) -> DeviceMemoryExhausted:
    """What to raise once nothing of the batch is on the device any more."""
    torch.cuda.empty_cache()
    return DeviceMemoryExhausted(
        f"no memory on {spec.device} for {len(batch.lengths)} rows of up to"
        f" {int(batch.lengths.max())} tokens"
    )
