"""The transformers half of loading: config.json and the weights.

Transformers fills weights that a checkpoint lacks with random numbers and only warns. Here
that is an error: a server that starts gives the checkpoint's own answers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging

from predictor.core.errors import StartupError
from predictor.runner import checkpoint_files as files
from predictor.runner.checkpoint import first_line

_SUCH_AS = "such as BERT, RoBERTa, DistilBERT, MPNet, DeBERTa or ModernBERT"
_ADAPTER = ".lora_"  # in the names of an adapter's weights


def silence_transformers() -> None:
    """Its warnings repeat what is an error here, and its progress bars garble a log."""
    untyped: Any = logging
    untyped.set_verbosity_error()
    untyped.disable_progress_bar()


def read_model_config(folder: Path) -> PreTrainedConfig:
    """The configuration of any model.

    Raises StartupError if there is none to read, or a key that would have to be applied and is not.
    """
    path = folder / "config.json"
    if not path.exists():
        raise StartupError(f"{folder} has no config.json; copy the whole checkpoint there again")
    files.check_files(folder)
    stated = files.read_keys(path, files.CONFIG, others=True)
    _check_family(path, stated)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # malformed values raise whatever they happen to break
        raise StartupError(f"{path} cannot be used: {first_line(error)}") from None
    return config


def _check_family(path: Path, stated: dict[str, Any]) -> None:
    family = stated.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        raise StartupError(
            f"{path} cannot be used: model_type is {family!r}, which transformers"
            f" {transformers.__version__} does not know; use a checkpoint of a known family"
        )
    if family not in files.READ_POSITION_EMBEDDING_TYPE:
        key = files.POSITION_EMBEDDING_TYPE
        files.check_key(path, key, stated.get(key), files.ABSOLUTE)


def read_encoder_config(folder: Path) -> PreTrainedConfig:
    config = read_model_config(folder)
    reason = files.REFUSED_FAMILIES.get(config.model_type)
    if reason:
        raise StartupError(
            f"the checkpoint in {folder} is a {config.model_type}, {reason}; use a text encoder"
            f" {_SUCH_AS}"
        )
    encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if not encoder or config.is_encoder_decoder:
        raise StartupError(
            f"the checkpoint in {folder} is a {config.model_type}, not a text encoder; use one"
            f" {_SUCH_AS}"
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
            ignore_mismatched_sizes=True,  # they are named below
        )
    except Exception as error:  # file formats, shapes and memory have no common base
        raise StartupError(
            f"the weights in {folder} cannot be loaded: {first_line(error)}; copy the whole"
            " checkpoint there again"
        ) from None
    mismatched = sorted(report["mismatched_keys"])
    if mismatched:
        name, stored, expected = mismatched[0]
        raise StartupError(
            f"the weights in {folder} cannot be loaded: {len(mismatched)} have another shape than"
            f" config.json says ({name} is {list(stored)}, not {list(expected)}); copy the whole"
            " checkpoint there again"
        )
    unmerged = sorted(key for key in report["unexpected_keys"] if _ADAPTER in key)
    if unmerged:
        raise StartupError(
            f"the weights in {folder} hold those of an adapter ({unmerged[0]}, …), which is not"
            " loaded here; merge it into the weights"
        )
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
        return float(table.weight.shape[0] - first_position(model))
    return stated_positions(model.config)


def stated_positions(config: PreTrainedConfig) -> float:
    """`max_position_embeddings`, by which sentence-transformers cuts; XLNet's -1 is no limit."""
    stated: int | None = getattr(config, "max_position_embeddings", None)
    return float("inf") if stated is None or stated == -1 else stated


def first_position(model: PreTrainedModel) -> int:
    """The number of a row's first token in the position table.

    RoBERTa and its kin keep the first positions for padding.
    """
    table = _position_table(model)
    padding: int | None = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def _position_table(model: PreTrainedModel) -> Any:
    """The module with a weight [positions, hidden], or None; I-BERT's is no nn.Embedding."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and _is_table(module):
            return module
    return None


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many ids the model has embeddings for. Raises StartupError if it has no table of them."""
    table: Any = model.get_input_embeddings()
    if not _is_table(table):
        raise StartupError(
            f"the checkpoint is a {model.config.model_type}, which has no table of embeddings for"
            f" token ids; use a text encoder {_SUCH_AS}"
        )
    return int(table.weight.shape[0])


def _is_table(module: object) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Module) and isinstance(weight, Tensor) and weight.dim() == 2
