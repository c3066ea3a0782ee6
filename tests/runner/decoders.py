"""Tiny decoders with random weights, written the way Hugging Face tools write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from predictor.core.model import ModelSettings, Task
from predictor.runner.generator import Generator
from predictor.runner.loading import load_model

if TYPE_CHECKING:
    from predictor.runner.fused_generator import FusedGenerator

VOCABULARY = 97
CONTEXT = 160
END_ID = 2
CONFIGS: Mapping[str, type[PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
# What the families have that others lack, and shapes that differ: groups of 1 to 8 query heads to
# a key head, heads that are not hidden ÷ heads wide, heads tied to the embedding or not.
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, one key head for 8": ("llama", {"num_attention_heads": 8, "num_key_value_heads": 1}),
    "llama, no groups, tied": (
        "llama",
        {"num_key_value_heads": 4, "tie_word_embeddings": True},
    ),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 10}),
    "llama 3's positions": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "llama, linear positions": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "llama, dynamic positions": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "qwen2, yarn": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 40,
            }
        },
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, a window": ("mistral", {"sliding_window": 12, "head_dim": 12}),
    "qwen2": ("qwen2", {}),
    "qwen2, windows in some layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3, layer types": (
        "qwen3",
        {
            "head_dim": 8,
            "use_sliding_window": True,
            "sliding_window": 17,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "tie_word_embeddings": True,
        },
    ),
}


def write_variant(folder: Path, name: str, **options: Any) -> Path:
    """A checkpoint of one of VARIANTS. `options` are of `save_pretrained`."""
    family, config = VARIANTS[name]
    return write_decoder(folder, family, config, **options)


def write_decoder(
    folder: Path,
    family: str,
    config: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **options: Any,
) -> Path:
    """Weights so large that the likeliest token is clearly so, always the same ones."""
    made = CONFIGS[family](
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "bos_token_id": 1,
            "eos_token_id": END_ID,
            "tie_word_embeddings": False,
            **(config or {}),
        }
    )
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(made)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            noise = torch.empty_like(weights).normal_(generator=random)
            if weights.dim() > 1:
                # Next to large embeddings, what the layers add would not count.
                scale = 0.3 if "embed" in name else 2.0 / weights.shape[1] ** 0.5
                weights.copy_(scale * noise)
            else:  # norms begin with ones, biases with zeros
                weights.add_(0.2 * noise)
    model.to(dtype).save_pretrained(folder, **options)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, **options: Any) -> None:
    words = ("<unk>", "<s>", "</s>", *(f"word{index}" for index in range(VOCABULARY - 3)))
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    special = dict(zip(("unk_token", "bos_token", "eos_token"), words, strict=False))
    fast(tokenizer_object=tokenizer, **special, **options).save_pretrained(folder)


def edit_json(folder: Path, file: str, **values: object) -> Path:
    """Set keys of a JSON file, which is made where it is not there."""
    path = folder / file
    stated = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(stated | values))
    return folder


def load_decoder(folder: Path | None = None, **settings: Any) -> Generator:
    """A checkpoint, or the default model, on the CPU."""
    runner = _load(folder, device="cpu", **settings)
    assert isinstance(runner, Generator)
    return runner


def load_fused(folder: Path | None = None, **settings: Any) -> "FusedGenerator":
    """The same on a GPU."""
    from predictor.runner.fused_generator import FusedGenerator  # Triton is where there is a GPU

    runner = _load(folder, device="cuda", **settings)
    assert isinstance(runner, FusedGenerator)
    return runner


def _load(folder: Path | None, **settings: Any) -> object:
    named = {"kv_cache_gib": 0.25, "model_dir": str(folder or ""), **settings}
    return load_model(ModelSettings(name="m", task=Task.TEXT_GENERATION, **named))


class Reference:
    """transformers' own model and `generate`, in float32 on the CPU."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.generation_config.eos_token_id = None

    def greedy(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """What it generates after `prompt`, end tokens or not."""
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
            )
        generated: list[int] = out[0, len(prompt) :].tolist()
        return generated
