"""Whether a model can run packed rows: which families can, and a trial that decides.

Packing relies on a family's code taking positions and an attention function from outside, and
on nothing but attention mixing tokens. A model with relative positions in its attention
(MPNet, DeBERTa) is out. For the others a few rows are run packed and alone when the model
loads; where the answers differ, the model is served padded, and the log says so.
"""

import logging

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from predictor.runner.attention import Kernel, RowLayout, choose_kernel, use_kernel
from predictor.runner.checkpoint import first_line
from predictor.runner.networks import Network, PackedTokens, PaddedTokens
from predictor.runner.weights import vocabulary_size

_LOG = logging.getLogger("headway.runner")

# By the model_type of their configuration; MiniLM is a BERT.
FAMILIES = frozenset(
    ("bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta")
)
# Largest difference over the largest value, of a row packed and alone. 16 bits keep 3 to 8 of
# a value's bits after each of some dozens of roundings.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_TRIAL_TOKENS = (1, 3, 130, 17, 64)  # one is longer than ModernBERT's local window


def can_pack(network: Network, model: PreTrainedModel, max_tokens: int, pad_id: int) -> bool:
    """Whether packed rows get the answers they would get alone. Says in the log why not."""
    name, family = type(model).__name__, model.config.model_type
    if family not in FAMILIES:
        _LOG.info("%s runs padded: %s has no packed form here", name, family)
        return False
    kernel = choose_kernel(model.device, model.dtype)
    if kernel is None:
        _LOG.info("%s runs padded: packing on a GPU needs a 16-bit dtype", name)
        return False
    try:
        difference = _largest_difference(network, model, kernel, max_tokens, pad_id)
    except Exception as error:  # a version of transformers that does it another way
        _LOG.warning("%s runs padded: packing fails: %s", name, first_line(error))
        return False
    if not difference <= TOLERANCE[model.dtype]:
        _LOG.warning("%s runs padded: packed answers differ by %.1g", name, difference)
        return False
    return True


@torch.inference_mode()
def _largest_difference(
    network: Network, model: PreTrainedModel, kernel: Kernel, max_tokens: int, pad_id: int
) -> float:
    use_kernel(model.device, kernel)
    lengths = [min(length, max_tokens) for length in _TRIAL_TOKENS]
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(0, vocabulary_size(model), sum(lengths)))
    ids[ids == pad_id] = 1 if pad_id == 0 else 0
    ids = ids.to(model.device)
    bounds = [0, *np.cumsum(lengths).tolist()]
    starts = torch.tensor(bounds, dtype=torch.int32, device=model.device)
    packed = network(PackedTokens(ids, RowLayout(starts, max(lengths), bounds)))
    alone = torch.cat([network(_alone(row)) for row in torch.split(ids, lengths)])
    return float((packed - alone).abs().max() / alone.abs().max())


def _alone(ids: Tensor) -> PaddedTokens:
    return PaddedTokens(ids[None], torch.ones_like(ids)[None])
