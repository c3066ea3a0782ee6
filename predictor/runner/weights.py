"""The transformers half of loading: config.json and the weights.

Transformers fills weights that a checkpoint lacks with random numbers and only warns. Here
that is an error: a server that starts gives the checkpoint's own answers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging

from predictor.core.errors import StartupError
from predictor.runner.checkpoint import first_line


def silence_transformers() -> None:
    """Its warnings repeat what is an error here, and its progress bars garble a log."""
    untyped: Any = logging
    untyped.set_verbosity_error()
    untyped.disable_progress_bar()


def read_model_config(folder: Path) -> PreTrainedConfig:
    """The configuration of any model. Raises StartupError if there is none to read."""
    if not (folder / "config.json").exists():
        raise StartupError(f"{folder} has no config.json; copy the whole checkpoint there again")
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # malformed values raise whatever they happen to break
        raise StartupError(
            f"{folder / 'config.json'} cannot be used: {first_line(error)}"
        ) from None
    return config


def read_encoder_config(folder: Path) -> PreTrainedConfig:
    config = read_model_config(folder)
    encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if not encoder or config.is_encoder_decoder:
        raise StartupError(
            f"the checkpoint in {folder} is a {config.model_type}, not a text encoder; use one"
            " such as BERT, RoBERTa, DistilBERT, MPNet, DeBERTa or ModernBERT"
        )
    return config


def load_weights(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype, *, classify: bool
) -> PreTrainedModel:
    auto = AutoModelForSequenceClassification if classify else AutoModel
    # A sentence's vector is pooled from the tokens; the pooler that BERT adds is not used.
    return load_complete(
        auto,
        folder,
        config,
        dtype,
        unused="" if classify else "pooler",
        advice="use one fine-tuned for sequence classification" if classify else "use another",
    )


def load_complete(
    auto: Any,
    folder: Path,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    *,
    unused: str,
    advice: str,
    surplus: Callable[[Path, Sequence[str]], None] | None = None,
) -> PreTrainedModel:
    """A model of the class `auto`, with all its weights but those with `unused` in their names.

    Raises StartupError; `advice` says which checkpoint to use where weights are missing. `surplus`
    is called with the folder and the names of the weights in it that the model has no place for.
    """
    try:
        model, report = auto.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # file formats, shapes and memory have no common base
        raise StartupError(
            f"the weights in {folder} cannot be loaded: {first_line(error)}; copy the whole"
            " checkpoint there again"
        ) from None
    missing = sorted(key for key in report["missing_keys"] if not unused or unused not in key)
    if missing:
        raise StartupError(
            f"the checkpoint in {folder} lacks {len(missing)} weights that"
            f" {type(model).__name__} needs ({missing[0]}, …); {advice}"
        )
    if surplus is not None:
        surplus(folder, report["unexpected_keys"])
    assert isinstance(model, PreTrainedModel)
    return model


def positions(model: PreTrainedModel) -> float:
    """How many tokens the model has positions for."""
    table = _position_table(model)
    if table is not None:
        return table.num_embeddings - first_position(model)
    stated: float | None = getattr(model.config, "max_position_embeddings", None)
    return stated or float("inf")


def first_position(model: PreTrainedModel) -> int:
    """The number of a row's first token in the position table.

    RoBERTa and its kin keep the first positions for padding.
    """
    table = _position_table(model)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def _position_table(model: PreTrainedModel) -> nn.Embedding | None:
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding):
            return table
    return None


def vocabulary_size(model: PreTrainedModel) -> int:
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    return table.num_embeddings
