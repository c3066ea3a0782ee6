"""What runs on the device: an encoder and what is done with its output.

Each takes `PaddedTokens` or `PackedTokens` and returns FP32 [rows, width] on the same device.
`width` is what one row's result holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from predictor.runner.attention import PACKED, RowLayout
from predictor.runner.sentence import Pooling

_MASKED = float("-inf")
_PADDED = "sdpa"  # transformers' name for torch's own attention with a mask


@dataclass(frozen=True, slots=True, eq=False)
class PaddedTokens:
    """Rows side by side: `ids` and `mask`, both INT64 [b, longest]; 1 where a token is real.

    Padding is on the right.
    """

    ids: Tensor
    mask: Tensor

    def pool(self, hidden: Tensor, mode: Pooling) -> Tensor:
        """`hidden` [b, longest, h] to [b, h]."""
        real = self.mask.unsqueeze(-1)
        match mode:
            case Pooling.CLS:
                return hidden[:, 0]
            case Pooling.LAST:
                last = self.mask.sum(dim=1) - 1
                return hidden[torch.arange(len(hidden), device=hidden.device), last]
            case Pooling.MAX:
                return hidden.masked_fill(real == 0, _MASKED).amax(dim=1)
            case Pooling.MEAN:
                return (hidden * real).sum(dim=1) / real.sum(dim=1)
            case Pooling.MEAN_SQRT_LEN:
                return (hidden * real).sum(dim=1) / real.sum(dim=1).sqrt()
            case Pooling.WEIGHTED_MEAN:
                weights = real.cumsum(dim=1) * real
                return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


class PackedTokens:
    """Rows one behind the other: `ids` integer [T], and where they lie.

    Tokens behind the last row belong to nobody, and rows of length 0 get results that mean
    nothing: both fill a batch up to the size of a captured graph.
    """

    def __init__(self, ids: Tensor, layout: RowLayout) -> None:
        starts = layout.starts
        self.ids = ids
        self.layout = layout
        at = torch.arange(len(ids), device=ids.device, dtype=starts.dtype)
        self._rows = len(starts) - 1
        # Tokens behind the last row count as one row more.
        self._row_of = torch.searchsorted(starts[1:], at, right=True, out_int32=True)
        self._first = starts[self._row_of.clamp(max=self._rows - 1)]  # token of the same row
        # Nobody's tokens need a position too, and one that exists: a bad one stops the device.
        self._last_position = layout.longest - 1
        self.positions = (at - self._first).clamp(max=self._last_position)

    def positions_past(self, padding_id: int) -> Tensor:
        """Positions as RoBERTa and its kin count them: from `padding_id` + 1.

        A padding id within a row is itself at `padding_id`, and is not counted.
        """
        counts = (self.ids != padding_id).to(self.positions.dtype)
        until = counts.cumsum(dim=0, dtype=counts.dtype)
        before = (until - counts)[self._first]
        return ((until - before) * counts).clamp(max=self._last_position + 1) + padding_id

    def pool(self, hidden: Tensor, mode: Pooling) -> Tensor:
        """`hidden` [1, T, h] to [R, h]."""
        hidden = hidden[0]
        starts = self.layout.starts
        match mode:
            case Pooling.CLS:
                return hidden[starts[:-1].clamp(max=len(hidden) - 1)]
            case Pooling.LAST:
                return hidden[(starts[1:] - 1).clamp(min=0)]
            case Pooling.MAX:
                out = hidden.new_full((self._rows + 1, hidden.shape[1]), _MASKED)
                rows = self._row_of.long()[:, None].expand_as(hidden)
                return out.scatter_reduce_(0, rows, hidden, "amax")[:-1]
            case Pooling.MEAN:
                return self._sums(hidden) / self._lengths()
            case Pooling.MEAN_SQRT_LEN:
                return self._sums(hidden) / self._lengths().sqrt()
            case Pooling.WEIGHTED_MEAN:
                lengths = self._lengths()
                weighted = hidden * (self.positions + 1).unsqueeze(-1)
                return self._sums(weighted) / (lengths * (lengths + 1) / 2)

    def _sums(self, hidden: Tensor) -> Tensor:
        out = hidden.new_zeros((self._rows + 1, hidden.shape[1]))
        return out.index_add_(0, self._row_of, hidden)[:-1]

    def _lengths(self) -> Tensor:
        starts = self.layout.starts
        return (starts[1:] - starts[:-1]).clamp(min=1).unsqueeze(-1)


Tokens = PaddedTokens | PackedTokens


def run_model(model: nn.Module, tokens: Tokens, first_position: int) -> Any:
    """A transformers encoder on either layout; its output has a last_hidden_state or logits.

    `first_position` is the number of a row's first token in the model's position table. Where it
    is not 0, the id before it is that of padding.
    """
    config: Any = model.config
    # Also decides whether transformers builds a mask, and of what kind: a family that never
    # runs packed may have an attention of its own, which takes no other. (The public setter
    # looks for kernels on a hub.)
    if isinstance(tokens, PaddedTokens):
        if config._attn_implementation == PACKED:  # noqa: SLF001
            config._attn_implementation = _PADDED  # noqa: SLF001
        return model(input_ids=tokens.ids, attention_mask=tokens.mask, return_dict=True)
    config._attn_implementation = PACKED  # noqa: SLF001
    ids = tokens.ids[None]
    positions = tokens.positions_past(first_position - 1) if first_position else tokens.positions
    types = {"token_type_ids": torch.zeros_like(ids)} if _has_types(config) else {}
    return model(
        input_ids=ids,
        position_ids=positions[None],
        layout=tokens.layout,
        return_dict=True,
        **types,
    )


def _has_types(config: Any) -> bool:
    return bool(getattr(config, "type_vocab_size", 0))


class Classifier(nn.Module):
    """Probabilities per label: they sum to 1, or are independent where a text may have several."""

    def __init__(
        self, classifier: nn.Module, width: int, independent: bool, first_position: int = 0
    ) -> None:
        super().__init__()
        self.width = width
        self._classifier = classifier
        self._independent = independent
        self._first_position = first_position
        self._packed: PackedTokens | None = None
        mean = getattr(classifier.config, "classifier_pooling", "cls") == "mean"
        self._pooling = Pooling.MEAN if mean else Pooling.CLS
        _body(classifier).register_forward_hook(self._one_token_a_row)

    def forward(self, tokens: Tokens) -> Tensor:
        logits = self.logits(tokens)
        return logits.sigmoid() if self._independent else logits.softmax(dim=-1)

    def logits(self, tokens: Tokens) -> Tensor:
        self._packed = tokens if isinstance(tokens, PackedTokens) else None
        output = run_model(self._classifier, tokens, self._first_position)
        logits: Tensor = output.logits.float()
        return logits

    def _one_token_a_row(self, _: nn.Module, __: object, output: Any) -> Any:
        """What the head pools from: packed, each row's own pooled vector as its only token."""
        if self._packed is not None:
            hidden: Tensor = output["last_hidden_state"]
            pooled = self._packed.pool(hidden.float(), self._pooling)
            output["last_hidden_state"] = pooled[:, None].to(hidden.dtype)
        return output


def _body(classifier: nn.Module) -> nn.Module:
    """The part of a classifier after which rows are no longer told apart by position."""
    base: Any = classifier.base_model
    for name in ("encoder", "transformer"):
        if hasattr(base, name):
            inner = getattr(base, name)
            assert isinstance(inner, nn.Module)
            return inner
    assert isinstance(base, nn.Module)
    return base


class Embedder(nn.Module):
    """One vector per text, pooled over its real tokens only.

    `head` takes the pooled vectors FP32 [b, hidden * modes] to [b, width].
    """

    def __init__(
        self,
        encoder: nn.Module,
        pooling: Sequence[Pooling],
        head: nn.Module,
        width: int,
        first_position: int = 0,
    ) -> None:
        super().__init__()
        self.width = width
        self._encoder = encoder
        self._pooling = tuple(pooling)
        self._head = head
        self._first_position = first_position

    def forward(self, tokens: Tokens) -> Tensor:
        output = run_model(self._encoder, tokens, self._first_position)
        hidden: Tensor = output.last_hidden_state.float()
        pooled = torch.cat([tokens.pool(hidden, mode) for mode in self._pooling], dim=-1)
        vectors: Tensor = self._head(pooled)
        return vectors


class TopicScorer(nn.Module):
    """Probabilities per label, from how near the text's vector is to each label's.

    `labels` [k, hidden] are the labels' own vectors. `scale` turns cosines, which differ by
    a few tenths at most, into logits.
    """

    def __init__(self, embedder: "Network", labels: Tensor, scale: float) -> None:
        super().__init__()
        self.width = labels.shape[0]
        self._embedder = embedder
        self._scale = scale
        self.register_buffer("_labels", functional.normalize(labels, dim=-1))

    def forward(self, tokens: Tokens) -> Tensor:
        texts = functional.normalize(self._embedder(tokens), dim=-1)
        labels = self.get_buffer("_labels")
        return (self._scale * texts @ labels.T).softmax(dim=-1)


class EqualLengths:
    """Pads no row: those of each length run by themselves. For a model that padding changes."""

    def __init__(self, network: "Network") -> None:
        self.width = network.width
        self._network = network

    def __call__(self, tokens: Tokens) -> Tensor:
        if isinstance(tokens, PackedTokens):
            return self._network(tokens)
        lengths = tokens.mask.sum(dim=1)
        out = torch.empty(len(lengths), self.width, device=lengths.device)
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1)
            alike = PaddedTokens(tokens.ids[rows, :length], tokens.mask[rows, :length])
            out[rows] = self._network(alike)
        return out


class Network(Protocol):
    """What a runner runs: any of the above."""

    width: int

    def __call__(self, tokens: Tokens, /) -> Tensor: ...
