"""A runner for text encoders: one padded batch in, one result per row out."""

from collections.abc import Sequence

import torch
from torch import nn

from predictor.core.model import ModelSpec
from predictor.core.rows import Packing
from predictor.engine.port import DeviceMemoryExhausted
from predictor.runner.ids import IdRows, decode_rows, encode_results, pad_rows


class EncoderRunner:
    """Runs a network of networks.py, which is on `spec.device` already. Results are FP32."""

    def __init__(self, spec: ModelSpec, network: nn.Module, pad_id: int) -> None:
        self.spec = spec
        self._network = network
        self._pad_id = pad_id
        self._device = torch.device(spec.device)

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        """Results in order. Always pads, whatever `packing` says, as `spec.packed` is false.

        Raises:
            ValueError: a row is empty, too long, or has ids that the model does not know.
            DeviceMemoryExhausted: the batch did not fit; what it had taken is free again.
        """
        batch = decode_rows(rows)
        self._check(batch)
        padded = pad_rows(batch, self._pad_id)
        try:
            with torch.inference_mode():
                ids = torch.from_numpy(padded.ids).to(self._device)
                mask = torch.from_numpy(padded.mask).to(self._device)
                return encode_results(self._network(ids, mask).cpu().numpy())
        except torch.OutOfMemoryError:
            pass  # handled below: until here the traceback keeps the batch's tensors alive
        torch.cuda.empty_cache()
        raise DeviceMemoryExhausted(
            f"no memory on {self.spec.device} for {len(rows)} rows padded to"
            f" {padded.ids.shape[1]} tokens"
        )

    def _check(self, batch: IdRows) -> None:
        """A bad id or position stops a CUDA device for good, so none may get there."""
        longest = int(batch.lengths.max())
        if longest > self.spec.max_tokens:
            raise ValueError(f"a row has {longest} tokens; the most is {self.spec.max_tokens}")
        if batch.ids.min() < 0 or batch.ids.max() >= self.spec.vocabulary_size:
            raise ValueError(f"an id is not in 0 to {self.spec.vocabulary_size - 1}")
