"""Checkpoints of real size with random weights, made at the start: speed does not need meaning.

python -m loadtest.bench_gpu.checkpoints FOLDER [--tiny]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.bench.requests import WORDS

LABELS = 8
VOCABULARY_SIZE = 30_522
POSITIONS = 512
LIMIT_S = 120.0
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_bert_apart(folder: Path, *, tiny: bool) -> None:
    """`write_bert` in a process of its own, whose memory is gone after. Raises BenchError."""
    arguments = [str(folder), *(["--tiny"] if tiny else [])]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench_gpu.checkpoints", *arguments],
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(done.stderr.decode(errors="replace").strip()[-2000:])


def write_bert(folder: Path, *, tiny: bool = False, seed: int = 0) -> Path:
    """A classifier with the configuration of bert-base-uncased: 110 M weights, 440 MB.

    `tiny` keeps vocabulary, positions and labels, and shrinks the layers.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCABULARY_SIZE,
        max_position_embeddings=POSITIONS,
        id2label={index: f"class {index}" for index in range(LABELS)},
        label2id={f"class {index}": index for index in range(LABELS)},
        hidden_size=32 if tiny else 768,
        num_hidden_layers=2 if tiny else 12,
        num_attention_heads=2 if tiny else 12,
        intermediate_size=64 if tiny else 3072,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertForSequenceClassification(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer of the benchmark's words, one token each, and BERT's own frame."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = (*_SPECIAL, *WORDS)
    # The table is filled up, so that it is as large as the model says.
    filler = (f"##{index}" for index in range(len(words), VOCABULARY_SIZE))
    vocabulary = {word: index for index, word in enumerate((*words, *filler))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench_gpu.checkpoints")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    write_bert(options.folder, tiny=options.tiny)
