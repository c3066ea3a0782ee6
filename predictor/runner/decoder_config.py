"""What config.json asks of a decoder: applied, known to change nothing, or refused by its name.

The four families differ in little: biases, norms of queries and keys, sliding windows. Keys that
none of them has may change the model (a soft cap of logits, a factor on residuals), and
transformers' classes read past them, so its forward would not show it either. A key that is
neither applied nor known to be harmless is therefore refused, unless it is switched off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from predictor.core.errors import StartupError
from predictor.runner.checkpoint import read_config
from predictor.runner.weights import read_model_config

SUPPORTED = "Llama, Mistral, Qwen2 and Qwen3"

_COMMON = frozenset(
    {
        *("model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size"),
        *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
        *("hidden_act", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"),
        *("rope_theta", "rope_scaling", "rope_parameters", "layer_types"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"),
    }
)
_WINDOWS_OF_QWEN = frozenset({"use_sliding_window", "sliding_window", "max_window_layers"})
_APPLIED: Mapping[str, frozenset[str]] = {
    "llama": _COMMON | {"attention_bias", "mlp_bias"},
    "mistral": _COMMON | {"sliding_window"},
    "qwen2": _COMMON | _WINDOWS_OF_QWEN,
    "qwen3": _COMMON | _WINDOWS_OF_QWEN | {"attention_bias"},
}
# Of training, of tools, of `generate`, and of how a checkpoint was made or is written.
_HARMLESS = frozenset(
    {
        *("attention_dropout", "hidden_dropout", "initializer_range", "pretraining_tp"),
        *("use_cache", "dtype", "torch_dtype", "transformers_version", "transformers.js_config"),
        *("id2label", "label2id", "task_specific_params", "tokenizer_class", "problem_type"),
        *("return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward"),
        *("name_or_path", "attn_implementation", "is_llama_config", "finetuning_task"),
        *("max_length", "do_sample", "temperature", "top_k", "top_p", "num_beams", "min_length"),
        *("typical_p", "repetition_penalty", "length_penalty", "early_stopping"),
        *("num_return_sequences", "diversity_penalty", "num_beam_groups", "max_sequence_length"),
        *("is_decoder", "sep_token_id", "cls_token_id", "mask_token_id", "prefix", "model_name"),
    }
)
_HARMLESS_BEGINNINGS = ("_", "unsloth")
_ADVICE_OF: Mapping[str, str] = {
    "quantization_config": "quantised weights are not supported; use the checkpoint that they were"
    " made from",
    "auto_map": "it brings code of its own, which is not run; use a checkpoint without",
}
# The scalings whose frequencies do not depend on how long a row is. `dynamic` changes them only
# beyond max_position_embeddings, where no row gets to.
_ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")
_ROPE_KEYS = frozenset(
    {
        *("rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor"),
        *("original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"),
        *("mscale", "mscale_all_dim", "truncate"),
    }
)
_SWITCHED_OFF: tuple[object, ...] = (None, False, [], {}, "")


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The sizes of a decoder. `windows`: how far back each layer sees, itself included; 0: all."""

    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int  # positions that its rotations are meant for
    epsilon: float
    windows: tuple[int, ...]

    @property
    def layers(self) -> int:
        return len(self.windows)


def read_decoder_config(folder: Path) -> tuple[PreTrainedConfig, DecoderShape]:
    """config.json as transformers reads it, and what our forward makes of it.

    Raises StartupError, naming the key, where that would not be all that it asks for.
    """
    path = folder / "config.json"
    config = read_model_config(folder)
    stated = read_config(path, dict[str, Any])
    _check_family(path, config, stated)
    for key, value in stated.items():
        if not _known(config.model_type, key) and value not in _SWITCHED_OFF:
            advice = _ADVICE_OF.get(
                key, f"{SUPPORTED} models have no such key, and what it changes is not known here"
            )
            raise StartupError(f"{path}: {key} is not supported: {advice}")
    if config.hidden_act not in ("silu", "swish"):
        raise StartupError(f"{path}: hidden_act {config.hidden_act!r} is not supported, only silu")
    _check_rope(path, config)
    return config, _shape(path, config)


def _known(family: str, key: str) -> bool:
    return key in _APPLIED[family] or key in _HARMLESS or key.startswith(_HARMLESS_BEGINNINGS)


def _check_family(path: Path, config: PreTrainedConfig, stated: Mapping[str, Any]) -> None:
    if config.model_type not in _APPLIED:
        raise StartupError(
            f"{path}: model_type {config.model_type!r} is not supported for text generation; use"
            f" a checkpoint of the {SUPPORTED} families"
        )
    for name in stated.get("architectures") or ():
        if str(name).lower() != f"{config.model_type}forcausallm":
            raise StartupError(
                f"{path}: architectures names {name!r}, which is no {config.model_type} that"
                " generates text; use a checkpoint whose architecture ends in ForCausalLM"
            )


def _check_rope(path: Path, config: PreTrainedConfig) -> None:
    rope: Mapping[str, Any] = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind not in _ROPE_TYPES:
        raise StartupError(
            f"{path}: rope scaling {kind!r} is not supported, only {', '.join(_ROPE_TYPES)}"
        )
    for key, value in rope.items():
        off = value in _SWITCHED_OFF or (key == "partial_rotary_factor" and value == 1.0)
        if key not in _ROPE_KEYS and not off:
            raise StartupError(f"{path}: {key} of the rope scaling is not supported")
    if getattr(config, "partial_rotary_factor", None) not in (None, 1.0):
        raise StartupError(f"{path}: partial_rotary_factor is not supported")


def _shape(path: Path, config: PreTrainedConfig) -> DecoderShape:
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if kv_heads < 1 or heads % kv_heads:
        raise StartupError(
            f"{path}: num_attention_heads is {heads}, no multiple of num_key_value_heads {kv_heads}"
        )
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    if head_size % 2:
        raise StartupError(f"{path}: head_dim is {head_size}; positions rotate pairs, so even")
    return DecoderShape(
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=config.vocab_size,
        context=_context(config),
        epsilon=config.rms_norm_eps,
        windows=_windows(path, config),
    )


def _context(config: PreTrainedConfig) -> int:
    """YaRN's frequencies are for `factor` times the original length, whatever else is stated."""
    stated = int(config.max_position_embeddings)
    rope: Mapping[str, Any] = config.rope_parameters
    original = rope.get("original_max_position_embeddings")
    if rope.get("rope_type") == "yarn" and original and rope.get("factor"):
        return max(stated, int(original * rope["factor"]))
    return stated


def _windows(path: Path, config: PreTrainedConfig) -> tuple[int, ...]:
    layers = config.num_hidden_layers
    window = getattr(config, "sliding_window", None) or 0
    everywhere = "sliding_attention" if config.model_type == "mistral" and window else None
    kinds = getattr(config, "layer_types", None) or [everywhere or "full_attention"] * layers
    if len(kinds) != layers:
        raise StartupError(f"{path}: layer_types has {len(kinds)} entries for {layers} layers")
    for kind in kinds:
        applied = kind == everywhere if everywhere else kind == "full_attention"
        of_qwen = config.model_type.startswith("qwen") and kind == "sliding_attention"
        if not applied and not (of_qwen and window):
            raise StartupError(
                f"{path}: layer_types with {kind!r} is not supported for {config.model_type}"
                f" with a sliding_window of {window or None}"
            )
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
