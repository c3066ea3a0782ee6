"""One product for queries, keys and values gives what three give."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel

from predictor.runner.joining import join_projections
from tests.runner.checkpoints import VOCABULARY, Family, write_encoder

TOLERANCE = 1e-6  # FP32: the sums are the same, the order in which a CPU adds may not be


def encoder(folder: Path) -> PreTrainedModel:
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    assert isinstance(model, PreTrainedModel)
    model.train(False)
    return model


@pytest.mark.parametrize("family", list(Family))
def test_a_joined_model_answers_as_before(family: Family, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, family)
    apart, joined = encoder(folder), encoder(folder)
    count = join_projections(joined)
    assert count == (0 if family is Family.MODERNBERT else joined.config.num_hidden_layers)
    ids = torch.randint(4, VOCABULARY, (3, 17), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    with torch.inference_mode():
        for _ in range(2):
            expected = apart(input_ids=ids, attention_mask=mask).last_hidden_state
            seen = joined(input_ids=ids, attention_mask=mask).last_hidden_state
            assert torch.allclose(seen, expected, atol=TOLERANCE)


@pytest.mark.parametrize("family", [Family.BERT, Family.DISTILBERT])
def test_weights_move_and_are_not_kept_twice(family: Family, tmp_path: Path) -> None:
    model = encoder(write_encoder(tmp_path, family))
    before = sum(parameter.numel() for parameter in model.parameters())
    join_projections(model)
    assert sum(parameter.numel() for parameter in model.parameters()) == before


class Attention(nn.Module):
    def __init__(self, key_from: int = 4, value_bias: bool = True) -> None:
        super().__init__()
        self.query = nn.Linear(4, 4)
        self.key = nn.Linear(key_from, 4)
        self.value = nn.Linear(4, 2, bias=value_bias)


def test_parts_may_be_asked_for_in_any_order_and_of_anything() -> None:
    joined, apart = Attention(), Attention()
    apart.load_state_dict(joined.state_dict())
    assert join_projections(joined) == 1
    one, other = torch.randn(2, 3, 4)
    asked = [("value", one), ("query", other), ("value", other), ("key", other), ("key", one)]
    for name, hidden in [*asked, *asked]:
        seen = getattr(joined, name)(hidden)
        assert torch.allclose(seen, getattr(apart, name)(hidden), atol=TOLERANCE)


@pytest.mark.parametrize("attention", [Attention(key_from=8), Attention(value_bias=False)])
def test_what_does_not_fit_together_stays_apart(attention: nn.Module) -> None:
    assert join_projections(attention) == 0
