"""What the files of a checkpoint may say: the closed list.

Each key that changes answers is applied, or refused by its name: a key that is skipped gives wrong
answers without a word. The tables follow the sources of transformers 5 and sentence-transformers 6.

Two files are open-ended, `config.json` and `tokenizer_config.json`: transformers reads what its
classes know. For them the tables hold what its classes read no more, or read and we do not. Files
that neither library opens (README.md, onnx/, openvino/, the states of a trainer) change nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from predictor.core.errors import StartupError
from predictor.runner.checkpoint import read_config

_SHOWN = 80  # characters of a value in a sentence


class Use(Enum):
    """What is done with a key of any value."""

    APPLIED = "applied"
    HARMLESS = "harmless"  # no answer depends on it


APPLIED, HARMLESS = Use.APPLIED, Use.HARMLESS


@dataclass(frozen=True, slots=True)
class Only:
    """A key that may have these values; `advice` says what to do about another."""

    values: tuple[object, ...]
    advice: str


Keys = Mapping[str, Use | Only]

_ANOTHER = "use a checkpoint without it"
_UNSET: tuple[object, ...] = (None, False, "", {}, [])


def _unset(advice: str = _ANOTHER) -> Only:
    return Only(_UNSET, advice)


_NO_CODE = _unset(
    "code that comes with a checkpoint is not run here; use a checkpoint of a family that"
    " transformers knows"
)
_QUANTISED = "quantised weights are not loaded here; use the plain weights"
_UNMERGED = "an adapter is not loaded here; merge it into the weights"

# config.json. Open: transformers' class of the family reads the rest. What CrossEncoder reads
# (sentence_transformers, sbert_ce_default_activation_function) is no part of a classifier's answer.
CONFIG: Keys = {
    "adapters": _unset(_UNMERGED),
    "auto_map": _NO_CODE,
    "pruned_heads": _unset("transformers prunes no heads any more; " + _ANOTHER),
    "quantization_config": _unset(_QUANTISED),
}
# BERT's relative positions, which transformers 5 still has in this family alone.
POSITION_EMBEDDING_TYPE = "position_embedding_type"
READ_POSITION_EMBEDDING_TYPE = ("esm",)
ABSOLUTE = Only(
    (None, "absolute"), "transformers 5 has absolute positions only in this family; " + _ANOTHER
)

# Families that transformers lists with text encoders, and why they are not served.
_TEXT_ALONE = "which takes more than text"
REFUSED_FAMILIES: Mapping[str, str] = {
    **dict.fromkeys(("modernvbert", "neomme", "tapas", "ultravbert"), _TEXT_ALONE),
    **dict.fromkeys(("flaubert", "xlm"), "which reads token types as words"),
    "perceiver": "which has no table of embeddings for token ids",
}

# tokenizer_config.json. Open: transformers' class of the tokenizer reads the rest.
TOKENIZER_CONFIG: Keys = {
    "auto_map": _NO_CODE,
    "split_special_tokens": _unset("special tokens are always taken whole here; remove the key"),
    "truncation_side": Only((None, "right"), "texts are cut on the right here; set it to right"),
}

SENTENCE_TRANSFORMERS: Keys = {
    "__version__": HARMLESS,
    "default_prompt_name": APPLIED,
    "model_type": Only(
        (None, "SentenceTransformer"), "one vector a text is made here; use a SentenceTransformer"
    ),
    "prompts": APPLIED,
    "requirements": _unset(
        "versions of packages are not checked here; see that they are met and remove the key"
    ),
    "similarity_fn_name": HARMLESS,  # vectors are compared by the client
    "truncate_dim": APPLIED,
}

# sentence_bert_config.json and its siblings, in the order in which sentence-transformers looks.
TRANSFORMER_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_ARGUMENTS = _unset("arguments for loading are not applied here; remove the key if it may go")
_TASKS = _unset("texts are all encoded alike here, not as queries or documents; " + _ANOTHER)
_LAST_HIDDEN_STATE = {"method": "forward", "method_output_name": "last_hidden_state"}
TRANSFORMER: Keys = {
    "config_args": _ARGUMENTS,
    "config_kwargs": _ARGUMENTS,
    "do_lower_case": APPLIED,
    "document_length": _TASKS,
    "max_seq_length": APPLIED,
    "modality_config": Only(
        (None, {"text": _LAST_HIDDEN_STATE}), "only the last hidden state of texts is pooled here"
    ),
    "model_args": _ARGUMENTS,
    "model_kwargs": _ARGUMENTS,
    "module_output_name": Only((None, "token_embeddings"), _ANOTHER),
    "processing_kwargs": _ARGUMENTS,
    "processor_kwargs": _ARGUMENTS,
    "query_expansion": _TASKS,
    "query_length": _TASKS,
    "tokenizer_args": _ARGUMENTS,
    "tokenizer_name_or_path": _unset("put the tokenizer into the folder and remove the key"),
    "transformer_task": Only((None, "feature-extraction"), "use one saved for feature extraction"),
    "unpad_inputs": HARMLESS,
}

_OF_SENTENCES = Only((None, "sentence_embedding"), "only the pooled vector is worked on here")
POOLING: Keys = {
    "embedding_dimension": HARMLESS,  # the model's own
    "include_prompt": APPLIED,
    "pooling_mode": APPLIED,
    "pooling_mode_cls_token": APPLIED,
    "pooling_mode_lasttoken": APPLIED,
    "pooling_mode_max_tokens": APPLIED,
    "pooling_mode_mean_sqrt_len_tokens": APPLIED,
    "pooling_mode_mean_tokens": APPLIED,
    "pooling_mode_weightedmean_tokens": APPLIED,
    "word_embedding_dimension": HARMLESS,
}
DENSE: Keys = {
    "activation_function": APPLIED,
    "bias": APPLIED,
    "in_features": APPLIED,
    "module_input_name": _OF_SENTENCES,
    "module_output_name": _OF_SENTENCES,
    "out_features": APPLIED,
    "use_residual": APPLIED,
}
LAYER_NORM: Keys = {"dimension": APPLIED}
NORMALIZE: Keys = {"module_input_name": _OF_SENTENCES, "module_output_name": _OF_SENTENCES}

# preprocessor_config.json of speech models.
_COMMON_EXTRACTOR: Keys = {
    "auto_map": _NO_CODE,
    "feature_extractor_type": APPLIED,
    "padding_side": HARMLESS,  # padding changes no answer here, on whichever side it was
    "padding_value": HARMLESS,
    "processor_class": Only(
        (None, "Wav2Vec2Processor", "Wav2Vec2BertProcessor"),
        "no language model takes part in decoding here; name the plain processor to go without",
    ),
    "return_attention_mask": HARMLESS,
    "sampling_rate": APPLIED,
}
WAVE_EXTRACTOR: Keys = {
    **_COMMON_EXTRACTOR,
    "do_normalize": APPLIED,
    "feature_size": Only((1,), "these models hear one channel; set it to 1"),
}
FEATURE_EXTRACTOR: Keys = {
    **_COMMON_EXTRACTOR,
    "feature_size": APPLIED,
    "num_mel_bins": APPLIED,
    "stride": Only((2,), "frames go in pairs here; use a checkpoint with a stride of 2"),
}

# tokenizer_config.json of speech models. Open: the rest is applied as Wav2Vec2CTCTokenizer does it,
# or is about encoding text.
CTC_TOKENIZER_CONFIG: Keys = {
    "auto_map": _NO_CODE,
    "target_lang": _unset("adapters per language are not loaded here; " + _ANOTHER),
}

# Files that change what a model answers, and are not read here.
_FILES = {
    **dict.fromkeys(
        ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"), _UNMERGED
    ),
    **dict.fromkeys(
        ("hf_quant_config.json", "quantize_config.json", "quant_config.json"), _QUANTISED
    ),
}
# The same, of speech models.
SPEECH_FILES = dict.fromkeys(
    ("alphabet.json", "language_model"),
    "no language model takes part in decoding here; remove it to go without",
)


def check_files(folder: Path, refused: Mapping[str, str] = _FILES) -> None:
    """Raises StartupError, naming the file, if one would have to be applied and is not here."""
    for name, advice in refused.items():
        if (folder / name).exists():
            raise StartupError(f"{folder / name}: {advice}")


def read_keys(path: Path, keys: Keys, *, others: bool = False) -> dict[str, Any]:
    """A JSON object, all of whose keys may be applied; `others`: besides those in the table.

    Raises StartupError, naming file and key, or if the file is missing or malformed.
    """
    values = read_config(path, dict[str, Any])
    for key, value in values.items():
        use = keys.get(key)
        if use is None and not others:
            raise StartupError(
                f"{path} has the key {key!r}, which is not known here and may change answers;"
                " remove it if it does not, or use another checkpoint"
            )
        if isinstance(use, Only):
            check_key(path, key, value, use)
    return values


def check_key(path: Path, key: str, value: object, only: Only) -> None:
    """Raises StartupError if the key has another value than it may."""
    # By type too: 0 is no False, 1 is no True.
    if not any(value == each and type(value) is type(each) for each in only.values):
        raise StartupError(f"{path}: {key} is {str(value)[:_SHOWN]!r}; {only.advice}")
