"""Decoders of real size with random weights: speed does not need meaning.

python -m loadtest.bench_gpu.decoder_checkpoints FOLDER SHAPE
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench.errors import BenchError

LIMIT_S = 120.0

# The shape of a Llama of 1.2 B weights, of Qwen3-0.6B, and one for a rehearsal without a GPU.
SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama-1.2b": (
        "LlamaConfig",
        {
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 32_000,
        },
    ),
    "qwen3-0.6b": (
        "Qwen3Config",
        {
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151_936,
        },
    ),
    "tiny": (
        "LlamaConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 1000,
        },
    ),
}
CONTEXT = 4096


def write_decoder_apart(folder: Path, shape: str) -> Path:
    """In a process of its own, whose memory is gone after. Raises BenchError."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench_gpu.decoder_checkpoints", str(folder), shape],
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(done.stderr.decode(errors="replace").strip()[-2000:])
    return folder


def write_decoder(folder: Path, shape: str, seed: int = 0) -> None:
    """bfloat16, drawn where it is quickest."""
    import torch
    import transformers

    family, config = SHAPES[shape]
    made = getattr(transformers, family)(
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
        **config,
    )
    auto: Any = transformers.AutoModelForCausalLM
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    with torch.device(device):
        model = auto.from_config(made, dtype=torch.bfloat16)
    model.to("cpu").save_pretrained(folder)
    write_tokenizer(folder, made.vocab_size)


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A word for each id."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<s>", "</s>", *(f"w{index}" for index in range(3, vocabulary))]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "unk_token": words[0],
        "bos_token": words[1],
        "eos_token": words[2],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


if __name__ == "__main__":
    write_decoder(Path(sys.argv[1]), sys.argv[2])
