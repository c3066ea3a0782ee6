"""What runs on the device: an encoder and what is done with its output.

Each takes `ids` and `mask`, both INT64 [b, longest], and returns FP32 [b, width] on the
same device. `width` is what one row's result holds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from predictor.runner.sentence import Pooling

_MASKED = float("-inf")


class Classifier(nn.Module):
    """Probabilities per label: they sum to 1, or are independent where a text may have several."""

    def __init__(self, classifier: nn.Module, width: int, independent: bool) -> None:
        super().__init__()
        self.width = width
        self._classifier = classifier
        self._independent = independent

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self._classifier(input_ids=ids, attention_mask=mask).logits.float()
        return logits.sigmoid() if self._independent else logits.softmax(dim=-1)


class Embedder(nn.Module):
    """One vector per text, pooled over its real tokens only."""

    def __init__(
        self, encoder: nn.Module, hidden: int, pooling: Sequence[Pooling], normalise: bool
    ) -> None:
        super().__init__()
        self.width = hidden * len(pooling)
        self._encoder = encoder
        self._pooling = tuple(pooling)
        self._normalise = normalise

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        output = self._encoder(input_ids=ids, attention_mask=mask)
        tokens: Tensor = output.last_hidden_state.float()
        real = mask.unsqueeze(-1)
        pooled = torch.cat([_pool(tokens, real, mode) for mode in self._pooling], dim=-1)
        return functional.normalize(pooled, dim=-1) if self._normalise else pooled


class TopicScorer(nn.Module):
    """Probabilities per label, from how near the text's vector is to each label's.

    `labels` [k, hidden] are the labels' own vectors. `scale` turns cosines, which differ by
    a few tenths at most, into logits.
    """

    def __init__(self, embedder: Embedder, labels: Tensor, scale: float) -> None:
        super().__init__()
        self.width = labels.shape[0]
        self._embedder = embedder
        self._scale = scale
        self.register_buffer("_labels", functional.normalize(labels, dim=-1))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        texts = functional.normalize(self._embedder(ids, mask), dim=-1)
        labels = self.get_buffer("_labels")
        return (self._scale * texts @ labels.T).softmax(dim=-1)


Network = Classifier | Embedder | TopicScorer


def _pool(tokens: Tensor, real: Tensor, mode: Pooling) -> Tensor:
    """`tokens` [b, longest, hidden] and `real` [b, longest, 1] to [b, hidden]."""
    match mode:
        case Pooling.CLS:
            return tokens[:, 0]
        case Pooling.MAX:
            return tokens.masked_fill(real == 0, _MASKED).amax(dim=1)
        case Pooling.MEAN:
            return (tokens * real).sum(dim=1) / real.sum(dim=1)
