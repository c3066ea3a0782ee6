"""What generation_config.json asks: which tokens end a text, and how one is sampled by default.

As for config.json, a key is applied, known to change nothing here, or refused by its name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from predictor.core.errors import StartupError
from predictor.core.generation import GREEDY
from predictor.runner.checkpoint import read_config

# The names in the file, what `Sampling` calls them, and the values that make sense.
_DEFAULTS: Mapping[str, tuple[str, float, float]] = {
    "temperature": ("temperature", GREEDY, math.inf),
    "top_p": ("top_p", 0.0, 1.0),
    "top_k": ("top_k", 0, math.inf),
    "min_p": ("min_p", 0.0, 1.0),
    "repetition_penalty": ("repetition_penalty", 1e-6, math.inf),
    "max_new_tokens": ("max_tokens", 1, math.inf),
    "min_new_tokens": ("min_tokens", 0, math.inf),
}
_HARMLESS = frozenset(
    {
        *("bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "transformers_version"),
        *("max_length", "use_cache", "output_attentions", "output_hidden_states", "chat_format"),
        *("output_scores", "output_logits", "return_dict_in_generate", "num_return_sequences"),
        *("cache_implementation", "cache_config", "disable_compile", "trust_remote_code"),
        *("early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty"),
        *("decoder_start_token_id", "max_time", "prompt_lookup_num_tokens", "assistant_token_id"),
        *("max_window_size", "is_assistant", "num_assistant_tokens", "assistant_lookbehind"),
        *("num_assistant_tokens_schedule", "assistant_confidence_threshold", "target_lookbehind"),
    }
)
# What `generate` takes for switched off, where that is neither null, false, 0 nor empty.
_NEUTRAL: Mapping[str, tuple[float, ...]] = {
    "num_beams": (1,),
    "typical_p": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "guidance_scale": (1.0,),
    "dola_layers": (),
}


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """`sampling`: values of `Sampling`'s fields where a client does not say."""

    end_ids: tuple[int, ...]
    sampling: Mapping[str, float]


def read_generation_config(folder: Path, config: PreTrainedConfig) -> GenerationDefaults:
    """Of a checkpoint; where it has no such file, config.json names the tokens that end a text.

    Raises StartupError, naming the key, where the file asks for what is not done.
    """
    path = folder / "generation_config.json"
    stated = read_config(path, dict[str, Any]) if path.exists() else {}
    for key, value in stated.items():
        _check_key(path, key, value)
    sampling = {
        name: _number(path, key, stated[key], least, most)
        for key, (name, least, most) in _DEFAULTS.items()
        if stated.get(key) is not None
    }
    if stated.get("do_sample") is False:
        sampling["temperature"] = GREEDY
    ends = stated.get("eos_token_id")
    if ends is None:
        ends = config.eos_token_id
    return GenerationDefaults(_end_ids(path, ends, config.vocab_size), sampling)


def _check_key(path: Path, key: str, value: Any) -> None:
    if key in _DEFAULTS or key in _HARMLESS or key.startswith("_"):
        return
    if not value or value in _NEUTRAL.get(key, ()):
        return
    raise StartupError(
        f"{path}: {key} is not supported; take it out of the file to have texts generated without"
    )


def _number(path: Path, key: str, value: Any, least: float, most: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (math.isfinite(value) and least <= value <= most):
        raise StartupError(f"{path}: {key} is {value!r}; it must be a number from {least:g} up")
    return float(value)


def _end_ids(path: Path, ends: Any, vocabulary: int) -> tuple[int, ...]:
    listed = [] if ends is None else ends if isinstance(ends, list) else [ends]
    for end in listed:
        if not isinstance(end, int) or not 0 <= end < vocabulary:
            raise StartupError(f"{path}: eos_token_id {end!r} is no id from 0 to {vocabulary - 1}")
    return tuple(dict.fromkeys(listed))
